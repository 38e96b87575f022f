"""Attention by relative position: right at every length, and blind to the rest of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from gpu import kernels
from gpu.attention_checks import SHORT_AND_LONG, check, check_same_bits, lengths_upwards
from gpu.attention_problem import FAMILIES, Problem
from gpu.cases import DTYPES, HALVES, REDUCED, Random, name_of
from gpu.relative import Relative, clipped, log_buckets
from gpu.report import Report

pytestmark = pytest.mark.gpu

for_every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)

MODEL_HEADS = ((2, 64),) if REDUCED else ((12, 64), (12, 32), (3, 17))
_SIZES = (1, 7, 8, 16, 17, 24, 32, 40, 48, 64, 72, 80, 96, 112, 128, 136, 160, 250, 256)
SIZES = (17, 32) if REDUCED else _SIZES
MOST = 40 if REDUCED else 300  # every length up to it
LONGEST = 1100
_LIMITS = (1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 300)
LIMITS = (2, 17, 64, 129) if REDUCED else _LIMITS
FORMS = (
    "bias",
    "log buckets",
    "keys",
    "queries",
    "a row each",
    "few rows",
    "rows apart",
    "all",
)


def relative_of(
    form: str, heads: int, size: int, dtype: torch.dtype, longest: int = LONGEST
) -> Relative:
    buckets = log_buckets(longest, 256)
    rows, has_bias, keys, queries = {
        "bias": (None, True, False, False),  # MPNet
        "log buckets": (buckets, False, True, True),  # DeBERTa
        "keys": (buckets, False, True, False),
        "queries": (buckets, False, False, True),
        "a row each": (clipped(longest, longest - 1), False, True, True),
        "few rows": (clipped(longest, 5), False, True, True),
        "rows apart": (clipped(longest, 200, step=3), False, True, True),
        "all": (buckets, True, True, True),
    }[form]
    return Relative(
        heads, size, longest, dtype, bias=has_bias, row=rows, keys=keys, queries=queries
    )


def problem_of(
    lengths: Sequence[int], heads: int, size: int, dtype: torch.dtype, relative: Relative
) -> Problem:
    qkv = Random(heads * size).normal(sum(lengths), 3 * heads * size, dtype=dtype)
    return Problem(qkv, lengths, heads, relative)


@for_every_dtype
@pytest.mark.parametrize("form", ["bias", "log buckets"])
def test_every_length_is_right_and_no_worse_than_torch(form: str, dtype: torch.dtype) -> None:
    with Report() as report:
        for heads, size in MODEL_HEADS:
            relative = relative_of(form, heads, size, dtype)
            problem = problem_of(lengths_upwards(MOST), heads, size, dtype, relative)
            check(report, problem, f"lengths 0 … {MOST}, {form}", against_torch=True)


@for_every_dtype
@pytest.mark.parametrize("form", ["bias", "log buckets"])
def test_long_sequences_are_right_and_no_worse_than_torch(form: str, dtype: torch.dtype) -> None:
    lengths = [200] if REDUCED else [511, 512, 513, 1, 1024, 1023, 0, 1025, LONGEST]
    with Report() as report:
        for heads, size in ((2, 17), (2, 32), (2, 64), (2, 128), (1, 256)):
            relative = relative_of(form, heads, size, dtype)
            problem = problem_of(lengths, heads, size, dtype, relative)
            check(report, problem, f"long, {form}", against_torch=True)


@for_every_dtype
def test_every_term_and_map(dtype: torch.dtype) -> None:
    lengths = [5, 129, 40] if REDUCED else [*SHORT_AND_LONG, 500, 700]
    with Report() as report:
        for heads, size in ((2, 32), (3, 64), (2, 17)):
            for form in FORMS:
                relative = relative_of(form, heads, size, dtype)
                check(report, problem_of(lengths, heads, size, dtype, relative), form)


@for_every_dtype
def test_the_longest_sequence_has_every_distance(dtype: torch.dtype) -> None:
    """Tiles reach beyond the ends of all that is indexed by distance."""
    with Report() as report:
        for longest in (
            (2, 17, 64, 129) if REDUCED else (1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 300)
        ):
            for form in ("bias", "a row each", "few rows"):
                relative = relative_of(form, 2, 32, dtype, longest)
                problem = problem_of([longest, 1, longest], 2, 32, dtype, relative)
                check(report, problem, f"P={longest}, {form}")


@for_every_dtype
def test_every_head_size(dtype: torch.dtype) -> None:
    lengths = [3, 33, 130] if REDUCED else [1, 7, 16, 31, 64, 100, 128, 129, 200, 260]
    with Report() as report:
        for size in SIZES:
            for form in ("bias", "log buckets"):
                relative = relative_of(form, 2, size, dtype)
                check(report, problem_of(lengths, 2, size, dtype, relative), form)


@for_every_dtype
def test_a_sequence_does_not_see_the_rest_of_the_batch(dtype: torch.dtype) -> None:
    lengths = [length for length in SHORT_AND_LONG for _ in range(2)]
    with Report() as report:
        for heads, size in ((3, 17), (3, 32), (2, 64), (2, 128)):
            for form in ("bias", "log buckets"):
                relative = relative_of(form, heads, size, dtype)
                check_same_bits(report, problem_of(lengths, heads, size, dtype, relative))


@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
def test_devices_with_little_shared_memory(dtype: torch.dtype) -> None:
    """Where a kernel's tiles do not fit, another one is as right."""
    lengths, little = [1, 60, 129, 200], kernels.traits_with(max_shared_bytes=70 * 1024)
    with Report() as report:
        for size in (32, 64, 128):
            relative = relative_of("log buckets", 2, size, dtype)
            problem = problem_of(lengths, 2, size, dtype, relative)
            exact, bound = problem.exact()
            out, _ = problem.run("relative", little)
            report.within(f"{problem}", out.view[: problem.rows], exact, bound)
            report.intact(f"{problem}", out, problem.rows)


@for_every_dtype
def test_empty_batches_write_nothing(dtype: torch.dtype) -> None:
    with Report() as report:
        for form in ("bias", "log buckets"):
            relative = relative_of(form, 2, 32, dtype)
            for lengths in ([], [0], [0] * 100):
                problem = problem_of(lengths, 2, 32, dtype, relative)
                for family in filter(problem.fits, FAMILIES):
                    out, _ = problem.run(family)
                    report.intact(f"{family} {form} {len(lengths)} empty", out, 0)
