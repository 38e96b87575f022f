"""Files whose switches of families and heads contradict each other or the tensors."""

from __future__ import annotations

from hostile.build import Tensor, floats, parts, tiny_metadata, tiny_tensors
from hostile.case import Case

DISTANCES = 11  # 2·6 - 1: the longest sequence has 6 tokens
ROWS = "0 0 0 0 1 2 2 2 2 2 2"
RELATIVE = {"relative_rows": ROWS, "relative_terms": "keys"}
KEYS = {"layers.0.attention.relative_keys": floats(3, 4)}
VOCABULARY = {"vocabulary_head": "decoder"}


def spoilt(
    name: str,
    reason: str,
    metadata: dict[str, str],
    tensors: dict[str, Tensor | None],
    *words: str,
) -> Case:
    """The good file with metadata set, and tensors added or (None) left out."""

    def build() -> bytes:
        changed = {k: v for k, v in (tiny_tensors() | tensors).items() if v is not None}
        return parts(tiny_metadata() | metadata, changed).encode()

    return Case(name, reason, build, words)


def rows(name: str, reason: str, value: str, *words: str) -> Case:
    """Other rows of relative positions."""
    return spoilt(f"rows-{name}", reason, RELATIVE | {"relative_rows": value}, {**KEYS}, *words)


