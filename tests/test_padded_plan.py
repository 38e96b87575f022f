"""The dynamic programme is exact: as cheap as the best that brute force finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import vlt
from vlt.scheduling import PaddedCosts

LENGTHS, SIZES = [4, 16, 64], [1, 2, 4, 10]


@st.composite
def tables(draw: st.DrawFn, monotone: bool = False) -> PaddedCosts:
    cells = st.floats(0, 10, allow_subnormal=False)
    count = len(LENGTHS) * len(SIZES)
    seconds = np.reshape(draw(st.lists(cells, min_size=count, max_size=count)), (3, 4))
    if monotone:
        seconds = seconds.cumsum(0).cumsum(1)
    return PaddedCosts(LENGTHS, SIZES, seconds)


REQUESTS = st.lists(st.integers(1, LENGTHS[-1]), max_size=10)


def cost_of(table: PaddedCosts, lengths: list[int], batches: list[list[int]]) -> float:
    return sum(table.at(max(lengths[i] for i in batch), len(batch)) for batch in batches)


def cuts_of_sorted(lengths: list[int], most: int) -> Iterator[list[list[int]]]:
    """Every way to cut the sorted requests."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    for cuts in itertools.product([False, True], repeat=max(0, len(order) - 1)):
        ends = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(order)]
        batches = [order[a:b] for a, b in itertools.pairwise(ends)]
        if all(len(batch) <= most for batch in batches):
            yield [batch for batch in batches if batch]


def set_partitions(count: int) -> Iterator[list[list[int]]]:
    """Every way to put `count` requests into batches."""
    if count == 0:
        yield []
        return
    for rest in set_partitions(count - 1):
        for i in range(len(rest)):
            yield [*rest[:i], [*rest[i], count - 1], *rest[i + 1 :]]
        yield [*rest, [count - 1]]


def check_is_a_division(batches: list[list[int]], count: int, most: int) -> None:
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert all(1 <= len(batch) <= most for batch in batches)


@settings(max_examples=150, deadline=None)
@given(tables(), REQUESTS, st.integers(1, 10))
def test_equals_brute_force_over_all_cuts(
    table: PaddedCosts, lengths: list[int], most: int
) -> None:
    batches = table.plan(lengths, most)
    check_is_a_division(batches, len(lengths), most)
    best = min(cost_of(table, lengths, each) for each in cuts_of_sorted(lengths, most))
    assert cost_of(table, lengths, batches) == pytest.approx(best, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("count", range(11))
def test_equals_brute_force_at_every_number_of_requests(count: int) -> None:
    rng = np.random.default_rng(count)
    table = PaddedCosts(LENGTHS, SIZES, rng.uniform(0, 1, (3, 4)))
    lengths = rng.integers(1, LENGTHS[-1] + 1, count).tolist()
    for most in range(1, 11):
        batches = table.plan(lengths, most)
        check_is_a_division(batches, count, most)
        best = min(cost_of(table, lengths, each) for each in cuts_of_sorted(lengths, most))
        assert cost_of(table, lengths, batches) == pytest.approx(best, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(tables(monotone=True), st.lists(st.integers(1, LENGTHS[-1]), max_size=6))
def test_sorting_loses_nothing_where_costs_are_monotone(
    table: PaddedCosts, lengths: list[int]
) -> None:
    best = min(cost_of(table, lengths, each) for each in set_partitions(len(lengths)))
    planned = cost_of(table, lengths, table.plan(lengths))
    assert planned == pytest.approx(best, rel=1e-12, abs=1e-12)


@given(tables(), st.integers(1, LENGTHS[-1]), st.integers(1, SIZES[-1]))
def test_the_table_is_bilinear(table: PaddedCosts, length: int, size: int) -> None:
    def along(row: NDArray[np.float64]) -> float:
        return float(np.interp(size, SIZES, row))

    expected = float(np.interp(length, LENGTHS, [along(row) for row in table.seconds]))
    assert table.at(length, size) == pytest.approx(expected, rel=1e-12, abs=1e-12)


GOOD = np.ones((3, 4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([4, 4, 64], SIZES, GOOD), r"lengths\[1\] is 4; it must be above 4"),
        ((LENGTHS, [2, 1, 4, 10], GOOD), r"batch_sizes\[1\] is 1; it must be above 2"),
        ((LENGTHS, SIZES, GOOD[:2]), r"\(3, 4\), not \(2, 4\)"),
        ((LENGTHS, SIZES, -GOOD), r"seconds\[0\] is -1"),
        (([], SIZES, np.ones((0, 4))), "num_lengths is 0; it must be 1"),
        (([0, 1, 2], SIZES, GOOD), "lengths must be 1 .* not 0"),
    ],
)
def test_wrong_tables_are_refused(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        PaddedCosts(*arguments)  # type: ignore[arg-type]


def test_what_was_not_measured_is_refused() -> None:
    table = PaddedCosts(LENGTHS, SIZES, GOOD)
    with pytest.raises(vlt.InvalidArgumentError, match=r"lengths\[1\] is 65; it must be 1 … 64"):
        table.plan([3, 65])
    with pytest.raises(vlt.InvalidArgumentError, match="max_requests is 11; it must be 1 … 10"):
        table.plan([3], 11)
    with pytest.raises(vlt.InvalidArgumentError, match="batch_size is 11"):
        table.at(4, 11)
    with pytest.raises(TypeError, match="must be integers, not float64"):
        table.plan([1.5])
