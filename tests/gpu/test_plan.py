"""plan_batch: the lists of attention items, and every rule that a batch may break."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from gpu import native
from gpu.batches import Batch, Item, Plan, items_of, starts_of
from gpu.cases import REDUCED
from gpu.kernels import DEVICE, ErrorSlot, plan_batch
from gpu.report import Report

pytestmark = pytest.mark.gpu

MAX_LENGTH = 8192
TILES = (native.MMA_QUERY_TILE, *native.HOPPER_QUERY_TILES)
# "Longest first" is as fine as this: no sequence is longer by so many tokens than the one before.
COARSENESS = MAX_LENGTH // 64
EMPTY_STATE = [0] * 9


def planned(
    starts: Sequence[int],
    query_tile: int = native.MMA_QUERY_TILE,
    *,
    num_tokens: int | None = None,
    pooling_starts: Sequence[int] | None = None,
    chosen_tokens: Sequence[int] | None = None,
    max_tokens: int | None = None,
    max_sequences: int | None = None,
    max_chosen: int | None = None,
    max_length: int = MAX_LENGTH,
) -> tuple[Plan, tuple[str, int, int]]:
    """The plan of a batch, whose bounds are by default what it needs, and what was reported."""
    batch = Batch.of(
        starts,
        DEVICE,
        num_tokens=num_tokens,
        pooling_starts=pooling_starts,
        chosen_tokens=chosen_tokens,
    )
    tokens = max(0, *starts, num_tokens or 0) if max_tokens is None else max_tokens
    sequences = len(starts) - 1 if max_sequences is None else max_sequences
    plan, error = Plan.poisoned(tokens, sequences, DEVICE), ErrorSlot.empty()
    plan_batch(
        batch,
        plan,
        error,
        max_tokens=tokens,
        max_sequences=sequences,
        max_chosen=len(chosen_tokens or []) if max_chosen is None else max_chosen,
        max_length=max_length,
        query_tile=query_tile,
    )
    return plan, error.read()


def check_plan(report: Report, case: str, lengths: Sequence[int], query_tile: int) -> None:
    starts = starts_of(lengths)
    plan, error = planned(starts, query_tile)
    if not report.require(case, error[0] == "none", f"refused: {error}"):
        return
    state = plan.state.tolist()
    begins, num_long = state[3:8], state[8]
    report.require(case, state[:2] == [starts[-1], len(lengths)], f"T, S: {state[:2]}")
    in_order = begins[0] == 0 and begins == sorted(begins)
    if not report.require(case, in_order and num_long >= 0, f"lists {begins}, {num_long}"):
        return
    shorts, longs = items_of(lengths, query_tile)
    written = _items(plan.short_items)
    for number, expected in enumerate(shorts):
        part = written[begins[number] : begins[number + 1]]
        part = [item for item in part if item[1] > 0]  # an empty sequence may have an item
        _check_same_items(report, f"{case}, class {number}", part, expected)
    written = _items(plan.long_items)
    _check_same_items(report, f"{case}, long", written[:num_long], longs)
    _check_untouched(report, case, plan, begins[-1], num_long)
    order = [item[1] for item in written[:num_long]]
    rising = [(a, b) for a, b in pairwise(order) if b >= a + COARSENESS]
    report.require(case, not rising, f"longest first, but then came (before, after): {rising[:5]}")


def _items(items: torch.Tensor) -> list[Item]:
    return [tuple(item) for item in items.tolist()]


def _check_same_items(
    report: Report, case: str, actual: Sequence[Item], expected: Sequence[Item]
) -> None:
    missing, extra = set(expected) - set(actual), set(actual) - set(expected)
    report.require(
        case,
        sorted(actual) == sorted(expected),
        f"{len(actual)} items, not {len(expected)}; missing {sorted(missing)[:5]}, "
        f"extra {sorted(extra)[:5]} (first row, length, query)",
    )


def _check_untouched(report: Report, case: str, plan: Plan, shorts: int, longs: int) -> None:
    for name, items, used in (
        ("short", plan.short_items, shorts),
        ("long", plan.long_items, longs),
    ):
        room = len(items) - 8
        report.require(case, used <= room, f"{used} {name} items, room for {room}")
        behind = items[room:]
        report.require(case, bool((behind == behind[-1, -1]).all()), f"wrote behind {name} items")


def _draws() -> list[tuple[str, list[int]]]:
    draw = random.Random(3)
    skewed = [min(MAX_LENGTH, int(draw.paretovariate(0.7)) - 1) for _ in range(2000)]
    cases = [
        ("no sequences", []),
        ("one empty", [0]),
        ("all empty", [0] * 1000),
        ("every length to 300", list(range(301))),
        ("class limits", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129] * 50),
        ("one of the longest", [MAX_LENGTH]),
        ("long, upwards", list(range(129, 1500, 7))),
        ("Pareto with empties", skewed),
        ("one long at the end", [1] * 5000 + [MAX_LENGTH]),
    ]
    for number in range(1 if REDUCED else 12):
        most = draw.choice([8, 130, 600])
        cases.append(
            (f"random {number}", [draw.randrange(most) for _ in range(draw.randrange(900))])
        )
    return cases[:5] if REDUCED else cases


@pytest.mark.parametrize("query_tile", TILES)
def test_lists_hold_every_sequence_once(query_tile: int) -> None:
    with Report() as report:
        for name, lengths in _draws():
            check_plan(report, f"{name}, tile {query_tile}", lengths, query_tile)


@pytest.mark.skipif(REDUCED, reason="large")
def test_a_hundred_thousand_sequences() -> None:
    draw = random.Random(4)
    lengths = [draw.choice([0, 1, 2, 3, 20, 70, 140]) for _ in range(100_000)]
    with Report() as report:
        check_plan(report, "100,000 sequences", lengths, native.HOPPER_QUERY_TILES[0])
        check_plan(report, "100,000 of one token", [1] * 100_000, native.HOPPER_QUERY_TILES[0])


def test_what_breaks_a_rule_is_reported_and_leaves_an_empty_plan() -> None:
    many = starts_of([3] * 5000)
    falling = [*many[:4000], many[3999] - 1, *many[4001:]]
    chosen_falling = [*range(3000), 7, *range(3001, 4000)]
    cases = [
        ("falls", planned([0, 5, 3, 9]), ("starts_not_ascending", 1, 3)),
        ("falls below 0", planned([0, -2, 9]), ("starts_not_ascending", 0, -2)),
        ("falls late", planned(falling), ("starts_not_ascending", 3999, falling[4000])),
        ("first", planned([2, 5, 9]), ("first_start_not_zero", None, 2)),
        ("first is negative", planned([-1, 5, 9]), ("first_start_not_zero", None, -1)),
        ("last is less", planned([0, 5, 9], num_tokens=10), ("last_start_not_tokens", None, 9)),
        ("last is more", planned([0, 5, 9], num_tokens=7), ("last_start_not_tokens", None, 9)),
        ("last of none", planned([0], num_tokens=7), ("last_start_not_tokens", None, 0)),
        ("too long", planned([0, 5, 106], max_length=100), ("too_long", 1, 101)),
        ("pooling beyond", planned([0, 5, 9], pooling_starts=[5, 5]), ("pooling_start", 1, 5)),
        ("pooling below", planned([0, 5, 9], pooling_starts=[-1, 0]), ("pooling_start", 0, -1)),
        ("chosen beyond", planned([0, 5, 9], chosen_tokens=[2, 9]), ("chosen_token", 1, 9)),
        ("chosen below", planned([0, 5, 9], chosen_tokens=[-1, 3]), ("chosen_token", 0, -1)),
        ("chosen twice", planned([0, 5, 9], chosen_tokens=[1, 4, 4]), ("chosen_token", 2, 4)),
        ("chosen falls", planned(many, chosen_tokens=chosen_falling), ("chosen_token", 3000, 7)),
        ("chosen of none", planned([0], chosen_tokens=[0]), ("chosen_token", 0, 0)),
    ]
    torch.cuda.synchronize()
    with Report() as report:
        for case, (plan, error), (kind, index, value) in cases:
            wanted = (kind, error[1] if index is None else index, value)
            report.require(case, error == wanted, f"reported {error}, not {wanted}")
            state = plan.state.tolist()
            report.require(case, state == EMPTY_STATE, f"state {state}")


def test_more_than_the_bounds_is_refused() -> None:
    """No memory behind the lists is touched, and the batch is empty for the kernels after it."""
    starts = starts_of([200] * 100)
    with Report() as report:
        for case, (plan, error) in (
            ("tokens", planned(starts, max_tokens=19_999)),
            ("sequences", planned(starts, max_sequences=99)),
            ("chosen tokens", planned(starts, chosen_tokens=[3, 4, 5], max_chosen=2)),
        ):
            report.require(case, error[0] != "none", "was not reported")
            report.require(case, plan.state.tolist() == EMPTY_STATE, f"{plan.state.tolist()}")
            _check_untouched(report, case, plan, 0, 0)


def test_what_is_at_the_bounds_is_accepted() -> None:
    with Report() as report:
        for case, (_, error) in (
            ("longest", planned([0, 100], max_length=100)),
            ("pooling starts at the ends", planned([0, 5, 9, 9], pooling_starts=[5, 0, 0])),
            ("spare room", planned([0, 5], max_tokens=5000, max_sequences=40, max_chosen=9)),
            ("all tokens chosen", planned([0, 5, 9], chosen_tokens=list(range(9)))),
        ):
            report.require(case, error[0] == "none", f"refused: {error}")


def test_chosen_tokens_are_counted() -> None:
    with Report() as report:
        for count in (0, 1, 5000):
            plan, error = planned([0, 8000], chosen_tokens=range(count))
            report.require(f"{count}", error[0] == "none", f"refused: {error}")
            report.require(f"{count}", plan.state.tolist()[2] == count, f"{plan.state.tolist()}")