CASES = [
    spoilt("order-short", "one number a layer", {"layer_order": ""}, {}, "'layer_order'", "1 int"),
    spoilt("order-long", "one number a layer", {"layer_order": "0 0"}, {}, "number 2 is wrong"),
    spoilt("order-past", "no such layer", {"layer_order": "1"}, {}, "from 0 to 0"),
    spoilt(
        "order-gap",
        "a stored layer that never runs",
        {"num_layers": "2", "layer_order": "1 1"},
        {},
        "every number from 0 to 1; 0 is missing",
    ),
    spoilt(
        "projection-absent", "E is 4", {"embedding_size": "4"}, {}, "embeddings.projection.weight"
    ),
    spoilt(
        "embedding-size-3",
        "tables of 4 columns",
        {"embedding_size": "3"},
        {"embeddings.projection.weight": floats(4, 3), "embeddings.projection.bias": floats(4)},
        "[10, 4]",
        "[10, 3]",
    ),
    spoilt(
        "positions-none", "a table all the same", {"position_kind": "none"}, {}, "'embeddings.pos"
    ),
    spoilt(
        "distance-bias-absent", "no table", {"distance_bias": "true"}, {}, "attention.distance_bias"
    ),
    spoilt(
        "distance-bias-narrow",
        "10 of 11 distances",
        {"distance_bias": "true"},
        {"attention.distance_bias": floats(2, 10)},
        "[2, 10]",
        "[2, 11]",
    ),
    spoilt("terms-alone", "of what", {"relative_terms": "keys"}, {}, "expected both or neither"),
    spoilt("rows-alone", "which terms", {"relative_rows": ROWS}, {}, "expected both or neither"),
    spoilt("terms-swapped", "one order", RELATIVE | {"relative_terms": "queries keys"}, {}, "keys"),
    spoilt("keys-absent", "no rows", RELATIVE, {}, "layers.0.attention.relative_keys"),
    spoilt(
        "keys-flat",
        "no matrix",
        RELATIVE,
        {"layers.0.attention.relative_keys": floats(12)},
        "[12]",
        "[R, A·D]",
    ),
    spoilt(
        "keys-wide",
        "4 columns",
        RELATIVE,
        {"layers.0.attention.relative_keys": floats(3, 5)},
        "[3, 5]",
        "[3, 4]",
    ),
    rows("short", "10 of 11 distances", "0 0 0 0 1 2 2 2 2 2", "11 integers", "number 11"),
    rows("long", "12 of 11 distances", ROWS + " 2", "11 integers", "number 12"),
    rows("past", "there are 3", "0 0 0 0 1 2 2 2 2 2 3", "from 0 to 2", "number 11"),
    rows("falling", "later distances, later rows", "0 0 1 0 1 2 2 2 2 2 2", "0 behind 1"),
    rows("jumping", "a tile would need rows without end", "0 0 0 0 2 2 2 2 2 2 2", "2 behind 0"),
    rows("negative", "before the table", "-1 0 0 0 1 2 2 2 2 2 2", "number 1 is wrong"),
    rows("double-space", "an empty number", ROWS.replace(" ", "  ", 1), "number 2 is wrong"),
    spoilt("scale-0", "every score would be 0", {"score_scale": "0"}, {}, "'score_scale'"),
    spoilt("scale-negative", "kernels take none", {"score_scale": "-1"}, {}, "'score_scale'"),
    spoilt("convolution-even", "no middle", {"convolution": "2"}, {}, "an odd number"),
    spoilt("convolution-257", "too wide", {"convolution": "257"}, {}, "from 1 to 255"),
    spoilt(
        "convolution-no-activation",
        "how it ends",
        {"convolution": "3"},
        {},
        "lacks the key 'convolution_activation'",
    ),
    spoilt(
        "convolution-absent",
        "no weights",
        {"convolution": "3", "convolution_activation": "tanh"},
        {},
        "convolution.weight",
    ),
    spoilt(
        "sequence-no-pool", "of which token", {"sequence_head": "dense:0:tanh"}, {}, "pool:MODE"
    ),
    spoilt("sequence-open", "no outputs", {"sequence_head": "pool:cls"}, {}, "a dense step at its"),
    spoilt(
        "sequence-normalize",
        "scores are not",
        {"sequence_head": "pool:cls normalize"},
        {},
        "'normalize'",
        "expected dense",
    ),
    spoilt("token-pool", "each token has its own", {"token_head": "pool:cls"}, {}, "'pool:cls'"),
    spoilt(
        "token-absent", "no weights", {"token_head": "dense:0:identity"}, {}, "token_head.dense.0"
    ),
    spoilt("vocabulary-open", "no words", {"vocabulary_head": "norm:0"}, {}, "expected decoder"),
    spoilt("vocabulary-more", "the last", {"vocabulary_head": "decoder norm:0"}, {}, "the last"),
    spoilt(
        "vocabulary-norm-1", "counts from 0", {"vocabulary_head": "norm:1 decoder"}, {}, "norm:0"
    ),
    spoilt(
        "vocabulary-tied",
        "embeddings have 4 columns",
        {"vocabulary_head": "dense:0:gelu decoder"},
        {
            "vocabulary_head.dense.0.weight": floats(3, 4),
            "vocabulary_head.dense.0.bias": floats(3),
        },
        "rows of 3 come before the decoder",
    ),
    spoilt(
        "decoder-short",
        "9 of 10 words",
        VOCABULARY,
        {"vocabulary_head.decoder.weight": floats(9, 4)},
        "[9, 4]",
        "[10, 4]",
    ),
    spoilt(
        "decoder-bias",
        "9 of 10 words",
        VOCABULARY,
        {"vocabulary_head.decoder.bias": floats(9)},
        "[9]",
        "[10]",
    ),
    spoilt("sparse-alone", "of which head", {"sparse": "max"}, {}, "no vocabulary_head"),
    spoilt("sparse-sum", "of a later version", VOCABULARY | {"sparse": "sum"}, {}, "'sum'", "max"),
    spoilt("labels-alone", "of which head", {"label.0": "a"}, {}, "names 1 labels", "0 outputs"),
    spoilt(
        "labels-gap",
        "no label.1",
        {"token_head": "dense:0:identity", "label.0": "a", "label.2": "b"},
        {"token_head.dense.0.weight": floats(2, 4)},
        "names 2 labels",
        "2 outputs",
    ),
    spoilt("label-nameless", "no N", {"label.": "a"}, {}, "unknown key 'label.'"),
    spoilt("problem", "unknown", {"problem": "ranking"}, {}, "'ranking'", "multi_label"),
    spoilt("mask-token", "no such word", {"mask_token": "10"}, {}, "from 0 to 9"),
]
