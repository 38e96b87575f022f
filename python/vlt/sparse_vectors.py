"""Vectors of a weight for every word, of which most are zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import scores, vectors
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


class SparseVectors:
    """n vectors of V numbers, stored as those that are not zero (compressed rows, CSR).

    A sequence of its rows: `vectors[i]` is one vector again, a slice several.

    Attributes
    ----------
    indptr : [n + 1] int64
        Vector i has the entries from `indptr[i]` to before `indptr[i + 1]`.
    indices : [entries] int32
        Their words, ascending within a vector.
    values : [entries] float32
        Their weights.
    shape : tuple of int
        (n, V), or (V,) for a single vector.
    """

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        values: Float32Array,
        shape: tuple[int, ...],
    ) -> None:
        if len(indptr) != (shape[0] if len(shape) == 2 else 1) + 1 or len(indices) != len(values):
            raise InvalidArgumentError(
                f"indptr [{len(indptr)}], indices [{len(indices)}] and values [{len(values)}] are "
                f"not those of vectors of shape {shape}"
            )
        self.indptr = indptr
        self.indices = indices
        self.values = values
        self.shape = shape

    @classmethod
    def from_dense(cls, rows: Float32Array, most: int | None = None) -> SparseVectors:
        """Of [n, V] numbers keep those that are not zero, at most the `most` largest of a row."""
        parts = [np.flatnonzero(row) for row in rows]
        if most is not None:
            parts = [
                np.sort(part[scores.largest(np.abs(row[part]), most)])
                for row, part in zip(rows, parts, strict=True)
            ]
        indptr = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        indices = np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
        values = rows[np.repeat(np.arange(len(rows)), np.diff(indptr)), indices]
        return cls(indptr, indices, values, rows.shape)

    @classmethod
    def concatenate(cls, parts: Sequence[SparseVectors], size: int) -> SparseVectors:
        """The vectors of several, each of `size` numbers, one after another."""
        counts = [np.diff(part.indptr) for part in parts]
        indptr = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
        indices = np.concatenate([np.zeros(0, np.int32), *(part.indices for part in parts)])
        values = np.concatenate([np.zeros(0, np.float32), *(part.values for part in parts)])
        return cls(indptr, indices, values, (len(indptr) - 1, size))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[SparseVectors]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> SparseVectors:
        if len(self.shape) == 1:
            raise IndexError("a single vector has no rows; to_dense() has its numbers")
        if isinstance(index, slice):
            parts = [self[each] for each in range(*index.indices(len(self)))]
            return SparseVectors.concatenate(parts, self.shape[1])
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} vectors, and no vector {index}")
        begin, end = self.indptr[index % len(self) :][:2]
        indptr = np.array([0, end - begin], np.int64)
        return SparseVectors(
            indptr, self.indices[begin:end], self.values[begin:end], self.shape[1:]
        )

    @property
    def rows(self) -> NDArray[np.int64]:
        """[entries] int64: the vector of each entry."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def to_dense(self) -> Float32Array:
        """All numbers, of shape `shape`, float32."""
        dense = np.zeros((len(self.indptr) - 1, self.shape[-1]), np.float32)
        dense[self.rows, self.indices] = self.values
        return dense.reshape(self.shape)

    def to_scipy(self) -> Any:
        """A scipy.sparse.csr_matrix, [n, V], that shares the memory; [1, V] for a single vector."""
        try:
            from scipy.sparse import csr_matrix
        except ImportError as error:
            raise ImportError(f"to_scipy() needs the package scipy ({error})") from error
        shape = len(self.indptr) - 1, self.shape[-1]
        return csr_matrix((self.values, self.indices, self.indptr), shape=shape)

    def __repr__(self) -> str:
        return f"SparseVectors({list(self.shape)}, {len(self.values)} entries)"


def similarity(first: SparseVectors, second: SparseVectors, kind: str) -> Float32Array:
    """n and m vectors -> [n, m] scores, see `vlt.vectors.similarity`."""
    if first.shape[-1] != second.shape[-1]:
        raise InvalidArgumentError(
            f"vectors to compare must be equally long, not {first.shape[-1]} and {second.shape[-1]}"
        )
    if kind not in ("dot", "cosine"):
        return vectors.similarity(first.to_dense(), second.to_dense(), kind)
    products = np.empty((len(first.indptr) - 1, len(second.indptr) - 1), np.float32)
    rows = second.rows
    dense = np.zeros(first.shape[-1], np.float64)
    for index, (begin, end) in enumerate(zip(first.indptr[:-1], first.indptr[1:], strict=True)):
        words = first.indices[begin:end]
        dense[words] = first.values[begin:end]
        shares = dense[second.indices] * second.values
        products[index] = np.bincount(rows, shares, products.shape[1])
        dense[words] = 0
    if kind == "cosine":
        products /= np.outer(_lengths(first), _lengths(second)).astype(np.float32)
    return products


def _lengths(of: SparseVectors) -> NDArray[np.float64]:
    squares = np.bincount(of.rows, np.square(of.values, dtype=np.float64), len(of.indptr) - 1)
    return np.maximum(np.sqrt(squares), vectors.NORM_FLOOR)
