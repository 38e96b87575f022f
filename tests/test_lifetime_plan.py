"""The plan of where intermediates lie: never wrong, never falling, and close to the best there is.

The rules are checked against sizes, lifetimes and bounds computed here; how good a plan is, against
the bytes alive at once, and for few buffers against the best of all plans.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import allocator_shim
import numpy as np
import pytest
from allocator_shim import Batch, Record, Shim
from hypothesis import given, settings
from hypothesis import strategies as st

LAST_OP = 12
MOST_TOKENS = 1 << 14
MOST_SEQUENCES = 1 << 10

ALIGNMENTS = st.sampled_from([64, 256])

# What the shim's most_tokens() plans for, and the most that it answers.
MOST_TOKENS_TYPICAL = Batch(128, 1)
UNBOUNDED = 2**31 - 1

thorough = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def shim() -> Shim:
    return allocator_shim.load()


# ---- Instances -----------------------------------------------------------------------------------


def sizes(largest: int) -> st.SearchStrategy[int]:
    """None, anything, or a whole number of cache lines, as real rows are."""
    lines = st.integers(1, max(largest // 64, 1)).map(lambda count: 64 * count)
    return st.just(0) | st.integers(0, largest) | lines


@st.composite
def one_record(draw: st.DrawFn) -> Record:
    first, last = sorted(draw(st.tuples(*[st.integers(0, LAST_OP)] * 2)))
    return Record(first, last, draw(sizes(1 << 16)), draw(sizes(1 << 13)), draw(sizes(1 << 13)))


RECORDS = st.lists(one_record(), max_size=25)
BATCHES = st.builds(Batch, st.integers(0, MOST_TOKENS), st.integers(0, MOST_SEQUENCES))


def round_up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def live_bytes(records: Sequence[Record], alignment: int, batch: Batch) -> int:
    """The most bytes alive at one operation, each size rounded up."""
    return max(
        sum(
            round_up(record.bytes(batch), alignment)
            for record in records
            if record.first_op <= op <= record.last_op
        )
        for op in range(LAST_OP + 1)
    )


# ---- Rules ---------------------------------------------------------------------------------------


@thorough
@given(RECORDS, ALIGNMENTS, BATCHES, st.lists(BATCHES, min_size=1, max_size=6))
def test_buffers_alive_together_share_no_byte(
    shim: Shim, records: list[Record], alignment: int, typical: Batch, batches: list[Batch]
) -> None:
    plan = shim.plan(records, alignment, typical, batches)
    for batch, row in zip(batches, plan.offsets.tolist(), strict=True):
        for (one, a), (other, b) in itertools.combinations(zip(records, row, strict=True), 2):
            if one.meets(other):
                assert a + one.bytes(batch) <= b or b + other.bytes(batch) <= a, (one, other, batch)


@thorough
@given(RECORDS, ALIGNMENTS, BATCHES, st.lists(BATCHES, min_size=1, max_size=6))
def test_offsets_are_aligned_and_the_peak_is_the_highest_end(
    shim: Shim, records: list[Record], alignment: int, typical: Batch, batches: list[Batch]
) -> None:
    plan = shim.plan(records, alignment, typical, batches)
    assert not (plan.offsets % alignment).any()
    for batch, row, peak, bound in zip(
        batches, plan.offsets.tolist(), plan.peaks.tolist(), plan.bounds.tolist(), strict=True
    ):
        ends = [a + round_up(r.bytes(batch), alignment) for r, a in zip(records, row, strict=True)]
        assert peak == max(ends, default=0)
        assert bound == live_bytes(records, alignment, batch) <= peak


@thorough
@given(
    RECORDS,
    ALIGNMENTS,
    BATCHES,
    st.lists(st.integers(0, MOST_TOKENS), min_size=2, max_size=6).map(sorted),
    st.lists(st.integers(0, MOST_SEQUENCES), min_size=2, max_size=6).map(sorted),
)
def test_nothing_falls_when_the_batch_grows(
    shim: Shim,
    records: list[Record],
    alignment: int,
    typical: Batch,
    tokens: list[int],
    sequences: list[int],
) -> None:
    batches = [Batch(t, s) for t in tokens for s in sequences]
    plan = shim.plan(records, alignment, typical, batches)
    grid = len(tokens), len(sequences)
    for values in (plan.peaks.reshape(*grid, 1), plan.offsets.reshape(*grid, len(records))):
        for axis in (0, 1):
            assert (np.diff(values.astype(np.int64), axis=axis) >= 0).all()


@thorough
@given(
    st.lists(
        st.builds(
            lambda ops, lines: Record(min(ops), max(ops), 0, 256 * lines, 0),
            st.tuples(*[st.integers(0, LAST_OP)] * 2),
            st.integers(0, 40),
        ),
        max_size=25,
    ),
    ALIGNMENTS,
    BATCHES,
    st.integers(1, MOST_TOKENS),
)
def test_offsets_of_sizes_per_token_scale_exactly(
    shim: Shim, records: list[Record], alignment: int, typical: Batch, tokens: int
) -> None:
    """Rows of whole alignment steps: the plan for one token, times T."""
    plan = shim.plan(records, alignment, typical, [Batch(1, 0), Batch(tokens, 7)])
    np.testing.assert_array_equal(plan.offsets[1], plan.offsets[0] * np.uint64(tokens))
    assert plan.peaks[1] == plan.peaks[0] * np.uint64(tokens)


@thorough
@given(RECORDS, ALIGNMENTS, st.integers(0, MOST_SEQUENCES), st.integers(0, 1 << 30))
def test_most_tokens_is_the_largest_batch_that_fits(
    shim: Shim, records: list[Record], alignment: int, sequences: int, num_bytes: int
) -> None:
    most = shim.most_tokens(records, alignment, num_bytes, sequences)
    around = [Batch(tokens, sequences) for tokens in (most, most + 1)]
    peak, next_peak = shim.plan(records, alignment, MOST_TOKENS_TYPICAL, around).peaks
    assert peak <= num_bytes or most == 0
    assert next_peak > num_bytes or most == UNBOUNDED


# ---- Quality -------------------------------------------------------------------------------------

TYPICAL = Batch(1000, 40)


def random_records(rng: np.random.Generator, count: int) -> list[Record]:
    """Buffers of whole cache lines alive for up to 6 operations; one in five is empty."""

    def one() -> Record:
        first = int(rng.integers(0, LAST_OP + 1))
        last = min(LAST_OP, first + int(rng.integers(0, 6)))
        size = 64 * int(rng.integers(1, 65))
        kind = rng.choice(["token", "sequence", "constant", "empty"], p=[0.6, 0.1, 0.1, 0.2])
        return Record(
            first,
            last,
            constant_bytes=size if kind == "constant" else 0,
            bytes_per_token=size if kind == "token" else 0,
            bytes_per_sequence=size if kind == "sequence" else 0,
        )

    return [one() for _ in range(count)]


def best_peak(records: Sequence[Record], alignment: int, batch: Batch) -> int:
    """The lowest peak of all plans.

    Sort any plan's buffers by offset and let each sink onto those below it: no end rises. So the
    best plan is among the stacks, one for each order.
    """
    sizes = [round_up(record.bytes(batch), alignment) for record in records]
    meets = [[one.meets(other) for other in records] for one in records]
    best = sum(sizes)
    for order in itertools.permutations(range(len(records))):
        ends: dict[int, int] = {}
        for index in order:
            floor = max((end for other, end in ends.items() if meets[index][other]), default=0)
            ends[index] = floor + sizes[index]
        best = min(best, max(ends.values()))
    return best


@pytest.mark.parametrize("typical", [TYPICAL, Batch(64, 1), Batch(8000, 1000)])
def test_peaks_are_near_the_bytes_alive(shim: Shim, typical: Batch) -> None:
    """Planned for this batch or for quite another one.

    Measured: 99 in 100 reach the bound, 1.0002 times it on average, 1.032 times at worst.
    """
    rng = np.random.default_rng(11)
    ratios = []
    for index in range(300):
        plan = shim.plan(random_records(rng, 8 + index % 18), 64, typical, [TYPICAL])
        ratios.append(plan.peaks[0] / plan.bounds[0])
    assert np.mean(ratios) <= 1.001
    assert max(ratios) <= 1.05


def test_few_buffers_are_planned_as_well_as_can_be(shim: Shim) -> None:
    """Measured on these 120: every one."""
    rng = np.random.default_rng(12)
    for index in range(120):
        records = random_records(rng, 3 + index % 4)
        peak = shim.plan(records, 64, TYPICAL, [TYPICAL]).peaks[0]
        assert peak == best_peak(records, 64, TYPICAL), records


def test_empty_buffers_are_in_nobodys_way(shim: Shim) -> None:
    """Three empty buffers among five others, which fit under 448 bytes: 64 x (2 + 3 + 2)."""
    lives = [(1, 1, 0), (4, 4, 3), (1, 4, 2), (0, 2, 3), (3, 4, 1), (3, 4, 0), (0, 1, 0), (2, 3, 2)]
    records = [Record(first, last, 0, 64 * lines, 0) for first, last, lines in lives]
    one_token = Batch(1, 1)
    plan = shim.plan(records, 64, one_token, [one_token])
    assert plan.peaks[0] == plan.bounds[0] == 448


# name -> layers, hidden size, feed-forward size; attention is as wide as the hidden size.
ARCHITECTURES = {
    "bert-base": (12, 768, 3072),
    "bert-large": (24, 1024, 4096),
    "all-minilm-l6": (6, 384, 1536),
    "all-minilm-l12": (12, 384, 1536),
}


def encoder_records(num_layers: int, hidden: int, feed_forward: int) -> list[Record]:
    """Every float32 activation of every layer, each with its own lifetime.

    A layer's operations: qkv, attention, attention's output, up, down. Its states are there from
    the operation before, which wrote them, to the residual of the attention's output.
    """
    records = []
    for first in range(1, 5 * num_layers, 5):
        qkv, attention, attended, up, down = range(first, first + 5)
        for begin, end, columns in [
            (qkv - 1, attended, hidden),  # states
            (qkv, attention, 3 * hidden),
            (attention, attended, hidden),  # context
            (attended, down, hidden),
            (up, down, feed_forward),  # expanded
        ]:
            records.append(Record(begin, end, 0, 4 * columns, 0))
    last = 5 * num_layers
    return [*records, Record(last, last + 1, 0, 4 * hidden, 0)]  # states that the head reads


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encoders_need_no_more_than_is_alive(shim: Shim, name: str) -> None:
    alignment = 64
    records = encoder_records(*ARCHITECTURES[name])
    batches = [Batch(tokens, 1 + tokens // 100) for tokens in (1, 7, 256, 1000, 16384)]
    plan = shim.plan(records, alignment, Batch(256, 16), batches)
    assert (plan.peaks <= 1.01 * plan.bounds + alignment).all(), plan.peaks / plan.bounds
