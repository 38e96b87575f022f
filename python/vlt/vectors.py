"""What happens to embeddings after the model: normalising, quantising, comparing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Float32Array = NDArray[np.float32]

logger = logging.getLogger("vlt")

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

NORM_FLOOR = 1e-12  # a vector of zeros stays zeros
STEADY_RANGES = 100  # fewer vectors than this give 8-bit ranges that mean little


def normalize(vectors: Float32Array) -> Float32Array:
    """[n, D] -> [n, D] vectors of length 1, each by itself whatever else is in the array."""
    squares = np.square(vectors, dtype=np.float64).sum(axis=-1, keepdims=True)
    scaled: Float32Array = (vectors / np.maximum(np.sqrt(squares), NORM_FLOOR)).astype(np.float32)
    return scaled


def quantize(vectors: Float32Array, precision: str) -> NDArray[Any]:
    """Make vectors smaller, as sentence-transformers does.

    Parameters
    ----------
    vectors : [n, D] float32
    precision : str
        "int8", "uint8": 256 equal steps between each dimension's least and largest value among
        these vectors. "binary", "ubinary": the sign of each dimension, eight to a byte; "binary"
        is the same bytes less 128 as int8.

    Returns
    -------
    [n, D] int8 or uint8, or [n, ceil(D / 8)] int8 or uint8
        "float32" gives the vectors back.

    Raises
    ------
    InvalidArgumentError
        One single vector has no ranges for "int8" or "uint8".
    """
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
    steps = _steps(vectors, precision)
    return steps if precision == "uint8" else (steps ^ 0x80).view(np.int8)


def quantize_lists(arrays: list[Float32Array], precision: str) -> list[Any]:
    """`quantize` several [L_i, H] arrays with ranges taken from all of them."""
    if precision == "float32" or not arrays:
        return arrays
    ends = np.cumsum([len(array) for array in arrays])
    return np.split(quantize(np.concatenate(arrays), precision), ends[:-1])


def _steps(vectors: Float32Array, precision: str) -> NDArray[np.uint8]:
    """Which of the 256 steps of its dimension each value falls into."""
    if len(vectors) == 0:
        return vectors.astype(np.uint8)
    if len(vectors) == 1:
        raise InvalidArgumentError(
            f"precision {precision!r} takes each dimension's range from the vectors themselves "
            "and so needs more than one; encode more texts at once, or use 'float32' or 'binary'"
        )
    if len(vectors) < STEADY_RANGES:
        logger.warning(
            "the ranges for precision %r come from %d vectors only; with fewer than %d they say "
            "little about other vectors",
            precision,
            len(vectors),
            STEADY_RANGES,
        )
    low = vectors.min(axis=0)
    step = (vectors.max(axis=0) - low) / 255
    step[step == 0] = 1
    steps: NDArray[np.uint8] = np.clip(np.floor((vectors - low) / step), 0, 255).astype(np.uint8)
    return steps


def similarity(first: ArrayLike, second: ArrayLike, kind: str) -> Float32Array:
    """[n, D] and [m, D] vectors, or single ones -> [n, m] scores, higher for more alike.

    Distances ("euclidean", "manhattan") are given as negative numbers.
    """
    if kind not in SIMILARITIES:
        known = ", ".join(map(repr, SIMILARITIES))
        raise InvalidArgumentError(f"the similarity must be one of {known}, not {kind!r}")
    a, b = _rows(first), _rows(second)
    if a.shape[1] != b.shape[1]:
        raise InvalidArgumentError(
            f"vectors to compare must be equally long, not {a.shape[1]} and {b.shape[1]}"
        )
    if kind == "cosine":
        a, b = normalize(a), normalize(b)
    scores = np.empty((len(a), len(b)), np.float32)
    if kind in ("cosine", "dot"):
        return np.matmul(a, b.T, out=scores)
    for row, vector in enumerate(a):
        difference = b - vector
        if kind == "euclidean":
            scores[row] = -np.sqrt(np.square(difference).sum(axis=1))
        else:
            scores[row] = -np.abs(difference).sum(axis=1)
    return scores


def _rows(vectors: ArrayLike) -> Float32Array:
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2:
        raise InvalidArgumentError(f"vectors must be [D] or [n, D], not of shape {rows.shape}")
    return rows
