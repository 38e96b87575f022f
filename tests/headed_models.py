"""The tiny model with heads for every task, and the formulas of these heads in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlt.packed_array import PackedArray
from vlt.safetensors_file import SafetensorsFile, Tensor
from vlt.safetensors_writer import SafetensorsWriter, StoredTensor

Array = NDArray[Any]

HIDDEN = 32
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
MASK = 4  # id of [MASK] in the tiny vocabulary

SEQUENCE = {"sequence_head": "pool:cls dense:0:tanh dense:1:identity"}
TOKEN = {"token_head": "dense:0:identity"}
VOCABULARY = {"vocabulary_head": "dense:0:gelu norm:0 decoder", "mask_token": str(MASK)}

# Name -> the metadata that a head adds, and how many outputs it has (V where there are none).
HEADS: dict[str, tuple[dict[str, str], int]] = {
    "rerank": (SEQUENCE, 1),
    "regression": (SEQUENCE | {"problem": "regression"}, 1),
    "moods": (SEQUENCE | {"label.0": "sad", "label.1": "calm", "label.2": "glad"}, 3),
    "topics": (SEQUENCE | {"problem": "multi_label"}, 4),
    "tags": (TOKEN | {f"label.{index}": tag for index, tag in enumerate(TAGS)}, len(TAGS)),
    "answers": (TOKEN, 2),
    "words": (VOCABULARY, 0),
    "splade": (VOCABULARY | {"sparse": "max"}, 0),
}

HEAD_KEYS = ("sequence_head", "token_head", "vocabulary_head")


def write_headed(base: Path, out: Path, name: str, **metadata: str) -> Path:
    """A copy of a weights file with one of `HEADS`, of random weights, and further metadata."""
    added, outputs = HEADS[name]
    file = SafetensorsFile(base)
    tensors = {key: tensor for key, tensor in file.items() if not key.startswith("_pad.")}
    if metadata.get("num_token_types") == "0":
        del tensors["embeddings.token_type"]
    vocab = file["embeddings.word"].shape[0]
    arrays = random_tensors(added, outputs, vocab)
    tensors |= {key: Tensor("F32", array) for key, array in arrays.items()}
    stored = {key: StoredTensor(t.dtype, t.shape, (t,)) for key, t in tensors.items()}
    SafetensorsWriter(stored, {**file.metadata, **added, **metadata}).save(out)
    return out


def random_tensors(metadata: Mapping[str, str], outputs: int, vocab: int) -> dict[str, Array]:
    """Tensors of a head: large weights, so that scores differ visibly."""
    rng = np.random.default_rng(11)
    key = next(key for key in HEAD_KEYS if key in metadata)
    steps = [step.split(":") for step in metadata[key].split()]
    dense = [index for kind, index, *_ in (s for s in steps if s[0] == "dense")]
    tensors: dict[str, Array] = {}
    for index in dense:
        out = outputs if outputs and index == dense[-1] else HIDDEN
        tensors[f"{key}.dense.{index}.weight"] = rng.normal(0, 0.3, (out, HIDDEN))
        tensors[f"{key}.dense.{index}.bias"] = rng.normal(0, 0.1, out)
    if key == "vocabulary_head":
        tensors[f"{key}.norm.0.weight"] = rng.normal(1, 0.2, HIDDEN)
        tensors[f"{key}.norm.0.bias"] = rng.normal(0, 0.1, HIDDEN)
        tensors[f"{key}.decoder.bias"] = rng.normal(-1, 1, vocab)
    return {name: array.astype(np.float32) for name, array in tensors.items()}


# ---- What the heads compute ----------------------------------------------------------------------


def apply_head(path: Path, key: str, states: PackedArray) -> Array:
    """[T, N] of a token or vocabulary head, [S, N] of a sequence head, in float64."""
    file = SafetensorsFile(path)
    values = states.values.astype(np.float64)
    for step in file.metadata[key].split():
        kind, *rest = step.split(":")
        if kind == "pool":
            assert rest == ["cls"]
            values = values[states.offsets[:-1]]
        elif kind == "dense":
            weight, bias = (_tensor(file, f"{key}.dense.{rest[0]}.{n}") for n in ("weight", "bias"))
            values = ACTIVATIONS[rest[1]](values @ weight.T + bias)
        elif kind == "norm":
            weight, bias = (_tensor(file, f"{key}.norm.{rest[0]}.{n}") for n in ("weight", "bias"))
            centred = values - values.mean(axis=-1, keepdims=True)
            scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPS)
            values = centred / scale * weight + bias
        else:
            values = values @ _tensor(file, "embeddings.word").T
            values = values + _tensor(file, f"{key}.decoder.bias")
    return values


def sparse_rows(logits: Array, states: PackedArray) -> Array:
    """[S, V]: log(1 + max(logit, 0)), the largest of each text's tokens."""
    weights = np.log1p(np.maximum(logits, 0))
    rows = np.zeros((len(states), logits.shape[1]))
    for index, (begin, end) in enumerate(zip(states.offsets[:-1], states.offsets[1:], strict=True)):
        rows[index] = weights[begin:end].max(axis=0, initial=0)
    return rows


NORM_EPS = 1e-12  # of the tiny model


def _gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "gelu": _gelu,
}


def _tensor(file: SafetensorsFile, name: str) -> Array:
    return file[name].to_float32().astype(np.float64)
