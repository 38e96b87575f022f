"""The baselines of tools/bench_allocator.py are what they claim to be; vlt's plan is better."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from allocator_shim import Batch, Record
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import bench_allocator
from allocators import caching, per_tensor, planned, session_memory, torch_cuda, traces, turbo
from allocators.outcome import Outcome
from allocators.records import (
    MODELS,
    forward_pass,
    half_row_bytes,
    kinds,
    live_bytes,
    lower_bound,
)
from allocators.report import Replay, broken_promises

MINILM = forward_pass(MODELS["minilm"])
MIB = 1 << 20
SHORT_TRACES = {
    "uniform": traces.uniform(60),
    "alternating": traces.alternating(20),
    "spike": traces.spike(60),
    "workloads": traces.workloads(40),
}

# (block, begin, end) of each record
Places = list[tuple[int, int, int]]


@st.composite
def one_record(draw: st.DrawFn) -> Record:
    first, last = sorted(draw(st.tuples(*[st.integers(0, 9)] * 2)))
    return Record(first, last, 0, draw(st.integers(1, 40_000)), draw(st.integers(0, 5_000)))


RECORDS = st.lists(one_record(), min_size=1, max_size=15)
REQUESTS = st.lists(
    st.builds(Batch, st.integers(1, 600), st.integers(1, 9)), min_size=1, max_size=6
)


def check_places(records: Sequence[Record], places: Places, blocks: Sequence[int]) -> None:
    """Each buffer lies in its block, and none on another that is alive at the same time."""
    for index, (block, begin, end) in enumerate(places):
        assert 0 <= begin < end <= blocks[block], f"record {index} leaves block {block}"
        for other, (other_block, other_begin, other_end) in enumerate(places[:index]):
            if block == other_block and records[index].meets(records[other]):
                assert end <= other_begin or other_end <= begin, f"{index} lies on {other}"


def turbo_places(chunks: Sequence[turbo.Chunk], count: int) -> Places:
    places = {
        placed.record_index: (number, placed.offset, placed.offset + placed.size)
        for number, chunk in enumerate(chunks)
        for placed in chunk.placed
    }
    return [places[index] for index in range(count)]


# ---- The records ---------------------------------------------------------------------------------


def test_records_are_those_of_the_forward_pass() -> None:
    """Counted by hand for MiniLM: rows of 384, 1152 and 1552 floats (1536 and a line)."""
    one_token = live_bytes(MINILM, Batch(1, 0))
    floats = [size // 4 for size in one_token[:6]]
    states, qkv, expanded = 384, 1152, 1552
    assert floats == [
        states,  # embedding
        states + qkv,
        states + qkv + states,  # attention: context
        states + states + states,  # output: states, context, attended
        states + expanded,  # up: attended
        states + expanded + states,  # down: the next layer's states
    ]
    assert lower_bound(MINILM, Batch(1, 0)) == 4 * (2 * states + expanded)
    assert len(MINILM) == len(kinds(MODELS["minilm"])) == 6 * 5 + 2


# ---- The baselines -------------------------------------------------------------------------------


@settings(deadline=None)
@given(records=RECORDS, requests=REQUESTS)
def test_turbo_never_puts_a_live_buffer_on_another(
    records: list[Record], requests: list[Batch]
) -> None:
    allocator = turbo.Turbo()
    for request in requests:
        allocator.plan(records, request)
        sizes = [chunk.size for chunk in allocator.chunks]
        places = turbo_places(allocator.chunks, len(records))
        check_places(records, places, sizes)
        assert [end - begin for _, begin, end in places] == [r.bytes(request) for r in records]
        assert sizes == sorted(sizes)
        assert all(chunk.placed for chunk in allocator.chunks), "a chunk is kept without use"


@settings(deadline=None)
@given(records=RECORDS, requests=REQUESTS)
def test_caching_never_puts_a_live_buffer_on_another(
    records: list[Record], requests: list[Batch]
) -> None:
    allocator = caching.Caching()
    for request in requests:
        blocks = caching.run(allocator, records, request)
        places = [(b.segment, b.offset, b.offset + b.size) for b in blocks]
        check_places(records, places, allocator.segments)
        assert all(b.size >= r.bytes(request) for b, r in zip(blocks, records, strict=True))


@settings(deadline=None)
@given(records=RECORDS, requests=REQUESTS)
def test_caching_merges_all_that_is_free(records: list[Record], requests: list[Batch]) -> None:
    """Between requests each segment is one free block again, so a segment serves as a whole."""
    allocator = caching.Caching()
    for request in requests:
        caching.run(allocator, records, request)
    held = allocator.held
    for size in allocator.segments:
        allocator.allocate(size if size > caching.SMALL_SEGMENT else caching.LARGEST_SMALL)
    assert allocator.held == held


@pytest.mark.parametrize(
    ("size", "held"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
    ],
)
def test_caching_takes_segments_by_size(size: int, held: int) -> None:
    allocator = caching.Caching()
    allocator.allocate(size)
    assert allocator.held == held


def test_turbo_takes_a_fifth_more_than_the_buffer_and_at_least_two_mib() -> None:
    for size, chunk in ((1000, 2 * MIB), (2 * MIB, 2 * MIB * 6 // 5)):
        allocator = turbo.Turbo()
        allocator.plan([Record(0, 0, size, 0, 0)], Batch(1, 1))
        assert [c.size for c in allocator.chunks] == [chunk]


def test_turbo_thrashes_on_alternating_sizes() -> None:
    """Each long request finds the chunks gone that the short one before it did not use."""
    trace = SHORT_TRACES["alternating"]
    asked = [outcome.system_allocations for outcome in turbo.replay(MINILM, trace)]
    assert all(asked[3::2]), "a long request found its chunks"
    assert sum(asked) >= len(trace) // 2
    steady = planned.replay(MINILM, trace)[2:]
    assert not any(outcome.system_allocations for outcome in steady)


def test_caching_never_gives_back_and_per_tensor_holds_what_lives() -> None:
    trace = SHORT_TRACES["spike"]
    held = [outcome.held for outcome in caching.replay(MINILM, trace)]
    assert held == sorted(held)
    assert [outcome.held for outcome in per_tensor.replay(MINILM, trace)] == [
        lower_bound(MINILM, request) for request in trace
    ]


# ---- The promises --------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", SHORT_TRACES)
@pytest.mark.parametrize("model", MODELS)
def test_vlt_plans_what_it_promises(model: str, trace: str) -> None:
    replays = bench_allocator.replay_all(trace, forward_pass(MODELS[model]), SHORT_TRACES[trace])
    by_name = {replay.allocator: replay for replay in replays}
    assert not broken_promises(by_name["vlt"], by_name["turbo"], planned.ALIGNMENT)


def test_vlt_settles_after_a_spike() -> None:
    trace = SHORT_TRACES["spike"]
    bounds = [lower_bound(MINILM, request) for request in trace]
    replay = Replay("spike", "vlt", bounds, planned.replay(MINILM, trace))
    assert replay.requests_to_settle is not None
    assert replay.requests_to_settle <= 32  # Arena::kPatience


def test_broken_promises_are_found() -> None:
    """A plan above the bound, and one above TurboTransformers', are each named."""
    fine, large, small = (Outcome(size, size, 0, 0) for size in (1000, 1100, 900))
    bounds = [1000, 1000]
    plan = Replay("t", "vlt", bounds, [fine, large])
    assert broken_promises(plan, Replay("t", "turbo", bounds, [large, large]), 64) == [
        "t, request 1: planned 1,100 bytes; the most live bytes allow 1,074"
    ]
    plan = Replay("t", "vlt", bounds, [fine, fine])
    assert broken_promises(plan, Replay("t", "turbo", bounds, [fine, small]), 64) == [
        "t, request 1: planned 1,000 bytes; TurboTransformers' chunks have 900"
    ]


# ---- The part on a GPU ---------------------------------------------------------------------------


def test_half_precision_records_are_half_as_large() -> None:
    """Where no row is padded: the bound of a GPU's session is that of two-byte numbers."""
    model = MODELS["minilm"]
    states, expanded = 384, 1536
    bound = lower_bound(forward_pass(model, half_row_bytes), Batch(1, 0))
    assert bound == 2 * (2 * states + expanded)


@pytest.mark.parametrize("request_", [Batch(7, 3), Batch(32768, 64), Batch(5, 1)])
def test_sequences_of_a_request_are_as_equal_as_they_can_be(request_: Batch) -> None:
    starts = session_memory.sequence_starts(request_)
    lengths = (starts[1:] - starts[:-1]).tolist()
    assert sum(lengths) == request_.tokens
    assert len(lengths) == request_.sequences
    assert max(lengths) - min(lengths) <= 1


def test_a_buffer_spans_the_segment_it_lies_in() -> None:
    segments = [{"address": 4096, "total_size": 20}, {"address": 1024, "total_size": 2048}]
    assert torch_cuda._spanned(segments, [1024, 3071]) == 2048
    assert torch_cuda._spanned(segments, [3071, 4100]) == 2068
