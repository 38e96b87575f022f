"""What tests of kernels for rows share: norms, and rows that are hard to normalise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gpu.batches import Plan
from gpu.cases import Random
from gpu.kernels import DEVICE, Norm
from gpu.native import MMA_QUERY_TILE

SPARE_ROWS = 5  # rows that the buffers have room for and the batch lacks


def count(rows: int) -> torch.Tensor:
    """A number of rows as the kernels read it: int32 [1] on the device."""
    return torch.tensor([rows], dtype=torch.int32, device=DEVICE)


def plan_of(lengths: Sequence[int]) -> Plan:
    return Plan.of(lengths, MMA_QUERY_TILE, DEVICE)


def norm_of(width: int) -> Norm:
    draw = Random(width)
    return Norm(1 + draw.normal(width, scale=0.3), draw.normal(width, scale=0.3), 1e-12)


def rows_of(width: int, dtype: torch.dtype, rows: int) -> torch.Tensor:
    """Random rows; among the first a constant, a large mean, tiny numbers, one outlier, zeros."""
    x = Random(width).normal(rows, width)
    x[0] = 3.7
    x[1] += 100
    x[2] *= 1e-5
    x[3, width // 2] = 1000
    x[4] = 0
    return x.to(dtype)
