"""The encoder written plainly in numpy: what a weights file means, one line an operation.

It reads a converted weights file and runs in float64, where it is the truth that kernels are held
against, or in float32, where its error is what a straightforward float32 program loses.
Letters: T tokens, S sequences, L length of one, H hidden, A heads, D head size, F feed-forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vlt.safetensors_file import SafetensorsFile

Array: TypeAlias = npt.NDArray[Any]
Ids: TypeAlias = npt.NDArray[np.int32]
FloatType: TypeAlias = type[np.float64] | type[np.float32]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: Array) -> Array:
    return x * (0.5 + 0.5 * _erf(x / math.sqrt(2)).astype(x.dtype))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
}

# Each takes the states to pool, [L, H] with L >= 1, and their tokens' indices in the sequence.
POOLING: dict[str, Callable[[Array, Array], Array]] = {
    "cls": lambda x, index: x[0],
    "lasttoken": lambda x, index: x[-1],
    "max": lambda x, index: x.max(axis=0),
    "mean": lambda x, index: x.sum(axis=0) / x.dtype.type(len(x)),
    "mean_sqrt_len": lambda x, index: x.sum(axis=0) / np.sqrt(x.dtype.type(len(x))),
    "weightedmean": lambda x, index: (
        (x * (index + 1)[:, None].astype(x.dtype)).sum(axis=0) / x.dtype.type((index + 1).sum())
    ),
}


class NumpyEncoder:
    """A weights file's encoder, computed in `dtype` throughout."""

    def __init__(self, path: Path, dtype: FloatType = np.float64) -> None:
        file = SafetensorsFile(path)
        self.metadata = file.metadata
        self.dtype = dtype
        self._weights: dict[str, Array] = {
            name: tensor.to_float32().astype(dtype)
            for name, tensor in file.items()
            if tensor.dtype != "U8"
        }
        self._norm_eps = dtype(float(self.metadata["norm_eps"]))

    def states(self, token_ids: Ids, sequence_starts: Ids, token_types: Ids | None = None) -> Array:
        """The last layer's states [T, H] of packed token ids [T]; starts are [S + 1]."""
        types = np.zeros_like(token_ids) if token_types is None else token_types
        out = np.empty((len(token_ids), int(self.metadata["hidden_size"])), self.dtype)
        for begin, end in _spans(sequence_starts):
            out[begin:end] = self._sequence(token_ids[begin:end], types[begin:end])
        return out

    def embed(
        self, states: Array, sequence_starts: Ids, pooling_starts: Ids | None = None
    ) -> Array:
        """States [T, H] turned into [S, D] by the steps of the file's `embedding_head`."""
        starts = np.zeros(len(sequence_starts) - 1) if pooling_starts is None else pooling_starts
        first, *steps = self.metadata["embedding_head"].split(" ")
        modes = first.removeprefix("pool:").split("+")
        pooled = [
            _pool(states[begin:end], int(start), modes)
            for (begin, end), start in zip(_spans(sequence_starts), starts, strict=True)
        ]
        vectors = np.array(pooled, self.dtype).reshape(len(pooled), -1)
        for step in steps:
            vectors = self._head_step(vectors, step)
        return vectors

    def _sequence(self, ids: Ids, types: Ids) -> Array:
        x = self._embed_layernorm(ids, types)
        for layer in range(int(self.metadata["num_layers"])):
            at = f"layers.{layer}"
            attended = self._attention(self._linear(x, f"{at}.attention.qkv"))
            x = self._norm(
                self._linear(attended, f"{at}.attention.output") + x, f"{at}.attention.norm"
            )
            up = ACTIVATIONS[self.metadata["activation"]](self._linear(x, f"{at}.ffn.up"))
            x = self._norm(self._linear(up, f"{at}.ffn.down") + x, f"{at}.ffn.norm")
        return x

    def _embed_layernorm(self, ids: Ids, types: Ids) -> Array:
        offset = int(self.metadata["position_offset"])
        x = self._weights["embeddings.word"][ids]
        if self.metadata["num_token_types"] != "0":
            x = x + self._weights["embeddings.token_type"][types]
        x = x + self._weights["embeddings.position"][offset : offset + len(ids)]
        return self._norm(x, "embeddings.norm")

    def _attention(self, qkv: Array) -> Array:
        heads, size = int(self.metadata["num_heads"]), int(self.metadata["head_size"])
        q, k, v = qkv.reshape(len(qkv), 3, heads, size).transpose(1, 2, 0, 3)  # each [A, L, D]
        scores = q @ k.transpose(0, 2, 1) * self.dtype(1 / math.sqrt(size))  # [A, L, L]
        weights = np.exp(scores - scores.max(axis=-1, initial=-np.inf, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out: Array = (weights @ v).transpose(1, 0, 2).reshape(len(qkv), heads * size)
        return out

    def _linear(self, x: Array, name: str) -> Array:
        out = x @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return out if bias is None else out + bias

    def _norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._norm_eps)
        return x / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _head_step(self, vectors: Array, step: str) -> Array:
        if step == "normalize":
            length = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
            return vectors / np.maximum(length, self.dtype(1e-12))
        _, index, activation = step.split(":")
        return ACTIVATIONS[activation](self._linear(vectors, f"head.dense.{index}"))


def _spans(sequence_starts: Ids) -> Iterator[tuple[int, int]]:
    return zip(sequence_starts[:-1].tolist(), sequence_starts[1:].tolist(), strict=True)


def _pool(states: Array, start: int, modes: list[str]) -> Array:
    index = np.arange(len(states))[start:]
    if len(index) == 0:
        return np.zeros(len(modes) * states.shape[1], states.dtype)
    return np.concatenate([POOLING[mode](states[start:], index) for mode in modes])
