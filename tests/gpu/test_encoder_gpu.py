"""The whole encoder on a GPU through the Python package: numbers, bits, arrays, streams, memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from converted_cases import ConvertedCases, run_case
from fidelity import RMS_FACTOR, WORST_FACTOR, measure
from golden_cases import CASES, GoldenCase
from gpu.cases import REDUCED
from model_folders import VOCABULARY, add_sentence_transformers, write_bert_folder

import vlt
from vlt import blocks
from vlt.handles import Model, Session

pytestmark = pytest.mark.gpu

Array = npt.NDArray[Any]

NAMES = ("float16", "bfloat16", "float32")
DTYPES = pytest.mark.parametrize("dtype", NAMES)
counts_device_memory = pytest.mark.skipif(
    REDUCED, reason="counts the device's memory, which a sanitizer and its neighbours take too"
)
OUTPUTS: tuple[Literal["hidden"], Literal["embedding"]] = ("hidden", "embedding")
LONGEST = 512
# Around every edge of the attention's tiles, empty ones among them.
LENGTHS = (0, 512, 1, 15, 16, 17, 0, 31, 33, 63, 64, 65, 127, 128, 129, 255, 300, 2, 2, 511, 0)
NUM_SMALL_BATCHES = int(os.environ.get("VLT_GPU_SMALL_BATCHES", 50 if REDUCED else 2000))
GOLDEN_CASES = [case for case in CASES if not REDUCED or case.multiplications < 2_000_000]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shape of MiniLM with two layers; mean pooling, a dense step, normalised."""
    folder = write_bert_folder(
        tmp_path_factory.mktemp("gpu") / "model",
        seed=5,
        num_layers=2,
        hidden_size=384,
        num_heads=12,
        intermediate_size=1536,
        max_positions=LONGEST,
    )
    tanh = "torch.nn.modules.activation.Tanh"
    add_sentence_transformers(folder, dense=((384, 100, tanh, True),), normalize=True)
    return vlt.convert(folder, folder.with_suffix(".bin"))


@pytest.fixture(scope="module")
def encoders(weights: Path) -> Iterator[Callable[[str], vlt.Encoder]]:
    """One encoder a dtype for all tests: what one does must leave it working for the next."""
    made: dict[str, vlt.Encoder] = {}

    def get(dtype: str) -> vlt.Encoder:
        if dtype not in made:
            made[dtype] = vlt.Encoder(weights, "cuda", dtype)
        return made[dtype]

    yield get
    for encoder in made.values():
        encoder.close()


@pytest.fixture(scope="module")
def encoder(encoders: Callable[[str], vlt.Encoder]) -> vlt.Encoder:
    return encoders("float16")


def draw(lengths: Sequence[int], seed: int = 0) -> vlt.PackedIds:
    rng = np.random.default_rng([seed, len(lengths), sum(lengths)])
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    return vlt.PackedIds(rng.integers(0, len(VOCABULARY), int(starts[-1]), np.int32), starts)


def there(array: Array) -> torch.Tensor:
    return torch.from_numpy(array).cuda()


def bits(encoder: vlt.Encoder, ids: vlt.PackedIds) -> list[bytes]:
    """Of each sequence's states and embedding."""
    states = encoder.run(ids)
    embeddings = encoder.run(ids, output="embedding")
    assert np.isfinite(states.values).all()
    assert np.isfinite(embeddings).all()
    return [rows.tobytes() + row.tobytes() for rows, row in zip(states, embeddings, strict=True)]


def sequences(ids: vlt.PackedIds, order: Sequence[int]) -> vlt.PackedIds:
    """Some of a batch's sequences, as a batch."""
    return vlt.pack([ids.values[ids.starts[i] : ids.starts[i + 1]] for i in order])


# ---- Numbers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedCases:
    return ConvertedCases(tmp_path_factory.mktemp("golden"))


@DTYPES
@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.name)
def test_loses_no_more_than_pytorch(
    case: GoldenCase, dtype: str, converted: ConvertedCases
) -> None:
    weights, golden = converted(case)
    with vlt.Encoder(weights, "cuda", dtype) as encoder:
        actual = run_case(encoder, case)
    loss = golden.torch_loss
    if dtype != "float32":
        reference = pytest.importorskip("torch_reference")  # needs transformers
        theirs = reference.run_torch(case, weights.with_suffix(""), getattr(torch, dtype), "cuda")
        loss = measure(theirs.ravel()[golden.positions], golden.values)
    golden.require_within(actual, loss.scaled(RMS_FACTOR, WORST_FACTOR), f"{case.name} in {dtype}")


