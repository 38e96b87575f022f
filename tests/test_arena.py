"""The workspace's memory: grows without moving, settles, shrinks after a spike, survives refusals.

Every request is checked for what must always hold: the block is there and may be written, what the
arena says it holds is what its source has out, limits and reservations are kept, and nothing is
left when it ends.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import allocator_shim
import pytest
from allocator_shim import SOURCES, Arena, ArenaStats, Shim
from hypothesis import example, given, settings
from hypothesis import strategies as st

KIB = 1 << 10
MIB = 1 << 20

# The numbers of arena.h and arena.cpp.
PATIENCE = 32
SLACK = 1.5
SMALL_STEP, LARGE_STEP, LARGE_BLOCK = 64 * KIB, 2 * MIB, 8 * MIB

LARGEST = 20 * MIB


@pytest.fixture(scope="module")
def shim() -> Shim:
    return allocator_shim.load()


class Request(NamedTuple):
    """What is asked of an arena: a block, or a reservation."""

    num_bytes: int
    reserve: bool = False


def blocks(*sizes: int) -> list[Request]:
    return [Request(size) for size in sizes]


def step_of(num_bytes: int) -> int:
    """In which a block of this size grows."""
    return LARGE_STEP if num_bytes >= LARGE_BLOCK else SMALL_STEP


def request(arena: Arena, wanted: Request) -> bool:
    """Ask, write every byte of a block, check the books; False where the source refuses."""
    if wanted.reserve:
        given = arena.reserve(wanted.num_bytes)
    else:
        address = arena.acquire(wanted.num_bytes)
        given = address is not None
        if address is not None:
            assert address % arena.granularity == 0
            ctypes.memset(address, 0xA5, wanted.num_bytes)
    stats = arena.stats
    assert stats.held_bytes == stats.source_bytes <= stats.peak_held_bytes
    assert not given or stats.held_bytes >= wanted.num_bytes
    return given


def all_given(arena: Arena, requests: Sequence[Request]) -> ArenaStats:
    for wanted in requests:
        assert request(arena, wanted), wanted
    return arena.stats


# Sizes of every order of magnitude, and those around steps.
SIZES = (
    st.integers(0, 4 * SMALL_STEP)
    | st.integers(0, LARGEST)
    | st.sampled_from([1, 4096, SMALL_STEP, MIB, LARGE_BLOCK]).flatmap(
        lambda size: st.integers(size - 1, size + 1)
    )
)
# In runs, since an arena shrinks only after many requests of a kind.
REQUESTS = st.lists(
    st.builds(
        lambda wanted, times: [wanted] * times,
        st.builds(Request, SIZES, st.sampled_from([False] * 9 + [True])),
        st.sampled_from([1, 1, 1, 3, PATIENCE - 1, PATIENCE, PATIENCE + 1]),
    ),
    min_size=1,
    max_size=12,
).map(lambda runs: [wanted for run in runs for wanted in run])
LIMITS = st.just(0) | st.integers(8 * KIB, LARGEST)
BOTH_SOURCES = pytest.mark.parametrize("source", SOURCES)


def within(limit: int, requests: Sequence[Request], granularity: int) -> list[Request]:
    """The requests, none over what a limit leaves in whole pages: callers must not ask for more."""
    most = limit // granularity * granularity if limit else LARGEST
    return [wanted._replace(num_bytes=min(wanted.num_bytes, most)) for wanted in requests]


# ---- Any interleaving ----------------------------------------------------------------------------


@BOTH_SOURCES
@settings(max_examples=300, deadline=None)
@given(REQUESTS, LIMITS)
@example(blocks(SMALL_STEP + 1, SMALL_STEP + 1, *[0] * PATIENCE), 0)
def test_any_interleaving(shim: Shim, source: str, requests: list[Request], limit: int) -> None:
    """What is held follows need within the slack and one step, and stays within the limit."""
    with shim.arena(source, limit) as arena:
        needs: deque[int] = deque(maxlen=PATIENCE)
        floor = 0
        for wanted in within(limit, requests, arena.granularity):
            assert request(arena, wanted), wanted
            if wanted.reserve:
                floor = max(floor, wanted.num_bytes)
            else:
                needs.append(wanted.num_bytes)
            held = arena.stats.held_bytes
            need = max(needs, default=0)
            assert floor <= held <= max(SLACK * need + step_of(need), floor + step_of(floor))
            assert not limit or held <= limit


@settings(max_examples=100, deadline=None)
@given(REQUESTS)
def test_host_memory_never_moves(shim: Shim, requests: list[Request]) -> None:
    with shim.arena("host") as arena:
        addresses = {arena.acquire(1)}
        for wanted in requests:
            assert request(arena, wanted)
            addresses.add(arena.acquire(1))
        assert len(addresses) == 1


@BOTH_SOURCES
def test_nothing_asked_nothing_held(shim: Shim, source: str) -> None:
    with shim.arena(source) as arena:
        assert arena.stats.held_bytes == arena.stats.source_calls == 0


# ---- Refusals ------------------------------------------------------------------------------------

# Growth by small and large steps, a reservation, a spike with patience enough to shrink after it,
# growth again.
EVENTFUL = [
    *blocks(1, 50 * KIB, 500 * KIB, 3 * MIB),
    Request(4 * MIB, reserve=True),
    *blocks(12 * MIB),
    *blocks(*[MIB] * (PATIENCE + 1)),
    *blocks(9 * MIB, 64 * KIB),
]


def count_calls(shim: Shim, source: str, limit: int) -> int:
    with shim.arena(source, limit) as arena:
        return all_given(arena, EVENTFUL).source_calls


@BOTH_SOURCES
@pytest.mark.parametrize("limit", [0, 12 * MIB + 4096])
@pytest.mark.parametrize("fail_count", [1, 2, 3])
def test_a_refusal_anywhere_is_survived(
    shim: Shim, source: str, limit: int, fail_count: int
) -> None:
    """A request that is refused succeeds as soon as the source gives again, and so do the rest."""
    refused = 0
    for fail_at in range(1, count_calls(shim, source, limit) + 1):
        with shim.arena(source, limit, fail_at, fail_count) as arena:
            floor = 0
            for wanted in EVENTFUL:
                attempts = 0
                while not request(arena, wanted):
                    attempts += 1
                    assert attempts <= fail_count, (fail_at, wanted)
                refused += attempts
                if wanted.reserve:
                    floor = wanted.num_bytes
                held = arena.stats.held_bytes
                assert floor <= held, (fail_at, wanted)
                assert not limit or held <= limit
    assert refused > 0


@BOTH_SOURCES
@pytest.mark.parametrize("fail_count", [1, 2, 3])
def test_what_is_held_after_a_refusal(shim: Shim, source: str, fail_count: int) -> None:
    """Growth that is refused leaves an arena with what it held; blocks that cannot grow, without.

    Either way a smaller request is served as soon as the source gives.
    """
    for fail_at in range(1, 20):
        with shim.arena(source, 0, fail_at, fail_count) as arena:
            for size in (MIB, 3 * MIB, 12 * MIB):
                before = arena.stats
                if request(arena, Request(size)):
                    continue
                after = arena.stats
                kept = before.held_bytes if source == "host" else 0
                assert after.held_bytes == kept, (fail_at, size)
                assert after.system_allocations == before.system_allocations
                attempts = [request(arena, Request(64 * KIB)) for _ in range(fail_count)]
                assert attempts[-1], (fail_at, size)


@BOTH_SOURCES
def test_a_reservation_outlives_a_refusal(shim: Shim, source: str) -> None:
    """Batches within a reservation must not allocate again and again afterwards."""
    with shim.arena(source) as arena:
        assert arena.reserve(4 * MIB)
        calls = arena.stats.source_calls
    with shim.arena(source, fail_at=calls + 1, fail_count=1) as arena:
        assert arena.reserve(4 * MIB)
        assert not request(arena, Request(12 * MIB))
        held = all_given(arena, blocks(64 * KIB)).held_bytes
        assert held >= 4 * MIB
        before = arena.stats.system_allocations
        assert all_given(arena, blocks(MIB, 4 * MIB, KIB)).system_allocations == before


@BOTH_SOURCES
@settings(max_examples=300, deadline=None)
@given(REQUESTS, LIMITS, st.integers(1, 30), st.integers(1, 3))
def test_refusals_in_any_interleaving(
    shim: Shim, source: str, requests: list[Request], limit: int, fail_at: int, fail_count: int
) -> None:
    with shim.arena(source, limit, fail_at, fail_count) as arena:
        for wanted in within(limit, requests, arena.granularity):
            attempts = 0
            while not request(arena, wanted):
                attempts += 1
                assert attempts <= fail_count
            assert not limit or arena.stats.held_bytes <= limit


# ---- Holding and letting go ----------------------------------------------------------------------


@BOTH_SOURCES
@pytest.mark.parametrize("period", [2, 3, PATIENCE])
def test_short_and_long_in_turn_settle(shim: Shim, source: str, period: int) -> None:
    """After the first round the system is asked for nothing and given nothing."""
    turn = blocks(*[100 * KIB] * (period - 1), 10 * MIB)
    with shim.arena(source) as arena:
        settled = all_given(arena, turn)
        later = all_given(arena, turn * 20)
        assert later.source_calls == settled.source_calls
        assert later.system_allocations == settled.system_allocations
        assert later.releases == 0


@BOTH_SOURCES
@pytest.mark.parametrize("need", [1, 70 * KIB, 3 * MIB, 9 * MIB])
def test_a_spike_is_given_back(shim: Shim, source: str, need: int) -> None:
    """Within PATIENCE + 1 requests, and only once."""
    with shim.arena(source) as arena:
        spike = all_given(arena, blocks(20 * MIB)).held_bytes
        almost = all_given(arena, blocks(*[need] * (PATIENCE - 1)))
        assert (almost.held_bytes, almost.releases) == (spike, 0)
        after = all_given(arena, blocks(need, need))
        assert after.held_bytes <= SLACK * need + step_of(need)
        assert after.releases == 1
        assert after.peak_held_bytes == spike
        settled = all_given(arena, blocks(*[need] * (3 * PATIENCE)))
        assert settled.source_calls == after.source_calls


@BOTH_SOURCES
def test_nothing_is_given_back_for_little(shim: Shim, source: str) -> None:
    """Needs that fell by less than the slack keep the block."""
    with shim.arena(source) as arena:
        grown = all_given(arena, blocks(12 * MIB))
        later = all_given(arena, blocks(*[9 * MIB] * (3 * PATIENCE)))
        assert (later.held_bytes, later.source_calls) == (grown.held_bytes, grown.source_calls)


@BOTH_SOURCES
def test_the_largest_of_the_last_requests_is_kept(shim: Shim, source: str) -> None:
    """After a spike: not the latest request's size but the largest of the last ones."""
    with shim.arena(source) as arena:
        all_given(arena, blocks(20 * MIB, 5 * MIB, *[KIB] * (PATIENCE - 1)))
        assert arena.stats.held_bytes == 5 * MIB
        assert all_given(arena, blocks(KIB)).held_bytes == SMALL_STEP


@BOTH_SOURCES
def test_a_reservation_is_a_floor(shim: Shim, source: str) -> None:
    with shim.arena(source) as arena:
        assert arena.reserve(6 * MIB)
        reserved = arena.stats
        within_it = all_given(arena, blocks(6 * MIB, *[KIB] * (3 * PATIENCE), 6 * MIB))
        assert within_it.source_calls == reserved.source_calls
        all_given(arena, blocks(20 * MIB, *[KIB] * (PATIENCE + 1)))
        assert 6 * MIB <= arena.stats.held_bytes <= 6 * MIB + SMALL_STEP
