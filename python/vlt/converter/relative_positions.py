"""Distances between tokens as rows of a table: the buckets of MPNet and of DeBERTa.

A distance is key - query, from -(M - 1) to M - 1 for texts of up to M tokens. transformers counts
buckets in float32; a distance that falls on a border falls where float32 puts it. The logarithm
here is rounded from float64, and so the same on every machine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_T5_BUCKETS = 32
_T5_LONGEST = 128


def distances(longest: int) -> NDArray[np.int64]:
    """Every distance in texts of up to `longest` tokens, ascending."""
    return np.arange(-(longest - 1), longest)


def t5_buckets(keys_minus_queries: NDArray[np.int64]) -> NDArray[np.int64]:
    """MPNet's bucket of each distance: 16 for the keys before, 16 for those behind.

    Of either half 8 are for single distances, 8 for ranges that grow to 128.
    """
    half, exact = _T5_BUCKETS // 2, _T5_BUCKETS // 4
    size = np.abs(keys_minus_queries)
    spread = np.float32(math.log(_T5_LONGEST / exact))
    scaled = _log(np.maximum(size, 1) / np.float32(exact)) / spread * np.float32(half - exact)
    far = np.minimum(exact + scaled.astype(np.int64), half - 1)
    return np.where(keys_minus_queries > 0, half, 0) + np.where(size < exact, size, far)


def log_buckets(
    offsets: NDArray[np.int64], num_buckets: int, max_position: int
) -> NDArray[np.int64]:
    """DeBERTa's bucket of each offset: itself up to half of `num_buckets`, then by logarithm."""
    middle = num_buckets // 2
    buckets = offsets.copy()
    far = np.abs(offsets) > middle
    ratios = np.abs(offsets[far]).astype(np.float32) / np.float32(middle)
    longest = _log((max_position - 1) / middle)
    steps = np.ceil(_log(ratios) / longest * np.float32(middle - 1)).astype(np.int64)
    buckets[far] = np.sign(offsets[far]) * (steps + middle)
    return buckets


def _log(values: Any) -> NDArray[np.float32]:
    return np.log(np.asarray(values, np.float32).astype(np.float64)).astype(np.float32)