def test_what_it_is(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLT_DEVICE")
    with vlt.Encoder(weights) as encoder:
        assert (encoder.device, encoder.dtype) == ("cuda:0", "float16")
    with vlt.Encoder(weights, "cpu") as encoder:
        assert (encoder.device, encoder.dtype) == ("cpu", "float32")
    with pytest.raises(vlt.UnsupportedError, match=r"cuda:99.*\d+ CUDA device"):
        vlt.Encoder(weights, "cuda:99")


def test_texts(weights: Path, encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(VOCABULARY[-1 - i % 40 :][: 1 + i % 30]) for i in range(200)]
    found = encoder.encode(texts)
    monkeypatch.setitem(blocks.BLOCK_CHARACTERS, "cuda", 500)
    assert encoder.encode(texts).tobytes() == found.tobytes()
    with vlt.Encoder(weights, "cpu") as reference:
        expected = reference.encode(texts)
    # unit vectors; a few rounding errors of each of the two layers' six operations
    bound = 24 * np.finfo(np.float16).eps
    assert np.abs(found - expected).max() < bound


# ---- Same bits -----------------------------------------------------------------------------------


@DTYPES
def test_alone_as_together(encoders: Callable[[str], vlt.Encoder], dtype: str) -> None:
    encoder, ids = encoders(dtype), draw(LENGTHS)
    together = bits(encoder, ids)
    for index in range(len(LENGTHS)):
        assert bits(encoder, sequences(ids, [index])) == [together[index]], f"sequence {index}"
    order = np.random.default_rng(1).permutation(len(LENGTHS)).tolist()
    assert bits(encoder, sequences(ids, order)) == [together[i] for i in order]
    crowd = [*range(len(LENGTHS))] * 20  # larger than what graphs are kept for
    assert bits(encoder, sequences(ids, crowd)) == [together[i] for i in crowd]


@pytest.mark.parametrize("name", ["head17-nothing-even", "head26-tinybert", "head80-silu"])
def test_odd_shapes_alone_as_together(converted: ConvertedCases, name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    weights, _ = converted(case)
    ids = vlt.pack(case.inputs()[0])
    with vlt.Encoder(weights, "cuda") as encoder:
        states = [rows.tobytes() for rows in encoder.run(ids)]
        alone = [encoder.run(sequences(ids, [i])).values.tobytes() for i in range(len(ids))]
    assert states == alone


@DTYPES
def test_graphs_change_no_bit(
    encoders: Callable[[str], vlt.Encoder], weights: Path, dtype: str
) -> None:
    encoder = encoders(dtype)
    with vlt.Encoder(weights, "cuda", dtype, disable_graphs=True) as plain:
        for lengths in ((), (0,), (1,), (0, 5, 0), (64,), (17,) * 40, LENGTHS):
            for _ in range(2):  # captured, and replayed
                assert bits(encoder, draw(lengths)) == bits(plain, draw(lengths)), lengths
        assert plain.memory_stats()["graphs"] == 0
    assert encoder.memory_stats()["graphs"] > 0


def test_split_by_a_workspace_limit(encoder: vlt.Encoder, weights: Path) -> None:
    ids = draw(LENGTHS * 3)
    expected = bits(encoder, ids)
    limit = Session(encoder._model).workspace_bytes(LONGEST, LONGEST, LONGEST)
    with vlt.Encoder(weights, "cuda", workspace_limit=limit) as limited:
        assert bits(limited, ids) == expected
        found = limited.run_packed(there(ids.values), there(ids.starts), output="embedding")
        assert found.numpy().tobytes() == encoder.run(ids, output="embedding").tobytes()
        stats = limited.memory_stats()
    assert stats["parts"] > stats["runs"]
    assert stats["peak_held_bytes"] <= limit


@pytest.mark.parametrize("count", [1, 4, 41], ids=["a piece", "pieces", "threads"])
def test_results_come_to_the_host_whole(weights: Path, encoder: vlt.Encoder, count: int) -> None:
    """Up to 32 MB of states, which several threads bring there, or one where no more may run."""
    ids = draw((500,) * count + (3,))
    there_still = encoder.run_packed(there(ids.values), there(ids.starts)).numpy()
    with vlt.Encoder(weights, "cuda", "float16", num_threads=1) as alone:
        for each in (alone, encoder):
            out = np.full((len(ids.values), encoder.hidden_size), np.nan, np.float32)
            each.run_packed(ids.values, ids.starts, out=out)
            assert out.tobytes() == there_still.tobytes()


def test_threads_side_by_side(weights: Path) -> None:
    rng = np.random.default_rng(2)
    batches = [draw(rng.integers(0, 200, rng.integers(1, 30)).tolist(), seed) for seed in range(40)]
    with vlt.Encoder(weights, "cuda", num_threads=3) as encoder:
        encoder.warm_up(4096)
        assert len(encoder._sessions._sessions) == 3
        alone = [bits(encoder, batch) for batch in batches]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda batch: bits(encoder, batch), batches * 2))
        assert together == alone * 2
        runs = [session.memory_stats()["runs"] for session in encoder._sessions._sessions]
    assert all(runs), f"runs of each session: {runs}"


