"""Files whose tensors are not those that the metadata asks for."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hostile.build import Tensor, floats, parts, text, tiny_metadata, tiny_tensors
from hostile.case import Case


def with_tensors(name: str, reason: str, changes: dict[str, Tensor | None], *words: str) -> Case:
    """The good file with some tensors replaced, added or (None) left out."""

    def build() -> bytes:
        tensors = {k: v for k, v in (tiny_tensors() | changes).items() if v is not None}
        return parts(tensors=tensors).encode()

    return Case(name, reason, build, words)


def with_sizes(name: str, reason: str, changes: dict[str, str], *words: str) -> Case:
    """The good file's tensors under metadata that asks for others."""
    return Case(name, reason, lambda: parts(tiny_metadata() | changes).encode(), words)


def valued(value: float) -> Tensor:
    """A weight [4] with one given value, at index 2."""
    return Tensor("F32", [4], struct.pack("<4f", 1.0, 1.0, value, 1.0))


def pad_named(name: str) -> Callable[[], bytes]:
    def build() -> bytes:
        changed = parts()
        changed.entries = {
            (name if key == "_pad.1" else key): value for key, value in changed.entries.items()
        }
        return changed.encode()

    return build


QKV = "layers.0.attention.qkv.weight"
SCALES = "layers.0.attention.qkv.scales"
FACTORS = "layers.0.attention.qkv.input_factors"
NORM = "layers.0.attention.norm.weight"
HALF_INFINITY = Tensor("F16", [4], struct.pack("<4H", 0x3C00, 0x3C00, 0x7C00, 0x3C00))
QKV_INT8 = Tensor("I8", [12, 4], bytes(range(48)))
HUGE_SCALES = Tensor("F32", [12], struct.pack("<12f", *[3e38] * 12))
BRAIN_NAN = Tensor("BF16", [4], struct.pack("<4H", 0x3F80, 0x3F80, 0x7FC0, 0x3F80))

