"""Packed arrays where they are: on the host for real, on a GPU with the CPU passing for one.

What only a real GPU can show is in tests/gpu.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fake_gpu import CudaArray, DlpackArray, FakeGpu, TorchArray, view_of
from test_fork import in_child

import vlt
from vlt import _dlpack, _native
from vlt.device_array import DeviceArray
from vlt.handles import MOST_PENDING, DeviceMemory

Array = npt.NDArray[Any]

IDS = np.array([2, 60, 61, 3, 2, 3, 2, 70, 3], np.int32)
STARTS = np.array([0, 4, 6, 9], np.int32)
TYPES = np.array([0, 0, 1, 1, 0, 0, 0, 0, 1], np.int32)
SKIPPED = np.array([1, 0, 2], np.int32)
BAD_IDS = np.full(9, 10**6, np.int32)
STREAM = 0x5EED0

KINDS = pytest.mark.parametrize("on_gpu", [CudaArray, DlpackArray, TorchArray])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return FakeGpu(monkeypatch)


@pytest.fixture
def encoder(gpu: FakeGpu, tiny_weights: Path) -> Iterator[vlt.Encoder]:
    """One on the fake GPU, with a single session."""
    with vlt.Encoder(tiny_weights, "cuda", num_threads=1) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def states(tiny_weights: Path) -> Array:
    """[9, 32]: what every run of IDS must give."""
    with vlt.Encoder(tiny_weights, "cpu") as encoder:
        values: Array = encoder.run(vlt.PackedIds(IDS, STARTS)).values
        return values


# ---- Without a GPU -------------------------------------------------------------------------------


def test_why_there_is_no_gpu(tiny_weights: Path) -> None:
    words = "this build of vlt has no CUDA"
    if vlt.build_info()["cuda_architectures"]:
        try:
            ctypes.CDLL("libcuda.so.1")
            pytest.skip("this machine has a driver")
        except OSError:
            words = "no NVIDIA driver"
    with pytest.raises(vlt.UnsupportedError, match=f"cuda:0.*{words}.*cpu"):
        vlt.Encoder(tiny_weights, device="cuda")


def test_host_arrays(tiny_encoder: vlt.Encoder, states: Array) -> None:
    found = tiny_encoder.run_packed(IDS, STARTS)
    assert isinstance(found, np.ndarray)
    assert found.tobytes() == states.tobytes()
    packed = vlt.PackedIds(IDS, STARTS)
    found = tiny_encoder.run_packed(
        IDS, STARTS, token_types=TYPES, pooling_starts=SKIPPED, output="embedding"
    )
    types = vlt.PackedIds(TYPES, STARTS)
    expected = tiny_encoder.run(
        packed, token_types=types, pooling_starts=SKIPPED, output="embedding"
    )
    assert found.tobytes() == expected.tobytes()
    out = np.full_like(states, np.nan)
    assert tiny_encoder.run_packed(IDS, STARTS, out=out) is out
    assert out.tobytes() == states.tobytes()


def test_no_tokens_and_no_sequences(tiny_encoder: vlt.Encoder) -> None:
    nothing = np.empty(0, np.int32)
    for starts in (np.zeros(1, np.int32), np.zeros(3, np.int32)):
        assert tiny_encoder.run_packed(nothing, starts).shape == (0, 32)
        embeddings = tiny_encoder.run_packed(nothing, starts, output="embedding")
        assert embeddings.shape == (len(starts) - 1, 32)
        assert not embeddings.any()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"token_ids": IDS.astype(np.int64)}, TypeError, r"token_ids.*int32, not int64.*torch"),
        ({"sequence_starts": STARTS.astype(float)}, TypeError, "sequence_starts.*not float64"),
        ({"token_ids": IDS.astype(">i4")}, TypeError, "not byte-swapped"),
        ({"token_ids": IDS.tolist()}, TypeError, r"token_ids.*array, not list; run\(\)"),
        ({"token_ids": np.repeat(IDS, 2)[::2]}, ValueError, "token_ids.*contiguous"),
        ({"token_ids": IDS.reshape(3, 3)}, ValueError, r"token_ids.*one dimension.*\(3, 3\)"),
        ({"sequence_starts": STARTS[:0]}, ValueError, r"sequence_starts.*S \+ 1"),
        ({"token_types": TYPES[1:]}, ValueError, r"token_types.*\(9,\).*\(8,\)"),
        ({"pooling_starts": STARTS}, ValueError, r"pooling_starts.*\(3,\).*\(4,\)"),
        ({"token_ids": BAD_IDS}, ValueError, "1000000"),
        ({"output": "scores"}, ValueError, "'scores'"),
        ({"dtype": "float16"}, ValueError, "float32, not float16"),
        ({"out": np.empty((9, 31), np.float32)}, ValueError, r"out.*\(9, 32\).*\(9, 31\)"),
        ({"out": np.empty((9, 32))}, ValueError, "float32, not float64"),
        ({"out": np.broadcast_to(np.float32(0), (9, 32))}, ValueError, "out.*contiguous"),
        ({"out": np.frombuffer(bytes(9 * 128), "f4").reshape(9, 32)}, ValueError, "read-only"),
        ({"stream": "s"}, TypeError, "stream.*'s'"),
        ({"stream": True}, TypeError, "stream.*True"),
        ({"stream": -1}, ValueError, "stream.*-1"),
        ({"stream": 1}, ValueError, "CPU"),
        ({"token_ids": CudaArray(IDS)}, vlt.UnsupportedError, "token_ids.*CUDA.*on the CPU"),
        ({"out": DlpackArray(np.zeros(1))}, vlt.UnsupportedError, "out.*CUDA.*on the CPU"),
        ({"token_ids": DlpackArray(IDS, (13, 0))}, TypeError, "token_ids.*device type 13"),
    ],
)
def test_bad_arrays_are_refused(
    tiny_encoder: vlt.Encoder,
    states: Array,
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        tiny_encoder.run_packed(**{"token_ids": IDS, "sequence_starts": STARTS} | changes)
    assert tiny_encoder.run_packed(IDS, STARTS).tobytes() == states.tobytes()


def test_synchronize_without_runs(tiny_encoder: vlt.Encoder) -> None:
    tiny_encoder.synchronize()


# ---- DLPack --------------------------------------------------------------------------------------


take_by_numpy: Callable[[Any], Array] = np.from_dlpack


class HostArray(DlpackArray):
    """In memory that numpy takes."""

    def __init__(self, array: Array) -> None:
        super().__init__(array, (1, 0))

    def __dlpack__(self, **_: Any) -> object:
        return super().__dlpack__()


def test_numpy_takes_our_capsule() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    before = sys.getrefcount(array)
    taken = take_by_numpy(HostArray(array))
    assert sys.getrefcount(array) == before + 1
    array[1, 2, 3] = 77
    np.testing.assert_array_equal(taken, array)
    assert np.shares_memory(taken, array)
    del taken
    assert sys.getrefcount(array) == before


def test_a_capsule_that_nobody_takes_is_reclaimed() -> None:
    array = np.arange(3)
    before = sys.getrefcount(array)
    exporter = HostArray(array)
    held, dropped = exporter.__dlpack__(), exporter.__dlpack__()
    del dropped
    _dlpack.reclaim_untaken()
    assert sys.getrefcount(array) == before + 2  # the exporter's and the held capsule's
    assert _dlpack.TakenTensor(held).shape == (3,)
    del held
    _dlpack.reclaim_untaken()
    assert sys.getrefcount(array) == before + 1
    assert list(_dlpack.OFFERED) == [0]


def test_a_capsule_survives_an_error_of_its_consumer() -> None:
    array = np.arange(3)
    before = sys.getrefcount(array)
    with pytest.raises((RuntimeError, BufferError)):
        take_by_numpy(DlpackArrayOfAnyOption(array))  # numpy wants host memory
    gc.collect()
    _dlpack.reclaim_untaken()
    assert sys.getrefcount(array) == before


class DlpackArrayOfAnyOption(DlpackArray):
    def __dlpack__(self, **_: Any) -> object:
        return super().__dlpack__()


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}])
@pytest.mark.parametrize("dtype", ["int32", "float16", "float64", "uint8", "bool"])
def test_we_take_capsules_of_numpy(options: dict[str, Any], dtype: str) -> None:
    array = np.ones((4, 6), dtype)[::2, 1:]
    before = sys.getrefcount(array)
    try:
        capsule: object = array.__dlpack__(**options)
    except TypeError:
        pytest.skip("this numpy knows no versions of DLPack")
    tensor = _dlpack.TakenTensor(capsule)
    assert tensor.address == array.ctypes.data
    assert (tensor.shape, tensor.strides, tensor.device) == ((2, 5), (12, 1), (1, 0))
    assert tensor.dtype.removesuffix("8") == dtype.removesuffix("8")
    assert tensor.itemsize == array.itemsize
    assert not tensor.read_only
    with pytest.raises(vlt.InvalidArgumentError, match="used"):
        _dlpack.TakenTensor(capsule)
    del tensor, capsule
    assert sys.getrefcount(array) == before


def test_read_only_capsules_say_so() -> None:
    array = np.ones(3)
    array.flags.writeable = False
    try:
        capsule: object = array.__dlpack__(max_version=(1, 0))
    except (BufferError, TypeError):
        pytest.skip("this numpy exports no read-only arrays")
    assert _dlpack.TakenTensor(capsule).read_only


def test_no_capsule_at_all() -> None:
    with pytest.raises(ValueError, match="PyCapsule"):
        _dlpack.TakenTensor(object())


# ---- Arrays on the GPU ---------------------------------------------------------------------------


@KINDS
def test_device_arrays(
    gpu: FakeGpu, encoder: vlt.Encoder, states: Array, on_gpu: Callable[[Array], Any]
) -> None:
    result = encoder.run_packed(on_gpu(IDS), on_gpu(STARTS))
    assert isinstance(result, vlt.DeviceArray)
    assert (result.shape, result.dtype, result.device) == ((9, 32), "float32", "cuda:0")
    assert (result.ndim, result.size, result.nbytes, len(result)) == (2, 288, 1152, 9)
    assert result.numpy().tobytes() == states.tobytes()
    out = np.full_like(states, np.nan)
    target = on_gpu(out)
    assert encoder.run_packed(on_gpu(IDS), on_gpu(STARTS), out=target) is target
    assert out.tobytes() == states.tobytes()
    options: dict[str, Any] = {"token_types": TYPES, "pooling_starts": SKIPPED}
    expected = encoder.run_packed(IDS, STARTS, **options, output="embedding")
    there: dict[str, Any] = {name: on_gpu(array) for name, array in options.items()}
    found = encoder.run_packed(on_gpu(IDS), on_gpu(STARTS), **there, output="embedding")
    assert found.numpy().tobytes() == expected.tobytes()


def test_host_and_device_mix_in_the_result_only(encoder: vlt.Encoder, states: Array) -> None:
    cases: list[tuple[Any, Any, Callable[[Array], Any]]] = [
        (CudaArray(IDS), CudaArray(STARTS), np.asarray),
        (IDS, STARTS, CudaArray),
    ]
    for ids, starts, wrap in cases:
        out = np.zeros_like(states)
        encoder.run_packed(ids, starts, out=wrap(out))
        assert out.tobytes() == states.tobytes()
    with pytest.raises(ValueError, match="sequence_starts is on the host, but token_ids"):
        encoder.run_packed(CudaArray(IDS), STARTS)
    with pytest.raises(ValueError, match="pooling_starts is on the device, but token_ids"):
        encoder.run_packed(IDS, STARTS, pooling_starts=CudaArray(SKIPPED))


def test_empty_results(encoder: vlt.Encoder) -> None:
    nothing = CudaArray(np.empty(0, np.int32), data=(0, False))
    result = encoder.run_packed(nothing, CudaArray(np.zeros(1, np.int32)))
    assert result.numpy().shape == (0, 32)
    assert view_of(result).shape == (0, 32)


class NeedsGradient(DlpackArray):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise RuntimeError("it requires grad")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"token_ids": CudaArray(IDS.astype(np.int64))}, TypeError, "int32, not int64"),
        ({"token_ids": DlpackArray(IDS.astype(np.int64))}, TypeError, "int32, not int64"),
        ({"token_ids": CudaArray(np.repeat(IDS, 2)[::2])}, ValueError, r"\(8,\) instead of \(4,\)"),
        ({"token_ids": CudaArray(IDS, mask=IDS)}, ValueError, "mask"),
        ({"token_ids": DlpackArray(IDS, (2, 3))}, ValueError, "token_ids.*cuda:3.*cuda:0"),
        ({"token_ids": CudaArray(IDS.reshape(9, 1))}, ValueError, r"one dimension.*\(9, 1\)"),
        ({"token_ids": NeedsGradient(IDS)}, ValueError, "token_ids cannot be shared.*grad"),
        ({"out": CudaArray(np.empty((9, 31), "f4"))}, ValueError, r"\(9, 32\), not \(9, 31\)"),
        ({"out": CudaArray(np.empty((9, 32), "f2"))}, ValueError, "float32, not float16"),
        ({"out": CudaArray(np.empty((9, 32), "f4")), "dtype": "float16"}, ValueError, "asks for"),
        (
            {"out": CudaArray(np.frombuffer(bytes(1152), "f4").reshape(9, 32))},
            ValueError,
            "out.*read-only",
        ),
    ],
)
def test_bad_device_arrays_are_refused(
    encoder: vlt.Encoder, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    arrays = {"token_ids": CudaArray(IDS), "sequence_starts": CudaArray(STARTS)}
    with pytest.raises(error, match=words):
        encoder.run_packed(**arrays | changes)


class Tensor:
    """A tensor of PyTorch on the GPU, as far as vlt looks at one; the protocols are left out."""

    is_cuda = True
    layout = "strided"
    requires_grad = False
    negative = False

    def __init__(self, array: Array, **fields: Any) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = f"torch.{array.dtype.name}"
        self.__dict__.update(fields)

    def is_neg(self) -> bool:
        return self.negative

    def is_contiguous(self) -> bool:
        return self.array.flags.c_contiguous

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.array.ctypes.data


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("torch")
    module.Tensor, module.strided = Tensor, Tensor.layout
    monkeypatch.setitem(sys.modules, "torch", module)


def test_tensors_are_read_without_the_protocols(
    gpu: FakeGpu, encoder: vlt.Encoder, torch: None, states: Array
) -> None:
    out = np.zeros_like(states)
    target = Tensor(out)
    arrays = Tensor(IDS), Tensor(STARTS)
    assert encoder.run_packed(*arrays, out=target, stream=STREAM) is target
    assert out.tobytes() == states.tobytes()
    assert (gpu.streams, gpu.waits) == ([STREAM], 0)
    with pytest.raises(ValueError, match=r"out must have shape \(9, 32\), not \(9, 31\)"):
        encoder.run_packed(*arrays, out=Tensor(np.zeros((9, 31), np.float32)), stream=STREAM)
    with pytest.raises(TypeError, match="token_ids must be int32, not int64"):
        encoder.run_packed(Tensor(IDS.astype(np.int64)), arrays[1], stream=STREAM)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(IDS, is_cuda=False),
        Tensor(IDS, layout="sparse"),
        Tensor(IDS, requires_grad=True),
        Tensor(IDS, negative=True),
        Tensor(np.repeat(IDS, 2)[::2]),
    ],
)
def test_tensors_that_are_not_what_they_look_like_are_not_read(
    encoder: vlt.Encoder, torch: None, tensor: Tensor
) -> None:
    with pytest.raises(TypeError, match="token_ids must be an array, not Tensor"):
        encoder.run_packed(tensor, Tensor(STARTS), stream=STREAM)


# ---- Results on the GPU --------------------------------------------------------------------------


def test_results_are_exported(encoder: vlt.Encoder, states: Array) -> None:
    result = encoder.run_packed(CudaArray(IDS), CudaArray(STARTS))
    interface = result.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"]) == ((9, 32), "<f4")
    assert (interface["version"], interface["stream"]) == (3, None)
    assert result.__dlpack_device__() == (2, 0)
    view = view_of(result)
    assert view.ctypes.data == interface["data"][0]
    assert view.tobytes() == states.tobytes()
    assert "[9, 32] float32 on cuda:0" in repr(result)
    with pytest.raises(TypeError, match=r"numpy\(\)"):
        np.asarray(result)
    for options in ({"copy": True}, {"dl_device": (1, 0)}):
        with pytest.raises(BufferError):
            result.__dlpack__(**options)


def test_memory_outlives_array_and_encoder(gpu: FakeGpu, tiny_weights: Path) -> None:
    encoder = vlt.Encoder(tiny_weights, "cuda")
    result = encoder.run_packed(CudaArray(IDS), CudaArray(STARTS))
    expected = result.numpy().tobytes()
    model = weakref.ref(encoder._model.resource)
    encoder.close()
    assert result.numpy().tobytes() == expected
    view = view_of(result)
    del result, encoder
    gc.collect()
    assert len(gpu.memory) == 1
    assert model() is not None
    assert view.tobytes() == expected
    del view
    gc.collect()
    assert not gpu.memory
    assert model() is None


def test_results_are_freed(gpu: FakeGpu, encoder: vlt.Encoder) -> None:
    for _ in range(5):
        encoder.run_packed(CudaArray(IDS), CudaArray(STARTS)).__dlpack__()
    _dlpack.reclaim_untaken()
    assert not gpu.memory


def test_bfloat16_results(encoder: vlt.Encoder) -> None:
    bits = np.array([[0x3F80, 0xC000], [0x7F80, 0x3EAB]], np.uint16)
    array = DeviceArray(DeviceMemory(encoder._model, bits.nbytes), bits.shape, "bfloat16", 0)
    ctypes.memmove(array.address, bits.ctypes.data, bits.nbytes)
    np.testing.assert_array_equal(array.numpy(), [[1, -2], [np.inf, 0.333984375]])
    assert not hasattr(array, "__cuda_array_interface__")
    assert _dlpack.TakenTensor(array.__dlpack__()).dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"out must have shape \(9, 32\)"):
        encoder.run_packed(CudaArray(IDS), CudaArray(STARTS), out=array)


# ---- Streams -------------------------------------------------------------------------------------


class Wrapped:
    """A stream as a library wraps it."""

    def __init__(self, name: str, handle: int) -> None:
        setattr(self, name, handle)


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (STREAM, STREAM),
        (np.int64(STREAM), STREAM),
        (Wrapped("cuda_stream", STREAM), STREAM),
        (Wrapped("ptr", STREAM), STREAM),
        (0, 1),
        (Wrapped("cuda_stream", 0), 1),
    ],
)
def test_callers_stream(gpu: FakeGpu, encoder: vlt.Encoder, stream: Any, handle: int) -> None:
    ids = DlpackArray(IDS)
    result = encoder.run_packed(ids, CudaArray(STARTS, stream=99), stream=stream)
    assert (gpu.streams, gpu.waits, ids.streams) == ([handle], 0, [handle])
    assert result.__cuda_array_interface__["stream"] == handle
    result.__dlpack__(stream=handle)
    result.__dlpack__(stream=-1)
    assert gpu.waits == 0
    result.__dlpack__(stream=handle + 1)  # another stream's consumer finds the work done
    assert gpu.waits == 1
    assert result.__cuda_array_interface__["stream"] is None
    result.numpy()
    assert gpu.waits == 1


def test_a_result_on_the_host_is_waited_for(gpu: FakeGpu, encoder: vlt.Encoder) -> None:
    out = np.zeros((9, 32), np.float32)
    encoder.run_packed(CudaArray(IDS), CudaArray(STARTS), out=out, stream=STREAM)
    assert (gpu.streams, gpu.waits) == ([STREAM], 1)


@pytest.mark.parametrize(
    ("ids", "starts", "stream"),
    [
        (CudaArray(IDS), CudaArray(STARTS), None),  # ready
        (CudaArray(IDS, stream=7), CudaArray(STARTS), 7),
        (CudaArray(IDS, stream=7), CudaArray(STARTS, stream=7), 7),
        (CudaArray(IDS, version=2), CudaArray(STARTS), 1),  # does not say
        (TorchArray(IDS), CudaArray(STARTS, stream=1), 1),
        (IDS, STARTS, None),
    ],
)
def test_without_a_stream_the_arrays_streams_count(
    gpu: FakeGpu, encoder: vlt.Encoder, ids: Any, starts: Any, stream: int | None
) -> None:
    encoder.run_packed(ids, starts)
    assert (gpu.streams, gpu.waits) == ([stream], int(stream is not None))
    if isinstance(ids, TorchArray):
        assert ids.streams == [1]  # its producer makes that stream wait for its own


def test_arrays_in_different_streams_are_refused(encoder: vlt.Encoder) -> None:
    with pytest.raises(ValueError, match=r"token_ids in 0x7 and sequence_starts in 0x9.*stream="):
        encoder.run_packed(CudaArray(IDS, stream=7), CudaArray(STARTS, stream=9))


def test_arrays_are_held_until_the_work_is_done(gpu: FakeGpu, encoder: vlt.Encoder) -> None:
    ids = IDS.copy()
    before = sys.getrefcount(ids)
    for take in (DlpackArray, CudaArray):
        encoder.run_packed(take(ids), CudaArray(STARTS), stream=STREAM)
    gc.collect()
    assert sys.getrefcount(ids) == before + 2
    encoder.synchronize()
    gc.collect()
    assert sys.getrefcount(ids) == before


def test_few_runs_are_pending(gpu: FakeGpu, encoder: vlt.Encoder) -> None:
    for _ in range(2 * MOST_PENDING + 1):
        encoder.run_packed(CudaArray(IDS), CudaArray(STARTS), stream=STREAM)
    assert gpu.waits == 2


def test_wrong_values_are_told_late(gpu: FakeGpu, encoder: vlt.Encoder, states: Array) -> None:
    good, bad, starts = CudaArray(IDS), CudaArray(BAD_IDS), CudaArray(STARTS)
    words = "in a run with a stream: .*1000000"
    result = encoder.run_packed(bad, starts, stream=STREAM)
    for _ in range(2):
        with pytest.raises(vlt.InvalidArgumentError, match=words):
            result.numpy()

    encoder.run_packed(bad, starts, stream=STREAM)
    # a call that did nothing wrong, perhaps of another thread, is not the one to be told
    assert encoder.run_packed(IDS, STARTS).tobytes() == states.tobytes()
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        encoder.run_packed(good, starts, stream=STREAM)
    encoder.synchronize()

    encoder.run_packed(bad, starts, stream=STREAM)
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        encoder.synchronize()
    encoder.synchronize()
    found = encoder.run_packed(good, starts, stream=STREAM)
    assert found.numpy().tobytes() == states.tobytes()


def test_what_a_later_run_reports_spoils_the_earlier_result(
    gpu: FakeGpu, encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library tells the next caller; the result that is wrong must not look right."""
    starts = CudaArray(STARTS)
    result = encoder.run_packed(CudaArray(BAD_IDS), starts, stream=STREAM)

    def refuse(*arguments: object) -> None:
        raise vlt.InvalidArgumentError("token id 1000000 of an earlier run")

    with monkeypatch.context() as patch:
        patch.setattr(_native, "run", refuse)
        with pytest.raises(vlt.InvalidArgumentError, match="of an earlier run"):
            encoder.run_packed(CudaArray(IDS), starts, stream=STREAM)
    for _ in range(2):
        with pytest.raises(vlt.InvalidArgumentError, match="in a run with a stream"):
            result.numpy()


