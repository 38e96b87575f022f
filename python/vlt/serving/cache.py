"""Results of sequences that came before. Exact: the same sequence always has the same result."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from vlt.sparse_vectors import SparseVectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# An entry's objects besides the bytes of key and numbers: those of the dict (about 100), a key's
# header (33), an array's (112), the tuple that holds them (56).
ENTRY_BYTES = 300


class ResultCache:
    """Keeps the results used last, within a number of bytes. From any thread.

    Attributes
    ----------
    hits, misses : int
        Sequences that were found, and that were not.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: bytes) -> Any:
        """A result, or None."""
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                self.misses += 1
                return None
            self.hits += 1
            self._rows.move_to_end(key)
            return row

    def put(self, key: bytes, row: NDArray[np.float32] | SparseVectors) -> None:
        """Keep a result, and drop those unused for the longest time. Larger than all is not."""
        size = _size(key, row)
        if size > self._max_bytes:
            return
        row = _own(row)
        with self._lock:
            if key in self._rows:
                return
            self._rows[key] = row
            self._bytes += size
            while self._bytes > self._max_bytes:
                oldest, dropped = self._rows.popitem(last=False)
                self._bytes -= _size(oldest, dropped)

    @property
    def num_bytes(self) -> int:
        """What is held."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._rows)


def _own(row: NDArray[np.float32] | SparseVectors) -> NDArray[np.float32] | SparseVectors:
    """A copy that nobody can change: a row is a view of its batch, which would be kept with it."""
    if isinstance(row, SparseVectors):
        arrays = _frozen(row.indptr), _frozen(row.indices), _frozen(row.values)
        return SparseVectors(*arrays, row.shape)
    return _frozen(row)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def _size(key: bytes, row: NDArray[np.float32] | SparseVectors) -> int:
    arrays = (row.indptr, row.indices, row.values) if isinstance(row, SparseVectors) else (row,)
    return ENTRY_BYTES * len(arrays) + len(key) + sum(array.nbytes for array in arrays)
