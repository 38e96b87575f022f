"""A tiny valid weights file, taken apart so that a case can spoil one thing in it.

Written by hand rather than with vlt's own writer, which refuses to write such files.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

ALIGNMENT = 64


@dataclass
class Tensor:
    """A tensor of the tiny file: `data` has the bytes that dtype and shape call for."""

    dtype: str
    shape: list[int]
    data: bytes


def floats(*shape: int) -> Tensor:
    """An F32 tensor of small distinct numbers."""
    count = 1
    for size in shape:
        count *= size
    return Tensor("F32", list(shape), struct.pack(f"<{count}f", *(i / 64 for i in range(count))))


def text(content: bytes) -> Tensor:
    """A byte tensor."""
    return Tensor("U8", [len(content)], content)


def tiny_metadata() -> dict[str, str]:
    """One layer, H = 4, A = 2, D = 2, F = 8, V = 10, P = 6, Y = 2, and a head of three steps."""
    return {
        "format": "vlt",
        "format_version": "1",
        "family": "bert",
        "num_layers": "1",
        "hidden_size": "4",
        "num_heads": "2",
        "head_size": "2",
        "intermediate_size": "8",
        "vocab_size": "10",
        "num_positions": "6",
        "num_token_types": "2",
        "position_offset": "0",
        "position_kind": "absolute",
        "norm_kind": "layernorm",
        "norm_place": "post",
        "norm_eps": "1e-12",
        "activation": "gelu",
        "embedding_head": "pool:mean dense:0:tanh normalize",
        "prompt.query": "query: ",
        "x.note": "ours",
    }


def tiny_tensors() -> dict[str, Tensor]:
    """The tensors that `tiny_metadata` asks for, and a tokenizer."""
    layer = "layers.0."
    return {
        "embeddings.word": floats(10, 4),
        "embeddings.position": floats(6, 4),
        "embeddings.token_type": floats(2, 4),
        "embeddings.norm.weight": floats(4),
        "embeddings.norm.bias": floats(4),
        layer + "attention.qkv.weight": floats(12, 4),
        layer + "attention.qkv.bias": floats(12),
        layer + "attention.output.weight": floats(4, 4),
        layer + "attention.output.bias": floats(4),
        layer + "attention.norm.weight": floats(4),
        layer + "attention.norm.bias": floats(4),
        layer + "ffn.up.weight": floats(8, 4),
        layer + "ffn.up.bias": floats(8),
        layer + "ffn.down.weight": floats(4, 8),
        layer + "ffn.down.bias": floats(4),
        layer + "ffn.norm.weight": floats(4),
        layer + "ffn.norm.bias": floats(4),
        "head.dense.0.weight": floats(3, 4),
        "head.dense.0.bias": floats(3),
        "tokenizer.json": text(b"{}"),
    }


@dataclass
class Parts:
    """A file in three parts, each of which a case may change before `encode` joins them."""

    metadata: dict[str, str] = field(default_factory=tiny_metadata)
    entries: dict[str, dict[str, object]] = field(default_factory=dict)
    data: bytes = b""

    def header(self) -> bytes:
        """The header's JSON text, metadata first, without padding."""
        content = {"__metadata__": self.metadata, **self.entries}
        return json.dumps(content, separators=(",", ":")).encode()

    def encode(self) -> bytes:
        """The file."""
        return encode(self.header(), self.data)


def parts(
    metadata: dict[str, str] | None = None, tensors: dict[str, Tensor] | None = None
) -> Parts:
    """Lays tensors end to end, each at a multiple of 64 bytes, with `_pad.N` between them."""
    result = Parts(tiny_metadata() if metadata is None else metadata)
    for name, tensor in (tiny_tensors() if tensors is None else tensors).items():
        gap = -len(result.data) % ALIGNMENT
        if gap:
            _append(result, f"_pad.{len(result.entries)}", text(bytes(gap)))
        _append(result, name, tensor)
    return result


def _append(result: Parts, name: str, tensor: Tensor) -> None:
    begin = len(result.data)
    result.data += tensor.data
    result.entries[name] = {
        "dtype": tensor.dtype,
        "shape": tensor.shape,
        "data_offsets": [begin, len(result.data)],
    }


def encode(header: bytes, data: bytes) -> bytes:
    """Length, header padded with spaces until the data starts at a multiple of 64, data."""
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    return struct.pack("<Q", len(header)) + header + data


def good_file() -> bytes:
    """The tiny file, unspoilt."""
    return parts().encode()


if __name__ == "__main__":  # for programs that need a model of any kind
    Path(sys.argv[1]).write_bytes(good_file())