def test_wrong_values_are_told_at_once_without_a_stream(encoder: vlt.Encoder) -> None:
    with pytest.raises(vlt.InvalidArgumentError, match="1000000"):
        encoder.run_packed(CudaArray(BAD_IDS), CudaArray(STARTS))
    encoder.synchronize()


def test_a_result_of_a_closed_encoder(gpu: FakeGpu, tiny_weights: Path, states: Array) -> None:
    with vlt.Encoder(tiny_weights, "cuda") as encoder:
        result = encoder.run_packed(CudaArray(IDS), CudaArray(STARTS), stream=STREAM)
    assert result.numpy().tobytes() == states.tobytes()


# ---- An encoder on the GPU -----------------------------------------------------------------------


def test_what_it_is(gpu: FakeGpu, encoder: vlt.Encoder) -> None:
    assert encoder.device == "cuda:0"
    assert "on cuda:0" in repr(encoder)
    for device in ("cuda", "cuda:0"):
        assert encoder.encode("a man", device=device).shape == (32,)
    with pytest.raises(vlt.UnsupportedError, match="on cuda:0.*'cuda:1'"):
        encoder.encode("a man", device="cuda:1")


@pytest.mark.parametrize("num_threads", [None, 3])
def test_warm_up_makes_every_session(
    gpu: FakeGpu, tiny_weights: Path, num_threads: int | None
) -> None:
    with vlt.Encoder(tiny_weights, "cuda", num_threads=num_threads) as encoder:
        encoder.warm_up(500, 20)
        sessions = encoder._sessions._sessions
        assert len(sessions) == (num_threads or 2)
        before = [session.memory_stats() for session in sessions]
        assert all(stats["held_bytes"] > 0 for stats in before)
        for session in sessions:
            session.run(vlt.pack([[5] * 25] * 20), "hidden", np.empty((500, 32), np.float32))
        after = [session.memory_stats() for session in sessions]
        assert [stats["runs"] for stats in after] == [1] * len(sessions)
        for one, other in zip(before, after, strict=True):
            assert one["system_allocations"] == other["system_allocations"]