CASES = [
    with_tensors("no-word", "no embeddings", {"embeddings.word": None}, "lacks", "embeddings.word"),
    with_tensors("no-qkv", "half a layer", {QKV: None}, "lacks", QKV),
    with_tensors("no-norm-bias", "not optional", {"embeddings.norm.bias": None}, "norm.bias"),
    with_tensors("extra", "it may matter", {"pooler.weight": floats(4)}, "'pooler.weight'"),
    with_tensors("extra-layer", "a cut model", {"layers.1.ffn.up.bias": floats(8)}, "layers.1."),
    with_tensors("nameless", "no role", {"": floats(4)}, "holds the tensors ''"),
    with_tensors(
        "layer-00", "no canonical name", {"layers.00.ffn.up.bias": floats(8)}, "layers.00"
    ),
    with_tensors(
        "extra-dense", "of no step", {"head.dense.1.weight": floats(3, 3)}, "head.dense.1"
    ),
    with_tensors("transposed", "[in, out]", {QKV: floats(4, 12)}, "[4, 12]", "[12, 4]"),
    with_tensors("flat", "as many numbers", {QKV: floats(48)}, "[48]", "[12, 4]"),
    with_tensors("extra-dimension", "as many numbers", {QKV: floats(12, 4, 1)}, "[12, 4, 1]"),
    with_tensors("scalar", "no dimension", {"embeddings.norm.bias": floats()}, "shape []", "[4]"),
    with_tensors("zero-rows", "no row", {"embeddings.word": floats(0, 4)}, "[0, 4]", "[10, 4]"),
    with_tensors("byte-weight", "no numbers", {"embeddings.norm.bias": text(b"abcd")}, "U8", "F16"),
    with_tensors(
        "float-tokenizer", "no text", {"tokenizer.json": floats(2)}, "tokenizer.json", "U8"
    ),
    with_tensors(
        "square-tokenizer",
        "no text",
        {"tokenizer.json": Tensor("U8", [1, 2], b"{}")},
        "[1, 2]",
        "U8 of shape [bytes]",
    ),
    Case("pad-no-number", "no _pad.N", pad_named("_pad.x"), ("holds the tensors '_pad.x'",)),
    Case("pad-leading-zero", "no _pad.N", pad_named("_pad.01"), ("'_pad.01'",)),
    with_tensors("float-pad", "no bytes", {"_pad.99": floats(1)}, "'_pad.99'", "U8"),
    with_tensors(
        "nan-weight", "all NaN", {"embeddings.norm.bias": valued(float("nan"))}, "element 2"
    ),
    with_tensors("inf-weight", "all NaN", {"embeddings.norm.bias": valued(float("-inf"))}, "-inf"),
    with_tensors("f16-inf", "all NaN", {"embeddings.norm.bias": HALF_INFINITY}, "element 2", "inf"),
    with_tensors("bf16-nan", "all NaN", {"embeddings.norm.bias": BRAIN_NAN}, "element 2", "nan"),
    with_tensors(
        "dense-input",
        "4 numbers come in",
        {"head.dense.0.weight": floats(3, 5)},
        "[3, 5]",
        "[out, 4]",
    ),
    with_tensors(
        "dense-flat", "no matrix", {"head.dense.0.weight": floats(12)}, "[12]", "[out, 4]"
    ),
    with_tensors("dense-0-rows", "nothing left", {"head.dense.0.weight": floats(0, 4)}, "[0, 4]"),
    with_tensors("dense-bias", "3 numbers", {"head.dense.0.bias": floats(4)}, "[4]", "[3]"),
    with_tensors("dense-bias-only", "no weight", {"head.dense.0.weight": None}, "0.weight'"),
    with_sizes(
        "dense-chain",
        "the second step takes what two poolings give",
        {"embedding_head": "pool:mean+max dense:0:tanh"},
        "[3, 4]",
        "[out, 8]",
    ),
    with_tensors(
        "int8-norm", "no layer's product", {NORM: Tensor("I8", [4], b"abcd")}, NORM, "I8", "F16"
    ),
    with_tensors("int8-bare", "of what size", {QKV: QKV_INT8}, "lacks", "qkv.scales"),
    with_tensors(
        "int8-flat-scales",
        "one an output",
        {QKV: QKV_INT8, SCALES: floats(4)},
        SCALES,
        "[4]",
        "[12]",
    ),
    with_tensors(
        "int8-factors",
        "one an input",
        {QKV: QKV_INT8, SCALES: floats(12), FACTORS: floats(12)},
        FACTORS,
        "[12]",
        "[4]",
    ),
    with_tensors(
        "int8-inf", "3e38 times 2", {QKV: QKV_INT8, SCALES: HUGE_SCALES}, "element 2", "infinite"
    ),
    with_tensors("float-scales", "not asked for", {SCALES: floats(12)}, SCALES),
    with_sizes("two-layers", "one is there", {"num_layers": "2"}, "layers.1.", "and 7 more"),
    with_sizes("4096-layers", "one is there", {"num_layers": "4096"}, "and 49135 more"),
    with_sizes(
        "vocab-11", "an id would read past the end", {"vocab_size": "11"}, "[10, 4]", "[11, 4]"
    ),
    with_sizes("positions-7", "as above", {"num_positions": "7"}, "[6, 4]", "[7, 4]"),
    with_sizes("types-3", "as above", {"num_token_types": "3"}, "[2, 4]", "[3, 4]"),
    with_sizes("types-0", "then the table must be absent", {"num_token_types": "0"}, "token_type"),
    with_sizes("heads-4", "qkv would have 24 rows", {"num_heads": "4"}, "[12, 4]", "[24, 4]"),
    with_sizes("hidden-2^24", "2^48 numbers", {"hidden_size": "16777216"}, "16777216]"),
    with_sizes(
        "heads-2^24",
        "3 x 2^24 rows",
        {"num_heads": "16777216", "head_size": "1"},
        "[50331648, 4]",
    ),
    with_sizes(
        "no-head", "dense tensors without a step", {"embedding_head": "pool:mean"}, "head.dense.0"
    ),
]
