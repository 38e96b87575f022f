"""Attention at every length: right, no worse than PyTorch, and blind to the rest of the batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from gpu.attention_checks import SHORT_AND_LONG, check, check_same_bits, lengths_upwards
from gpu.attention_problem import FAMILIES, Problem, sequence_rows
from gpu.cases import DTYPES, HALVES, REDUCED, Random, name_of
from gpu.report import Report

pytestmark = pytest.mark.gpu

for_every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)

# Heads and head size of the three models.
MODEL_HEADS = ((2, 64),) if REDUCED else ((12, 32), (12, 64), (16, 64))
# Sizes beside every multiple that a kernel may want, and one head more than it may pair up.
_SIZES = (16, 17, 24, 26, 32, 48, 64, 80, 96, 112, 128, 160, 256)
_ALL_HEADS = (*((3, size) for size in _SIZES), (1, 1), (1, 64), (2, 7), (5, 32))
HEADS = ((3, 32), (1, 17)) if REDUCED else _ALL_HEADS


def long_lengths() -> list[int]:
    around = [base + step for base in (384, 512, 1024) for step in (-1, 0, 1)]
    return [200] if REDUCED else [*around, 4096, 4097, 2, 4095, 0, 1]


def problem_of(lengths: Sequence[int], heads: int, size: int, dtype: torch.dtype) -> Problem:
    qkv = Random(heads * size).normal(sum(lengths), 3 * heads * size, dtype=dtype)
    return Problem(qkv, lengths, heads)


@for_every_dtype
def test_every_length_is_right_and_no_worse_than_torch(dtype: torch.dtype) -> None:
    with Report() as report:
        for heads, size in MODEL_HEADS:
            lengths = lengths_upwards(40 if REDUCED else 260)
            check(report, problem_of(lengths, heads, size, dtype), "lengths 0 … 260", True)


@for_every_dtype
def test_long_sequences_are_right_and_no_worse_than_torch(dtype: torch.dtype) -> None:
    with Report() as report:
        for heads, size in ((2, 17), (3, 32), (2, 64), (2, 128), (1, 256)):
            problem = problem_of(long_lengths(), heads, size, dtype)
            check(report, problem, "long", against_torch=True)


@for_every_dtype
def test_every_head_size(dtype: torch.dtype) -> None:
    lengths = lengths_upwards(20 if REDUCED else 150) + list(SHORT_AND_LONG)
    with Report() as report:
        for heads, size in HEADS:
            check(report, problem_of(lengths, heads, size, dtype), "many lengths")


@for_every_dtype
def test_many_short_sequences(dtype: torch.dtype) -> None:
    """More items than a grid has blocks, of each class alone and mixed."""
    count = 10 if REDUCED else 3000
    draw = random.Random(9)
    mixed = [min(300, int(draw.paretovariate(0.8))) for _ in range(count)]
    with Report() as report:
        for lengths in ([1] * count, [9] * count, [32] * count, [100] * (count // 3), mixed):
            for heads, size in ((2, 32), (1, 64)):
                label = f"{len(lengths)} of {lengths[0]}" if lengths is not mixed else "Pareto"
                check(report, problem_of(lengths, heads, size, dtype), label)


@for_every_dtype
def test_empty_batches_write_nothing(dtype: torch.dtype) -> None:
    with Report() as report:
        for lengths in ([], [0], [0] * 100):
            problem = problem_of(lengths, 2, 32, dtype)
            for family in filter(problem.fits, FAMILIES):
                out, _ = problem.run(family)
                report.intact(f"{family} {len(lengths)} empty sequences", out, 0)


@for_every_dtype
def test_large_scores(dtype: torch.dtype) -> None:
    """Peaked weights, and scores of thousands of either sign: no overflow, no division by zero."""
    lengths = list(SHORT_AND_LONG)
    with Report() as report:
        for size in (32, 64, 128):
            for factor in (8.0, 60.0):
                qkv = Random(size).normal(sum(lengths), 3 * 2 * size)
                qkv[:, : 2 * 2 * size] *= factor
                check(report, Problem(qkv.to(dtype), lengths, 2), f"scores × {factor**2:.0f}")


@for_every_dtype
def test_a_sequence_does_not_see_the_rest_of_the_batch(dtype: torch.dtype) -> None:
    lengths = [length for length in SHORT_AND_LONG for _ in range(2)]
    with Report() as report:
        for heads, size in (*MODEL_HEADS, (3, 17), (3, 32), (2, 128)):
            check_same_bits(report, problem_of(lengths, heads, size, dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
def test_nan_in_a_sequence_stays_in_its_head_and_is_not_hidden(dtype: torch.dtype) -> None:
    """One NaN among the values of one head: that column is NaN, other heads are as ever."""
    lengths, heads, size = list(SHORT_AND_LONG), 3, 32
    clean = problem_of(lengths, heads, size, dtype)
    qkv = clean.qkv.clone()
    column = 2 * heads * size + size + 4  # of the second head's values
    rows = [sequence_rows(lengths, i).stop - 1 for i in range(len(lengths))]
    qkv[rows, column] = torch.nan
    ill = Problem(qkv, lengths, heads)
    others = [c for c in range(heads * size) if not size <= c < 2 * size]
    with Report() as report:
        for family in filter(clean.fits, FAMILIES):
            actual = ill.result(family)
            report.same_bits(family, actual[:, others], clean.result(family)[:, others])
            all_nan = bool(actual[:, size + 4].isnan().all())
            report.require(family, all_nan, "a NaN among the values was lost")