SELF_CONSISTENT = """
import hashlib, sys
import numpy as np, vlt
for dtype in ("float16", "bfloat16", "float32"):
    encoder = vlt.Encoder(sys.argv[1], "cuda", dtype)
    ids = [np.arange(n, dtype=np.int32) * 7 % 90 for n in map(int, sys.argv[2].split(","))]
    states = encoder.run(ids)
    embeddings = encoder.run(ids, output="embedding")
    assert np.isfinite(states.values).all() and np.isfinite(embeddings).all(), dtype
    for index, one in enumerate(ids):
        assert encoder.run([one]).values.tobytes() == states[index].tobytes(), (dtype, index)
        found = encoder.run([one], output="embedding")
        assert found.tobytes() == embeddings[index].tobytes(), (dtype, index)
    digest = hashlib.sha256(states.values.tobytes() + embeddings.tobytes()).hexdigest()
    print(dtype, encoder.kernels, digest)
"""


def run_python(code: str, *arguments: object, **environment: str) -> str:
    """Standard output of a program that must succeed."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_debugging_switches(weights: Path) -> None:
    """A workspace full of NaN changes no bit; the kernels for every GPU are self-consistent."""
    lengths = ",".join(map(str, LENGTHS))
    plain = run_python(SELF_CONSISTENT, weights, lengths)
    poisoned = run_python(SELF_CONSISTENT, weights, lengths, VLT_POISON_WORKSPACE="1")
    assert poisoned == plain
    everywhere = run_python(SELF_CONSISTENT, weights, lengths, VLT_CUDA_KERNELS="mma")
    assert [line.split()[1] for line in everywhere.splitlines()] == ["sm_80"] * 3
    both = run_python(
        SELF_CONSISTENT, weights, lengths, VLT_CUDA_KERNELS="mma", VLT_POISON_WORKSPACE="1"
    )
    assert both == everywhere


# ---- Arrays on the device ------------------------------------------------------------------------


@DTYPES
def test_device_arrays_give_the_same_bits(
    encoders: Callable[[str], vlt.Encoder], dtype: str
) -> None:
    encoder = encoders(dtype)
    for lengths in ((), (0, 0), (1,), LENGTHS, LENGTHS * 8):
        ids = draw(lengths)
        types = np.arange(len(ids.values), dtype=np.int32) % 2
        skipped = np.minimum(ids.lengths, 3).astype(np.int32)
        here: dict[str, Any] = {"token_types": types, "pooling_starts": skipped}
        options: dict[str, Any] = {name: there(array) for name, array in here.items()}
        arrays = there(ids.values), there(ids.starts)
        for output in OUTPUTS:
            expected = encoder.run_packed(ids.values, ids.starts, **here, output=output)
            found = encoder.run_packed(*arrays, **options, output=output)
            assert found.numpy().tobytes() == expected.tobytes()
            shared = torch.from_dlpack(found)
            assert shared.device == torch.device("cuda", 0)
            assert shared.cpu().numpy().tobytes() == expected.tobytes()
            out = torch.full_like(shared, torch.nan)
            encoder.run_packed(*arrays, **options, output=output, out=out)
            assert out.cpu().numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_states_in_the_encoders_own_dtype(
    encoders: Callable[[str], vlt.Encoder], dtype: str
) -> None:
    encoder, ids = encoders(dtype), draw(LENGTHS)
    arrays = there(ids.values), there(ids.starts)
    wide = torch.from_dlpack(encoder.run_packed(*arrays))
    expected = wide.to(getattr(torch, dtype))
    narrow = encoder.run_packed(*arrays, dtype=dtype)
    assert narrow.dtype == dtype
    shared = torch.from_dlpack(narrow)
    assert shared.dtype == getattr(torch, dtype)
    assert torch.equal(shared, expected)
    np.testing.assert_array_equal(narrow.numpy(), expected.float().cpu().numpy())
    out = torch.empty_like(expected)
    assert encoder.run_packed(*arrays, out=out) is out
    assert torch.equal(out, expected)
    with pytest.raises(ValueError, match="can be float32, not"):
        encoder.run_packed(*arrays, output="embedding", dtype=dtype)


def test_arrays_that_are_refused(encoder: vlt.Encoder) -> None:
    ids = draw(LENGTHS)
    values, starts = there(ids.values), there(ids.starts)
    with pytest.raises(TypeError, match=r"token_ids must be int32, not int64"):
        encoder.run_packed(values.long(), starts)
    with pytest.raises(ValueError, match="token_ids must be contiguous"):
        encoder.run_packed(values.repeat_interleave(2)[::2], starts)
    with pytest.raises(ValueError, match="sequence_starts is on the host"):
        encoder.run_packed(values, ids.starts)
    out = torch.empty(len(values), 384, device="cuda", requires_grad=True)
    with pytest.raises(ValueError, match="out cannot be shared.*grad"):
        encoder.run_packed(values, starts, out=out)


def test_result_outlives_the_encoder(weights: Path, encoder: vlt.Encoder) -> None:
    ids = draw(LENGTHS)
    with vlt.Encoder(weights, "cuda", "float16") as other:
        found = torch.from_dlpack(other.run_packed(there(ids.values), there(ids.starts)))
    assert found.cpu().numpy().tobytes() == encoder.run(ids).values.tobytes()


def test_cupy(encoder: vlt.Encoder) -> None:
    cupy = pytest.importorskip("cupy")
    ids = draw(LENGTHS)
    expected = encoder.run(ids).values
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        with stream:
            arrays = cupy.asarray(ids.values), cupy.asarray(ids.starts)
            for found in (encoder.run_packed(*arrays), encoder.run_packed(*arrays, stream=stream)):
                for shared in (cupy.from_dlpack(found), cupy.asarray(found)):
                    assert cupy.asnumpy(shared).tobytes() == expected.tobytes()


# ---- Streams -------------------------------------------------------------------------------------

SLEEP_CYCLES = 200_000_000  # about 0.1 s


@pytest.mark.parametrize("side", [False, True])
def test_order_within_a_stream(encoder: vlt.Encoder, side: bool) -> None:
    """The ids arrive late, in the stream; the result is read in the stream; nobody waits."""
    stream = torch.cuda.Stream() if side else torch.cuda.default_stream()
    ids = draw(LENGTHS)
    values, starts = there(ids.values), there(ids.starts)
    expected = encoder.run_packed(values, starts).numpy()  # kernels are loaded here, not below
    late, out = torch.zeros_like(values), torch.zeros(expected.shape, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP_CYCLES)
        late.copy_(values)
        result = encoder.run_packed(late, starts, stream=stream)
        encoder.run_packed(late, starts, out=out, stream=stream.cuda_stream)
        assert not stream.query(), "the call waited"
        shared = torch.from_dlpack(result)
        assert not stream.query(), "sharing the result in its own stream waited"
        copies = [shared.clone(), out.clone()]
        late.zero_()
    stream.synchronize()
    for copy in copies:
        assert copy.cpu().numpy().tobytes() == expected.tobytes()
    encoder.synchronize()


@pytest.mark.parametrize("side", [False, True])
def test_order_without_a_stream(encoder: vlt.Encoder, side: bool) -> None:
    """PyTorch's current stream is respected without being named, and the result is there."""
    ids = draw(LENGTHS)
    values, starts = there(ids.values), there(ids.starts)
    late = torch.zeros_like(values)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream() if side else torch.cuda.default_stream()):
        torch.cuda._sleep(SLEEP_CYCLES)
        late.copy_(values)
        result = encoder.run_packed(late, starts)
    assert result.numpy().tobytes() == encoder.run(ids).values.tobytes()


