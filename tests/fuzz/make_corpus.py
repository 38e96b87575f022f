"""Write the fuzzers' first inputs: valid weights files of several families, and some arguments.

    PYTHONPATH=tests python tests/fuzz/make_corpus.py

A few kilobytes, kept in the tree; what a fuzzer finds beyond them stays out of it.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

from hostile.build import Parts, Tensor, floats, parts, tiny_metadata, tiny_tensors

HERE = Path(__file__).parent
RELATIVE_ROWS = "0 0 0 0 1 2 2 2 2 2 2"
LAYER = "layers.0."


def with_heads() -> Parts:
    """Every head there is."""
    metadata = tiny_metadata() | {
        "sequence_head": "pool:cls dense:0:tanh dense:1:identity",
        "token_head": "dense:0:identity",
        "vocabulary_head": "dense:0:gelu norm:0 decoder",
        "sparse": "max",
    }
    return parts(
        metadata,
        tiny_tensors()
        | {
            "sequence_head.dense.0.weight": floats(4, 4),
            "sequence_head.dense.0.bias": floats(4),
            "sequence_head.dense.1.weight": floats(2, 4),
            "sequence_head.dense.1.bias": floats(2),
            "token_head.dense.0.weight": floats(3, 4),
            "token_head.dense.0.bias": floats(3),
            "vocabulary_head.dense.0.weight": floats(4, 4),
            "vocabulary_head.dense.0.bias": floats(4),
            "vocabulary_head.norm.0.weight": floats(4),
            "vocabulary_head.norm.0.bias": floats(4),
            "vocabulary_head.decoder.bias": floats(10),
        },
    )


def with_relative_positions() -> Parts:
    """Disentangled attention, a convolution, and layers that are shared."""
    metadata = tiny_metadata() | {
        "relative_rows": RELATIVE_ROWS,
        "relative_terms": "keys queries",
        "convolution": "3",
        "convolution_activation": "tanh",
        "num_layers": "2",
        "layer_order": "0 0",
    }
    return parts(
        metadata,
        tiny_tensors()
        | {
            LAYER + "attention.relative_keys": floats(3, 4),
            LAYER + "attention.relative_queries": floats(3, 4),
            "convolution.weight": floats(4, 12),
            "convolution.bias": floats(4),
            "convolution.norm.weight": floats(4),
            "convolution.norm.bias": floats(4),
        },
    )


def in_half_precision() -> Parts:
    """Weights of two bytes, a bias by distance, and no positions."""
    tensors = {
        name: tensor
        if tensor.dtype == "U8"
        else Tensor("BF16", tensor.shape, b"".join(_upper_halves(tensor.data)))
        for name, tensor in tiny_tensors().items()
        if name != "embeddings.position"
    }
    metadata = tiny_metadata() | {"position_kind": "none", "distance_bias": "true"}
    return parts(metadata, tensors | {"attention.distance_bias": floats(2, 11)})


def in_eight_bits() -> Parts:
    """Products of int8, one of them with factors of its inputs."""
    tensors = tiny_tensors()
    for name, outputs, inputs in (("attention.qkv", 12, 4), ("ffn.down", 4, 8)):
        numbers = bytes(i % 256 for i in range(outputs * inputs))
        tensors[f"{LAYER}{name}.weight"] = Tensor("I8", [outputs, inputs], numbers)
        tensors[f"{LAYER}{name}.scales"] = floats(outputs)
    # Factors must not be zero, which the first of floats() is.
    factors = struct.pack("<4f", 0.5, 1, 2, 4)
    tensors[LAYER + "attention.qkv.input_factors"] = Tensor("F32", [4], factors)
    return parts(tiny_metadata(), tensors)


def _upper_halves(data: bytes) -> list[bytes]:
    return [data[i + 2 : i + 4] for i in range(0, len(data), 4)]


def write(target: str, name: str, content: bytes) -> None:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def main() -> None:
    files = {"bert": parts(), "heads": with_heads(), "relative": with_relative_positions()}
    files["half"] = in_half_precision()
    files["int8"] = in_eight_bits()
    for name, made in files.items():
        write("weights_file", name, made.header() + b"\0" + made.data)
    write("weights_file", "raw", b"raw" + parts().encode())
    (HERE / "model.bin").write_bytes(with_heads().encode())
    generator = random.Random(3)
    for number in range(8):
        write("run", f"random-{number}", generator.randbytes(64 << (number % 4)))


if __name__ == "__main__":
    main()
