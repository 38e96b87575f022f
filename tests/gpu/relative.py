"""Relative positions for attention: a bias of distances, or rows that distances share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from gpu.cases import Random
from gpu.kernels import DEVICE, PreparedRelative


class Relative:
    """Random weights, rounded to `dtype`, so that the reference has what the kernels have.

    Parameters
    ----------
    bias : bool
        Whether distances have a bias.
    row : sequence of int, optional
        For the distances -(P - 1) … P - 1 their rows, ascending.
    keys, queries : bool
        Which of the two terms there are, where `row` is given.
    """

    def __init__(
        self,
        heads: int,
        size: int,
        longest: int,
        dtype: torch.dtype,
        *,
        bias: bool = False,
        row: Sequence[int] | None = None,
        keys: bool = False,
        queries: bool = False,
    ) -> None:
        draw, count = Random(heads * size + longest), 2 * longest - 1
        self._zero = longest - 1
        self.num_terms = 1 + keys + queries
        self._name = "+".join(
            name for name, given in (("bias", bias), ("keys", keys), ("queries", queries)) if given
        )
        self._bias = draw.normal(heads, count, scale=2) if bias else None
        self._row = None if row is None else torch.tensor(row, dtype=torch.int32, device=DEVICE)
        shape = (0 if row is None else row[-1] + 3, heads * size)  # the last rows are not used
        self._keys = draw.normal(*shape, dtype=dtype).float() if keys else None
        self._queries = draw.normal(*shape, dtype=dtype).float() if queries else None
        self.prepared = PreparedRelative(
            heads,
            size,
            count,
            dtype,
            bias=_on_host(self._bias),
            row=_on_host(self._row),
            key_rows=_on_host(self._keys),
            query_rows=_on_host(self._queries),
        )

    def __str__(self) -> str:
        return self._name

    def scores(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
        """What joins the scaled scores of q and k [n, A, L, D]: [n, A, L, L] of their dtype."""
        n, heads, length = q.shape[:3]
        places = torch.arange(length, device=q.device)
        index = places[None, :] - places[:, None] + self._zero
        total = q.new_zeros((n, heads, length, length))
        if self._bias is not None:
            total = total + self._bias.to(q.dtype)[:, index]
        if self._row is None:
            return total
        row = self._row[index].long().expand(n, heads, length, length)
        if self._keys is not None:
            products = q @ _by_head(self._keys, heads, q.dtype).transpose(-1, -2)
            total = total + products.gather(-1, row) * scale
        if self._queries is not None:
            products = k @ _by_head(self._queries, heads, k.dtype).transpose(-1, -2)
            of_keys = products.gather(-1, row.transpose(-1, -2))
            total = total + of_keys.transpose(-1, -2) * scale
        return total

    def largest(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
        """A bound [n, A] on the magnitude of what is added up to any score."""
        total = q.new_zeros(q.shape[:2])
        if self._bias is not None:
            total = total + self._bias.double().abs().amax(-1)
        for table, x in ((self._keys, q), (self._queries, k)):
            if table is not None:
                rows = _by_head(table, q.shape[1], torch.float64).norm(dim=-1).amax(-1)
                total = total + rows * x.norm(dim=-1).amax(-1) * scale
        return total


def _on_host(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values.cpu().contiguous()


def _by_head(rows: torch.Tensor, heads: int, dtype: torch.dtype) -> torch.Tensor:
    """[R, A·D] as [A, R, D]."""
    return rows.to(dtype).view(len(rows), heads, -1).transpose(0, 1)


def log_buckets(longest: int, buckets: int) -> list[int]:
    """As DeBERTa v2 has them: distances up to half the buckets have a row each, longer ones share
    rows, the more the longer they are."""
    half = buckets // 2

    def bucket(distance: int) -> int:
        if distance <= half:
            return distance
        part = math.log(distance / half) / math.log((longest - 1) / half)
        return half + math.ceil(part * (half - 1))

    sides = [bucket(distance) for distance in range(1, longest)]
    most = max(sides, default=0)
    return [most - side for side in reversed(sides)] + [most] + [most + side for side in sides]


def clipped(longest: int, most: int, step: int = 1) -> list[int]:
    """A row for every distance up to `most`; longer ones have the last. Rows are `step` apart."""
    distances = range(-(longest - 1), longest)
    return [step * (max(-most, min(most, distance)) + most) for distance in distances]