def test_warm_up_on_the_cpu(tiny_weights: Path) -> None:
    with vlt.Encoder(tiny_weights, "cpu", num_threads=1) as encoder:
        encoder.warm_up(200)
        before = encoder.memory_stats()
        encoder.run([[5]] * 200)
        assert encoder.memory_stats()["system_allocations"] == before["system_allocations"]


def test_a_fork_is_refused(gpu: FakeGpu, tiny_weights: Path) -> None:
    encoder = vlt.Encoder(tiny_weights, "cuda")
    result = encoder.run_packed(CudaArray(IDS), CudaArray(STARTS))

    def use_all() -> list[str]:
        told = []
        for use in (lambda: encoder.run([[2, 3]]), encoder.memory_stats, result.numpy):
            try:
                use()
            except vlt.UnsupportedError as error:
                told.append(str(error))
        encoder.close()
        return told

    told = in_child(use_all)
    assert len(told) == 3
    assert all("on cuda:0 before" in words and "after the fork" in words for words in told)
    assert encoder.run([[2, 3]]).lengths == [2]  # the parent's goes on


def test_a_child_frees_nothing_of_its_parents(gpu: FakeGpu, tiny_weights: Path) -> None:
    holder = {"encoder": vlt.Encoder(tiny_weights, "cuda")}
    holder["result"] = holder["encoder"].run_packed(CudaArray(IDS), CudaArray(STARTS))

    def drop_all() -> int:
        holder["encoder"].close()
        holder.clear()
        gc.collect()
        return len(gpu.memory)

    assert in_child(drop_all) == 1
    holder.clear()
    gc.collect()
    assert not gpu.memory