def test_a_result_is_ready_for_any_stream(encoder: vlt.Encoder) -> None:
    ids = draw(LENGTHS)
    one, other = torch.cuda.Stream(), torch.cuda.Stream()
    values, starts = there(ids.values), there(ids.starts)
    torch.cuda.synchronize()
    with torch.cuda.stream(one):
        torch.cuda._sleep(SLEEP_CYCLES)
        result = encoder.run_packed(values, starts, stream=one)
    with torch.cuda.stream(other):
        copy = torch.from_dlpack(result).clone().cpu()
    assert copy.numpy().tobytes() == encoder.run(ids).values.tobytes()


def test_the_current_device_stays(encoder: vlt.Encoder) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one device")
    with torch.cuda.device(1):
        encoder.run([[1, 2]])
        assert torch.cuda.current_device() == 1


# ---- Bad input -----------------------------------------------------------------------------------

GOOD = {
    "token_ids": [1, 2, 3, 4, 5, 6],
    "sequence_starts": [0, 2, 2, 6],
    "token_types": [0, 1, 0, 1, 0, 1],
    "pooling_starts": [2, 0, 1],
}
BAD = [
    ("token_ids", [1, 2, 3, len(VOCABULARY), 5, 6], f"{len(VOCABULARY)} at position 3"),
    ("token_ids", [1, -1, 3, 4, 5, 6], "-1 at position 1"),
    ("token_ids", [1, 2, 3, 4, 5, 2**31 - 1], str(2**31 - 1)),
    ("token_types", [0, 1, 0, 2, 0, 1], "token type 2 at position 3"),
    ("sequence_starts", [0, 3, 2, 6], r"sequence_starts\[2\] is 2"),
    ("sequence_starts", [1, 2, 2, 6], r"sequence_starts\[0\] is 1"),
    ("sequence_starts", [0, 2, 2, 5], "ends at 5"),
    ("sequence_starts", [0, 2, 2, 2**31 - 1], "sequence"),
    ("sequence_starts", [0, -(2**31), 2, 6], "sequence"),
    ("pooling_starts", [2, 1, 1], r"pooling_starts\[1\] is 1"),
    ("pooling_starts", [-1, 0, 1], r"pooling_starts\[0\] is -1"),
]


