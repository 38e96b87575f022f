"""Files whose length, header length or tensor ranges are wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hostile.build import encode, floats, good_file, parts, text, tiny_tensors
from hostile.case import Case

WORD = "embeddings.word"  # the first tensor: bytes 0 to 160 of the data, _pad.1 follows
HUGE = 2**63


def with_length(length: int) -> bytes:
    return struct.pack("<Q", length) + good_file()[8:]


def cut(num_bytes: int) -> bytes:
    return good_file()[:num_bytes]


def header_end() -> int:
    (length,) = struct.unpack("<Q", good_file()[:8])
    return int(length) + 8


def entry(name: str, **fields: Any) -> bytes:
    """The good file with some fields of one tensor's header entry changed."""
    changed = parts()
    changed.entries[name].update(fields)
    return changed.encode()


def last_moved(delta: int) -> bytes:
    changed = parts()
    end = len(changed.data)
    begin = end - len(tiny_tensors()["tokenizer.json"].data)
    changed.entries["tokenizer.json"]["data_offsets"] = [begin + delta, end + delta]
    changed.data += bytes(delta)
    return changed.encode()


def without_padding() -> bytes:
    """Tensors end to end, as other safetensors writers lay them."""
    changed = parts(tensors={})
    for name, tensor in tiny_tensors().items():
        begin = len(changed.data)
        changed.data += tensor.data
        offsets = [begin, len(changed.data)]
        changed.entries[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": offsets,
        }
    return changed.encode()


def data_off_by(num_spaces: int) -> bytes:
    """A header whose padding ends past a multiple of 64."""
    header = good_file()[8 : header_end()] + b" " * num_spaces
    return struct.pack("<Q", len(header)) + header + good_file()[header_end() :]


def trailing(num_bytes: int) -> bytes:
    return good_file() + bytes(num_bytes)


def same_range_twice() -> bytes:
    changed = parts()
    changed.entries["x"] = dict(changed.entries[WORD])
    return changed.encode()


