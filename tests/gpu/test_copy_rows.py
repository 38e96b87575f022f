"""Rows that are copies: chosen tokens, neighbours side by side, one token of each sequence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from gpu import kernels
from gpu.batches import Batch, Plan, starts_of
from gpu.cases import DTYPES, REDUCED, Random, name_of
from gpu.guarded import Guarded, guard
from gpu.kernels import DEVICE
from gpu.native import MMA_QUERY_TILE
from gpu.report import Report
from gpu.row_cases import SPARE_ROWS

pytestmark = pytest.mark.gpu

WIDTHS = (1, 8, 33) if REDUCED else (1, 3, 7, 8, 16, 33, 64, 130, 384, 768, 1000, 1024, 4096)
LENGTHS = (3, 0, 1, 17, 2, 40, 0, 0, 129, 1, 0)
POOLING_STARTS = (0, 0, 1, 3, 2, 39, 0, 0, 129, 0, 0)  # some leave no token at all

for_every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)


def out_dtypes(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    return (dtype,) if dtype == torch.float32 else (dtype, torch.float32)


def check(
    report: Report,
    kind: str,
    batch: Batch,
    plan: Plan,
    x: torch.Tensor,
    expected: torch.Tensor,
    width: int = 1,
) -> None:
    """Into rows with gaps, of both dtypes; and between addresses read on the device."""
    rows, cols = expected.shape
    source = guard(x, SPARE_ROWS)
    for dtype in out_dtypes(x.dtype):
        case = f"{kind} H={x.shape[1]} {name_of(x.dtype)} -> {name_of(dtype)}, {width} wide"
        out = Guarded(rows + SPARE_ROWS, cols, dtype, DEVICE)
        kernels.copy_rows(kind, batch, plan, source.view, out.view, width=width)
        report.same_bits(case, out.view[:rows], expected.to(dtype))
        report.intact(case, out, rows)
        dense = Guarded(rows + SPARE_ROWS, cols, dtype, DEVICE, stride=cols)
        kernels.copy_rows(
            kind,
            batch,
            plan,
            x,
            dense.view,
            width=width,
            indirect_in=kernels.pointer(x),
            indirect_out=kernels.pointer(dense.view),
        )
        report.same_bits(f"{case}, indirect", dense.view[:rows], expected.to(dtype))
        report.intact(f"{case}, indirect", dense, rows)


def unfolded(x: torch.Tensor, lengths: Sequence[int], width: int) -> torch.Tensor:
    cols, half = x.shape[1], width // 2
    out = x.new_zeros((len(x), width * cols))
    for first, length in zip(starts_of(lengths), lengths, strict=False):
        padded = x.new_zeros((length + 2 * half, cols))
        padded[half : half + length] = x[first : first + length]
        for part in range(width):
            columns = slice(part * cols, (part + 1) * cols)
            out[first : first + length, columns] = padded[part : part + length]
    return out


@for_every_dtype
def test_gather(dtype: torch.dtype) -> None:
    total = sum(LENGTHS)
    with Report() as report:
        for chosen in ([0], [total - 1], [2, 3, 50, total - 1], list(range(total)), []):
            batch = Batch.of(starts_of(LENGTHS), DEVICE, chosen_tokens=chosen)
            plan = Plan.of(LENGTHS, MMA_QUERY_TILE, DEVICE, len(chosen))
            for cols in WIDTHS:
                x = Random(cols).normal(total, cols, dtype=dtype)
                check(report, "gather_chosen", batch, plan, x, x[chosen])


@for_every_dtype
def test_unfold(dtype: torch.dtype) -> None:
    batch, plan = Batch.of(starts_of(LENGTHS), DEVICE), Plan.of(LENGTHS, MMA_QUERY_TILE, DEVICE)
    with Report() as report:
        for cols in WIDTHS:
            x = Random(cols).normal(sum(LENGTHS), cols, dtype=dtype)
            for width in (1, 3, 5):
                check(report, "unfold", batch, plan, x, unfolded(x, LENGTHS, width), width)


@for_every_dtype
def test_pool_of_one_token_a_sequence(dtype: torch.dtype) -> None:
    lengths = torch.tensor(LENGTHS, device=DEVICE)
    with Report() as report:
        for starts in (None, POOLING_STARTS):
            batch = Batch.of(starts_of(LENGTHS), DEVICE, pooling_starts=starts)
            plan = Plan.of(LENGTHS, MMA_QUERY_TILE, DEVICE)
            skipped = torch.tensor(starts or [0] * len(LENGTHS), device=DEVICE)
            for cols in WIDTHS:
                x = Random(cols).normal(len(LENGTHS), cols, dtype=dtype)
                expected = torch.where((skipped < lengths)[:, None], x, torch.zeros_like(x))
                check(report, "pool_single", batch, plan, x, expected)


def test_many_sequences() -> None:
    """The search for a token's sequence among thousands, most of them empty or short."""
    lengths = [(0, 1, 0, 2, 9)[i * 7 % 5] for i in range(60 if REDUCED else 6000)]
    batch, plan = Batch.of(starts_of(lengths), DEVICE), Plan.of(lengths, MMA_QUERY_TILE, DEVICE)
    x = Random(5).normal(sum(lengths), 8, dtype=torch.float16)
    with Report() as report:
        check(report, "unfold", batch, plan, x, unfolded(x, lengths, 3), 3)
