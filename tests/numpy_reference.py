"""The encoder written plainly in numpy: what a weights file means, one line an operation.

It reads a converted weights file and runs in float64, where it is the truth that kernels are held
against, or in float32, where its error is what a straightforward float32 program loses.
Letters: T tokens, S sequences, L length of one, H hidden, E embedding, A heads, D head size,
F feed-forward, V vocabulary, M longest sequence, R rows of relative positions, K convolved tokens.
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
            if tensor.dtype not in ("U8", "I8")
        }
        for name, tensor in file.items():
            if tensor.dtype == "I8":
                self._weights[name] = self._dequantized(name.removesuffix("weight"), tensor.array)
        self._norm_eps = dtype(float(self.metadata["norm_eps"]))

    def _dequantized(self, prefix: str, numbers: Array) -> Array:
        scales = self._weights[f"{prefix}scales"]
        return numbers * scales[:, None] * self._weights.get(f"{prefix}input_factors", 1)

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
        return self._pooled_head("embedding_head", "head", states, sequence_starts, pooling_starts)

    def logits(self, states: Array, sequence_starts: Ids) -> Array:
        """Scores of each text's labels, [S, labels], by the file's `sequence_head`."""
        return self._pooled_head("sequence_head", "sequence_head", states, sequence_starts, None)

    def token_logits(self, states: Array) -> Array:
        """Scores of each token's labels, [T, labels], by the file's `token_head`."""
        for step in self.metadata["token_head"].split(" "):
            states = self._head_step(states, step, "token_head")
        return states

    def vocabulary(self, states: Array) -> Array:
        """Scores of every word at each token, [T, V], by the file's `vocabulary_head`."""
        for step in self.metadata["vocabulary_head"].split(" "):
            states = self._head_step(states, step, "vocabulary_head")
        return states

    def sparse(self, states: Array, sequence_starts: Ids) -> Array:
        """Sparse embeddings, [S, V]: the largest weight of each word in a text."""
        assert self.metadata["sparse"] == "max"
        weights = np.log1p(np.maximum(self.vocabulary(states), 0))
        spans = _spans(sequence_starts)
        return np.array([weights[begin:end].max(axis=0, initial=0) for begin, end in spans])

    def _pooled_head(
        self,
        key: str,
        role: str,
        states: Array,
        sequence_starts: Ids,
        pooling_starts: Ids | None,
    ) -> Array:
        starts = np.zeros(len(sequence_starts) - 1) if pooling_starts is None else pooling_starts
        first, *steps = self.metadata[key].split(" ")
        modes = first.removeprefix("pool:").split("+")
        pooled = [
            _pool(states[begin:end], int(start), modes)
            for (begin, end), start in zip(_spans(sequence_starts), starts, strict=True)
        ]
        vectors = np.array(pooled, self.dtype).reshape(len(pooled), -1)
        for step in steps:
            vectors = self._head_step(vectors, step, role)
        return vectors

    def _sequence(self, ids: Ids, types: Ids) -> Array:
        embedded = x = self._embed(ids, types)
        for layer, stored in enumerate(self._layer_order()):
            at = f"layers.{stored}"
            attended = self._attention(self._linear(x, f"{at}.attention.qkv"), f"{at}.attention")
            x = self._norm(
                self._linear(attended, f"{at}.attention.output") + x, f"{at}.attention.norm"
            )
            up = ACTIVATIONS[self.metadata["activation"]](self._linear(x, f"{at}.ffn.up"))
            x = self._norm(self._linear(up, f"{at}.ffn.down") + x, f"{at}.ffn.norm")
            if layer == 0 and "convolution" in self.metadata:
                x = self._norm(x + self._convolution(embedded), "convolution.norm")
        return x

    def _layer_order(self) -> list[int]:
        count = int(self.metadata["num_layers"])
        order = self.metadata.get("layer_order", " ".join(map(str, range(count))))
        return [int(stored) for stored in order.split(" ")]

    def _embed(self, ids: Ids, types: Ids) -> Array:
        offset = int(self.metadata["position_offset"])
        x = self._weights["embeddings.word"][ids]
        if self.metadata["num_token_types"] != "0":
            x = x + self._weights["embeddings.token_type"][types]
        if self.metadata["position_kind"] == "absolute":
            x = x + self._weights["embeddings.position"][offset : offset + len(ids)]
        x = self._norm(x, "embeddings.norm")
        if "embedding_size" in self.metadata:
            x = self._linear(x, "embeddings.projection")
        return x

    def _convolution(self, embedded: Array) -> Array:
        """[L, H] of the embeddings [L, H] of K tokens around each; zeros beyond the ends."""
        width = int(self.metadata["convolution"])
        around = np.pad(embedded, ((width // 2, width // 2), (0, 0)))
        windows = [around[k : k + len(embedded)] for k in range(width)]
        out = self._linear(np.concatenate(windows, axis=1), "convolution")
        return ACTIVATIONS[self.metadata["convolution_activation"]](out)

    def _attention(self, qkv: Array, at: str) -> Array:
        heads, size = int(self.metadata["num_heads"]), int(self.metadata["head_size"])
        q, k, v = qkv.reshape(len(qkv), 3, heads, size).transpose(1, 2, 0, 3)  # each [A, L, D]
        scores = q @ k.transpose(0, 2, 1)  # [A, L, L]
        if "relative_rows" in self.metadata:
            scores = scores + self._relative_terms(q, k, at)
        scores = scores * self.dtype(self.metadata.get("score_scale", 1 / math.sqrt(size)))
        if self.metadata.get("distance_bias") == "true":
            scores = scores + self._weights["attention.distance_bias"][:, self._distances(len(qkv))]
        weights = np.exp(scores - scores.max(axis=-1, initial=-np.inf, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out: Array = (weights @ v).transpose(1, 0, 2).reshape(len(qkv), heads * size)
        return out

    def _distances(self, length: int) -> npt.NDArray[np.int64]:
        """[L, L]: for each query and key the place of key - query among all distances."""
        longest = int(self.metadata["num_positions"]) - int(self.metadata["position_offset"])
        place = np.arange(length)
        return place[None, :] - place[:, None] + longest - 1

    def _relative_terms(self, q: Array, k: Array, at: str) -> Array:
        """[A, L, L]: queries by the keys of distances, keys by the queries of distances."""
        heads, length, size = q.shape
        rows = np.array(self.metadata["relative_rows"].split(" "), np.int64)
        row = np.broadcast_to(rows[self._distances(length)], (heads, length, length))
        out = np.zeros(row.shape, self.dtype)
        for term in self.metadata["relative_terms"].split(" "):
            table = self._weights[f"{at}.relative_{term}"].reshape(-1, heads, size)
            table = table.transpose(1, 2, 0)  # [A, D, R]
            if term == "keys":
                out += np.take_along_axis(q @ table, row, axis=2)
            else:
                out += np.take_along_axis(k @ table, row.transpose(0, 2, 1), axis=2).swapaxes(1, 2)
        return out

    def _linear(self, x: Array, name: str) -> Array:
        out = x @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return out if bias is None else out + bias

    def _norm(self, x: Array, name: str) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._norm_eps)
        return x / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _head_step(self, vectors: Array, step: str, role: str) -> Array:
        if step == "normalize":
            length = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
            return vectors / np.maximum(length, self.dtype(1e-12))
        if step == "decoder":
            table = self._weights.get(f"{role}.decoder.weight", self._weights["embeddings.word"])
            return vectors @ table.T + self._weights.get(f"{role}.decoder.bias", self.dtype(0))
        kind, index, *activation = step.split(":")
        if kind == "norm":
            return self._norm(vectors, f"{role}.norm.{index}")
        return ACTIVATIONS[activation[0]](self._linear(vectors, f"{role}.dense.{index}"))


def _spans(sequence_starts: Ids) -> Iterator[tuple[int, int]]:
    return zip(sequence_starts[:-1].tolist(), sequence_starts[1:].tolist(), strict=True)


def _pool(states: Array, start: int, modes: list[str]) -> Array:
    index = np.arange(len(states))[start:]
    if len(index) == 0:
        return np.zeros(len(modes) * states.shape[1], states.dtype)
    return np.concatenate([POOLING[mode](states[start:], index) for mode in modes])