def plain(metadata: dict[str, str] | None) -> bytes:
    """A safetensors file of some other program: an I64 and a misaligned tensor."""
    content = parts(metadata={}, tensors={"a": text(b"12345678"), "b": floats(1)})
    content.entries = {
        "ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    }
    content.data = bytes(12)
    content.metadata = metadata or {}
    header = content.header()
    if metadata is None:
        header = header.replace(b'"__metadata__":{},', b"")
    return encode(header, content.data)


def case(name: str, reason: str, build: Callable[[], bytes], *words: str) -> Case:
    return Case(name, reason, build, words)


CASES = [
    case("empty", "no byte at all", lambda: b"", "0 bytes", "too short"),
    case("seven-bytes", "the length itself is cut", lambda: cut(7), "7 bytes", "too short"),
    case("only-length", "no header follows", lambda: cut(8), "ends after 0", "cut short"),
    case("cut-in-header", "half a header", lambda: cut(100), "ends after 92", "cut short"),
    case("cut-after-header", "no data", lambda: cut(header_end()), "data ends at byte 0"),
    case("cut-in-data", "half the data", lambda: cut(header_end() + 300), "data ends at byte 300"),
    case(
        "cut-last-byte", "one byte short", lambda: good_file()[:-1], "tokenizer.json", "cut short"
    ),
    case("length-0", "an empty header", lambda: bytes(8), "'{'", "the header's end"),
    case("length-past-end", "1 MiB of a small file", lambda: with_length(1 << 20), "cut short"),
    case("length-over-limit", "100 MiB + 1", lambda: with_length((100 << 20) + 1), "104857601"),
    case("length-2^63", "negative where signed", lambda: with_length(HUGE), "9223372036854775808"),
    case("length-2^64-1", "+ 8 wraps around", lambda: with_length(2**64 - 1), str(2**64 - 1)),
    case("length-2^64-8", "+ 8 is 0", lambda: with_length(2**64 - 8), str(2**64 - 8)),
    case(
        "zip",
        "a PyTorch checkpoint",
        lambda: b"PK\x03\x04\x14\0\x08\x08" + bytes(92),
        "first 8 bytes",
    ),
    case("trailing-byte", "something follows the data", lambda: trailing(1), "must end where"),
    case("trailing-64", "a hidden aligned block", lambda: trailing(64), "must end where"),
    case(
        "end-past-file",
        "would read beyond the end",
        lambda: entry(WORD, data_offsets=[0, 1 << 20]),
        WORD,
        "0 to 1048576",
        "data ends at",
    ),
    case(
        "end-2^64-1",
        "would wrap around when added to the data's start",
        lambda: entry(WORD, data_offsets=[0, 2**64 - 1]),
        WORD,
        str(2**64 - 1),
    ),
    case(
        "range-wraps",
        "160 bytes long only after wrapping around 2^64",
        lambda: entry(WORD, data_offsets=[2**64 - 64, 96]),
        WORD,
        "backwards",
    ),
    case("backwards", "end before begin", lambda: entry(WORD, data_offsets=[160, 0]), "backwards"),
    case(
        "range-2^63",
        "negative where signed",
        lambda: entry(WORD, data_offsets=[HUGE, HUGE + 160]),
        WORD,
        str(HUGE),
    ),
    case(
        "too-few-bytes",
        "shape needs 160 bytes",
        lambda: entry(WORD, data_offsets=[0, 128]),
        WORD,
        "128 bytes",
        "needs 160",
    ),
    case(
        "shape-too-large",
        "would read past the tensor",
        lambda: entry(WORD, shape=[11, 4]),
        "[11, 4]",
        "needs 176",
    ),
    case(
        "shape-overflows",
        "2^31 x 2^31 x 4 x 4 bytes is 0 modulo 2^64",
        lambda: entry(WORD, shape=[2**31, 2**31, 4]),
        WORD,
        "more than 2^64 bytes",
    ),
    case(
        "shape-2^63-1",
        "the element count fits, the byte count does not",
        lambda: entry(WORD, shape=[2**63 - 1]),
        "more than 2^64 bytes",
    ),
    case(
        "shape-2^62-elements",
        "times 4 bytes is 0 modulo 2^64",
        lambda: entry(WORD, shape=[2**62], data_offsets=[0, 0]),
        "more than 2^64 bytes",
    ),
    case(
        "unknown-dtype",
        "bytes that nobody can interpret",
        lambda: entry(WORD, dtype="F99"),
        WORD,
        "'F99'",
        "BF16",
    ),
    case("f64", "a dtype of safetensors only", lambda: entry(WORD, dtype="F64"), "'F64'", "F32"),
    case("lower-case-dtype", "dtypes are exact", lambda: entry(WORD, dtype="f32"), "'f32'"),
    case(
        "half-the-width",
        "a dtype of another size",
        lambda: entry(WORD, dtype="F16"),
        "160 bytes",
        "F16",
        "needs 80",
    ),
    case(
        "overlap",
        "two tensors share bytes",
        lambda: entry("embeddings.position", data_offsets=[128, 224]),
        "embeddings.position",
        "overlaps",
    ),
    case("same-range-twice", "one range, two names", same_range_twice, "overlaps"),
    case("gap", "64 bytes that no tensor owns", lambda: last_moved(64), "leaves a gap"),
    case(
        "misaligned-tensor",
        "a vector load at an odd place",
        without_padding,
        "expected a multiple of 64",
    ),
    case("misaligned-data", "the whole data is off", lambda: data_off_by(8), "multiple of 64"),
    case(
        "plain-safetensors",
        "no metadata: another program's file",
        lambda: plain(None),
        "is a safetensors file but not a vlt weights file",
        "vlt convert",
    ),
    case(
        "format-pt",
        "a checkpoint of transformers",
        lambda: plain({"format": "pt"}),
        "is a safetensors file but not a vlt weights file",
        "'pt'",
        "vlt convert",
    ),
]
