"""vlt's own: the C++ LifetimePlan and Arena, through tests/allocator_shim.py.

The order of the buffers is found once for a model; for each request the plan is evaluated, and the
arena asked for its peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import allocator_shim
from allocator_shim import Batch, Record

from allocators.outcome import Outcome

UNIT = "pairs of buffers stacked"

# Both as in cpp/encoder/activations.cpp.
ALIGNMENT = 64
TYPICAL = Batch(256, 16)  # the batch for which the order is found


def plan(records: Sequence[Record], requests: Sequence[Batch]) -> allocator_shim.Plan:
    """Planned once, evaluated for every request."""
    return allocator_shim.load().plan(records, ALIGNMENT, TYPICAL, requests)


def replay(records: Sequence[Record], requests: Sequence[Batch]) -> list[Outcome]:
    """The requests one after the other, on pages of the host."""
    peaks = [int(peak) for peak in plan(records, requests).peaks]
    # Evaluating the plan looks once at each two buffers that are alive at the same time.
    pairs = sum(one.meets(other) for one, other in combinations(records, 2))
    outcomes = []
    allocations = 0
    with allocator_shim.load().arena("host") as arena:
        for peak in peaks:
            if arena.acquire(peak) is None:
                raise MemoryError(f"the system refused {peak} bytes")
            stats = arena.stats
            asked = stats.system_allocations - allocations
            allocations = stats.system_allocations
            outcomes.append(Outcome(peak, stats.held_bytes, asked, pairs))
    return outcomes