@pytest.mark.parametrize(("name", "values", "words"), BAD)
def test_bad_values_are_refused(
    encoder: vlt.Encoder, name: str, values: list[int], words: str
) -> None:
    def run(arrays: dict[str, list[int]], **options: Any) -> Any:
        tensors = {key: there(np.array(value, np.int32)) for key, value in arrays.items()}
        return encoder.run_packed(**tensors, output="embedding", **options)

    expected = run(GOOD).numpy().tobytes()
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        run(GOOD | {name: values})
    assert run(GOOD).numpy().tobytes() == expected

    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    result = run(GOOD | {name: values}, stream=stream)
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        encoder.synchronize()
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        result.numpy()
    assert run(GOOD, stream=stream).numpy().tobytes() == expected


def test_a_sequence_that_is_too_long(encoder: vlt.Encoder) -> None:
    ids = draw((3, LONGEST + 1))
    with pytest.raises(vlt.InvalidArgumentError, match="sequence 1 has 513 tokens.*512"):
        encoder.run_packed(there(ids.values), there(ids.starts))
    assert encoder.run([[1, 2]]).lengths == [2]


# ---- Memory --------------------------------------------------------------------------------------

# The driver hands out memory in blocks of 2 MiB; five workspaces, or the smallest results of all
# batches, are more.
DRIVERS_SLACK = 8 << 20
# Of results that nobody uses any more, the library keeps this much before it waits to free them.
MOST_RETIRED = 64 << 20


def test_limit_below_one_sequence(encoder: vlt.Encoder, weights: Path) -> None:
    limit = Session(encoder._model).workspace_bytes(64, 64, 64)
    with vlt.Encoder(weights, "cuda", workspace_limit=limit) as limited:
        with pytest.raises(vlt.OutOfMemoryError, match=f"512 tokens needs .*limit is {limit}"):
            limited.run(draw((1, LONGEST)))
        assert bits(limited, draw((2,))) == bits(encoder, draw((2,)))


