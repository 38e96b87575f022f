"""The safetensors reader and writer, also against the official library."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlt import dtypes, safetensors_writer
from vlt.safetensors_file import SafetensorsError, SafetensorsFile, Tensor
from vlt.safetensors_writer import SafetensorsWriter, StoredTensor


def stored(tensor: Tensor) -> StoredTensor:
    return StoredTensor(tensor.dtype, tensor.shape, (tensor,))


def tensors_of_every_dtype() -> dict[str, Tensor]:
    random = np.random.default_rng(1)
    shapes = [(3,), (2, 5), (), (0, 4), (7, 1, 3), (64,)]
    result = {}
    for index, (dtype, storage) in enumerate(dtypes.STORAGE.items()):
        shape = shapes[index % len(shapes)]
        raw = random.integers(0, 2, (*shape, storage.itemsize), np.uint8)
        result[f"tensor.{dtype}"] = Tensor(dtype, raw.view(storage).reshape(shape))
    return result


def assert_same(read: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, tensor in expected.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape), name
        assert read[name].array.tobytes() == tensor.array.tobytes(), name


def data_start(raw: bytes) -> int:
    return 8 + int.from_bytes(raw[:8], "little")


def header_of(raw: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(raw[8 : data_start(raw)])
    return header


# ---- Round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [True, False])
def test_what_is_written_is_read(tmp_path: Path, align: bool) -> None:
    tensors = tensors_of_every_dtype()
    metadata = {"name": 'é "\\ \n 漢 😀', "empty": ""}
    writer = SafetensorsWriter(
        {name: stored(t) for name, t in tensors.items()}, metadata, align_tensors=align
    )
    writer.save(tmp_path / "file")
    file = SafetensorsFile(tmp_path / "file")
    assert file.metadata == metadata
    assert [name for name in file if not name.startswith("_pad.")] == list(tensors)
    assert len(file) == len(list(file))
    assert_same(file, tensors)
    raw = (tmp_path / "file").read_bytes()
    assert len(raw) == writer.num_bytes
    assert writer.to_memory().tobytes() == raw


def test_every_tensor_starts_at_a_multiple_of_64_bytes(tmp_path: Path) -> None:
    tensors = tensors_of_every_dtype()
    SafetensorsWriter({n: stored(t) for n, t in tensors.items()}, {"k": "v"}).save(tmp_path / "f")
    raw = (tmp_path / "f").read_bytes()
    header = header_of(raw)
    starts = {n: data_start(raw) + header[n]["data_offsets"][0] for n in tensors}
    assert {name: start % 64 for name, start in starts.items()} == dict.fromkeys(tensors, 0)
    pads = [name for name in header if name.startswith("_pad.")]
    assert pads == [f"_pad.{number}" for number in range(len(pads))]
    assert pads
    assert {header[name]["dtype"] for name in pads} == {"U8"}
    text = raw[8 : data_start(raw)]
    assert text.rstrip(b" ").endswith(b"}")


def test_without_alignment_tensors_touch(tmp_path: Path) -> None:
    tensors = tensors_of_every_dtype()
    SafetensorsWriter({n: stored(t) for n, t in tensors.items()}, {}, align_tensors=False).save(
        tmp_path / "f"
    )
    raw = (tmp_path / "f").read_bytes()
    assert list(header_of(raw)) == list(tensors)  # neither padding nor metadata
    assert len(raw) == data_start(raw) + sum(t.array.nbytes for t in tensors.values())


def test_the_official_library_reads_the_file(tmp_path: Path) -> None:
    official = pytest.importorskip("safetensors.numpy")
    tensors = {n: t for n, t in tensors_of_every_dtype().items() if "F8" not in n}
    SafetensorsWriter({n: stored(t) for n, t in tensors.items()}, {"k": "v"}).save(tmp_path / "f")
    read = dict(official.deserialize((tmp_path / "f").read_bytes()))
    assert {name for name in read if not name.startswith("_pad.")} == set(tensors)
    for name, tensor in tensors.items():
        assert read[name]["dtype"] == tensor.dtype
        assert tuple(read[name]["shape"]) == tensor.shape
        assert bytes(read[name]["data"]) == tensor.array.tobytes()


def test_a_file_of_the_official_library_is_read(tmp_path: Path) -> None:
    official = pytest.importorskip("safetensors.numpy")
    arrays: dict[str, NDArray[Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(5, dtype=np.float16),
        "c": np.zeros((0, 2), np.int64),
        "d": np.array(True),
    }
    official.save_file(arrays, tmp_path / "f", metadata={"format": "np"})
    file = SafetensorsFile(tmp_path / "f")
    assert file.metadata == {"format": "np"}
    assert set(file) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file[name].array, array)
        assert file[name].array.dtype == array.dtype


def test_a_file_may_have_no_tensor(tmp_path: Path) -> None:
    SafetensorsWriter({}, {"k": "v"}).save(tmp_path / "f")
    assert list(SafetensorsFile(tmp_path / "f")) == []


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    tensor = Tensor("F32", np.arange(4, dtype=np.float32))
    SafetensorsWriter({"t": stored(tensor)}, {}).save(tmp_path / "f")
    read = SafetensorsFile(tmp_path / "f")["t"]
    (tmp_path / "f").unlink()
    np.testing.assert_array_equal(read.to_float32(), [0, 1, 2, 3])
    with pytest.raises(ValueError, match="read-only"):
        read.array[0] = 1


# ---- Conversion while writing -------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_parts_are_stacked_and_converted(
    monkeypatch: pytest.MonkeyPatch, dtype: str, block: int
) -> None:
    monkeypatch.setattr(safetensors_writer, "_BLOCK_ELEMENTS", block)
    values = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
    sources = ("F32", "F16", "BF16")
    parts = tuple(
        Tensor(source, dtypes.from_float32(value, source))
        for source, value in zip(sources, values, strict=True)
    )
    raw = SafetensorsWriter({"t": StoredTensor(dtype, (12, 5), parts)}, {}).to_memory().tobytes()
    expected = np.concatenate([part.to_float32() for part in parts])
    assert raw[data_start(raw) :] == dtypes.from_float32(expected, dtype).tobytes()


def test_a_large_tensor_is_never_held_twice(tmp_path: Path) -> None:
    table = Tensor("F32", np.ones((1 << 13, 1 << 10), np.float32))  # 32 MiB
    writer = SafetensorsWriter({"t": StoredTensor("BF16", table.shape, (table,))}, {})
    tracemalloc.start()
    try:
        writer.save(tmp_path / "f")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert (SafetensorsFile(tmp_path / "f")["t"].to_float32() == 1).all()


def test_overflow_names_the_tensor_and_leaves_no_file(tmp_path: Path) -> None:
    large = Tensor("F32", np.array([1, 7e4], np.float32))
    writer = SafetensorsWriter({"big": StoredTensor("F16", (2,), (large,))}, {})
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(SafetensorsError, match=r"'big'.*70000.*65504"):
        writer.save(tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    SafetensorsWriter({}, {"k": "v"}).save(tmp_path / "f")
    assert SafetensorsFile(tmp_path / "f").metadata == {"k": "v"}
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_parts_must_fill_the_shape() -> None:
    part = Tensor("F32", np.zeros(3, np.float32))
    with pytest.raises(SafetensorsError, match=r"'t' of shape \(4,\) .* 3 elements"):
        SafetensorsWriter({"t": StoredTensor("F32", (4,), (part,))}, {})


def test_metadata_must_be_unicode() -> None:
    with pytest.raises(SafetensorsError, match="not valid Unicode"):
        SafetensorsWriter({}, {"prompt.x": "\ud800"})


# ---- Files that must be refused -----------------------------------------------------------------


def entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


REFUSED = {
    "empty file": (b"", "0 bytes"),
    "shorter than the length": (b"\0" * 7, "7 bytes"),
    "header longer than the file": ((9).to_bytes(8, "little") + b"{}", "cut short"),
    "header length enormous": (b"\xff" * 8, "at most 104857600"),
    "header empty": (file_bytes(b""), "not JSON"),
    "header not JSON": (file_bytes(b"{"), "not JSON"),
    "header not UTF-8": (file_bytes(b'{"\xff":0}'), "not JSON in UTF-8"),
    "header with an endless integer": (file_bytes(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
    "header a list": (file_bytes([]), "a JSON list"),
    "header nested deeply": (file_bytes(b"[" * 200_000), "not JSON"),
    "key twice": (file_bytes(b'{"a":1,"a":1}'), "'a' twice"),
    "metadata not strings": (file_bytes({"__metadata__": {"a": 1}}), "all strings"),
    "metadata no object": (file_bytes({"__metadata__": "a"}), "all strings"),
    "entry no object": (file_bytes({"t": 1}), "'t' must have"),
    "entry lacks a key": (file_bytes({"t": {"dtype": "F32", "shape": []}}), "'t' must have"),
    "entry has one more": (file_bytes({"t": {**entry([], 0, 4), "x": 1}}, b"1234"), "'t' must"),
    "dtype unknown": (file_bytes({"t": entry([1], 0, 4, "F31")}, b"1234"), "'F31'"),
    "dtype no string": (file_bytes({"t": entry([1], 0, 4, ["F32"])}, b"1234"), "dtype"),
    "shape negative": (file_bytes({"t": entry([-1], 0, 4)}, b"1234"), r"shape \[-1\]"),
    "shape of booleans": (file_bytes({"t": entry([True], 0, 4)}, b"1234"), "shape"),
    "shape of floats": (file_bytes({"t": entry([1.0], 0, 4)}, b"1234"), "shape"),
    "shape no list": (file_bytes({"t": entry(1, 0, 4)}, b"1234"), "shape 1"),
    "shape overflowing 64 bits": (
        file_bytes({"t": entry([2**32, 2**32], 0, 4)}, b"1234"),
        "needs 73786976294838206464 bytes",
    ),
    "offsets negative": (file_bytes({"t": entry([1], -4, 0)}, b"1234"), "data_offsets"),
    "offsets reversed": (file_bytes({"t": entry([1], 4, 0)}, b"1234"), "hold -4"),
    "offsets too few": (
        file_bytes({"t": {**entry([1], 0, 4), "data_offsets": [0]}}, b"1234"),
        r"\[begin, end\]",
    ),
    "size contradicts the shape": (file_bytes({"t": entry([2], 0, 4)}, b"1234"), "needs 8 bytes"),
    "size beyond the shape": (file_bytes({"t": entry([1], 0, 8)}, b"12345678"), "needs 4 bytes"),
    "gap at the front": (file_bytes({"t": entry([1], 4, 8)}, b"12345678"), "follows a gap"),
    "gap inside": (
        file_bytes({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"123456789012"),
        "'b' follows a gap",
    ),
    "overlap": (
        file_bytes({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, b"12345678"),
        "'b' overlaps",
    ),
    "data cut short": (file_bytes({"t": entry([1], 0, 4)}, b"123"), "cut short"),
    "data too long": (file_bytes({"t": entry([1], 0, 4)}, b"12345"), "bytes follow"),
}


@pytest.mark.parametrize(("raw", "message"), REFUSED.values(), ids=list(REFUSED))
def test_broken_files_are_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(raw)
    with pytest.raises(SafetensorsError, match=message) as refusal:
        SafetensorsFile(path)
    assert str(path) in str(refusal.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    tensor = Tensor("F32", np.ones(5, np.float32))
    raw = SafetensorsWriter({"t": stored(tensor)}, {}).to_memory().tobytes()
    for length in range(len(raw)):
        (tmp_path / "f").write_bytes(raw[:length])
        with pytest.raises(SafetensorsError):
            SafetensorsFile(tmp_path / "f")