@pytest.mark.skipif(REDUCED, reason="takes all of the device's memory")
def test_no_memory_for_a_batch(encoder: vlt.Encoder, weights: Path) -> None:
    ids = draw((LONGEST,) * 400)
    with vlt.Encoder(weights, "cuda") as other:
        expected = bits(other, draw(LENGTHS))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        hog = torch.empty(free - (192 << 20), dtype=torch.uint8, device="cuda")
        with pytest.raises(vlt.OutOfMemoryError):
            other.run(ids, output="embedding")
        with pytest.raises(vlt.OutOfMemoryError):
            other.run_packed(there(ids.values), there(ids.starts))
        assert bits(other, draw(LENGTHS)) == expected
        del hog
        torch.cuda.empty_cache()
        assert other.run(ids, output="embedding").tobytes() == (
            encoder.run(ids, output="embedding").tobytes()
        )


@counts_device_memory
def test_small_batches_take_no_memory(weights: Path) -> None:
    """After warming up nothing is allocated, whatever comes within the bound."""
    rng = np.random.default_rng(6)
    most = 1500
    with vlt.Encoder(weights, "cuda", num_threads=1) as encoder:
        encoder.warm_up(most)
        before = encoder.memory_stats()
        for index in range(NUM_SMALL_BATCHES):
            if index == 8:  # PyTorch and the driver have their blocks of small memory by now
                free, _ = torch.cuda.mem_get_info()
            lengths = rng.integers(1, rng.integers(2, 200), rng.integers(1, 40))
            ids = draw(lengths[np.cumsum(lengths) <= most].tolist(), index)
            output = OUTPUTS[index % 2]
            if index % 4 < 2:
                encoder.run(ids, output=output)
            else:
                encoder.run_packed(there(ids.values), there(ids.starts), output=output)
        after = encoder.memory_stats()
        now_free, _ = torch.cuda.mem_get_info()
    assert after["runs"] == before["runs"] + NUM_SMALL_BATCHES
    for name in ("held_bytes", "peak_held_bytes", "system_allocations", "releases", "graphs"):
        assert after[name] == before[name], name
    lost = free - now_free - MOST_RETIRED
    assert lost <= DRIVERS_SLACK, f"{free - now_free} bytes of the device are gone"


@counts_device_memory
def test_memory_is_given_back(weights: Path) -> None:
    def cycle() -> int:
        with vlt.Encoder(weights, "cuda") as encoder:
            bits(encoder, draw(LENGTHS))
        free, _ = torch.cuda.mem_get_info()
        return free

    first = cycle()
    for _ in range(5):
        last = cycle()
    assert first - last <= DRIVERS_SLACK, f"{first - last} bytes are lost in five lives"


@pytest.mark.parametrize("output", OUTPUTS)
def test_profile(
    weights: Path, encoder: vlt.Encoder, output: Literal["hidden", "embedding"]
) -> None:
    model = Model(str(weights), "cuda", "float16")
    ids = draw(LENGTHS)
    rows = len(ids.values) if output == "hidden" else len(ids)
    out = np.empty((rows, model.info[f"{output}_size"]), np.float32)
    session = Session(model, profile=True)
    session.run(ids, output, out)
    assert out.tobytes() == encoder.run_packed(ids.values, ids.starts, output=output).tobytes()
    profile = session.profile()
    assert all(entry["calls"] > 0 and entry["seconds"] > 0 for entry in profile), profile
    assert any(entry["flops"] > 0 for entry in profile)


# ---- Processes -----------------------------------------------------------------------------------

FORKED = """
import os, sys
import vlt
encoder = vlt.Encoder(sys.argv[1], "cuda")
expected = encoder.run([[1, 2, 3]]).values.tobytes()
child = os.fork()
if child == 0:
    try:
        encoder.run([[1, 2, 3]])
    except vlt.UnsupportedError as error:
        print(error, flush=True)
    encoder.close()
    del encoder
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert encoder.run([[1, 2, 3]]).values.tobytes() == expected
print("the parent goes on")
"""


def test_a_fork_is_refused(weights: Path) -> None:
    told = run_python(FORKED, weights)
    assert "load the model after the fork" in told
    assert told.endswith("the parent goes on\n")


def test_exit_with_everything_open(weights: Path) -> None:
    """Encoders, results and capsules that live to the end of the process do not disturb it."""
    code = """
import sys
import torch, vlt
encoder = vlt.Encoder(sys.argv[1], "cuda")
ids, starts = (torch.tensor(x, dtype=torch.int32, device="cuda") for x in ([1, 2, 3], [0, 3]))
result = encoder.run_packed(ids, starts, stream=torch.cuda.current_stream())
shared = torch.from_dlpack(result)
capsule = result.__dlpack__(stream=-1)
print(shared.shape)
"""
    assert run_python(code, weights) == "torch.Size([3, 384])\n"
