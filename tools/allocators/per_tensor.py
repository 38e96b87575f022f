"""No reuse: each buffer comes from the system at its first use and goes back after its last."""

from __future__ import annotations

from collections.abc import Sequence

from allocator_shim import Batch, Record

from allocators.outcome import Outcome
from allocators.records import lower_bound

UNIT = "system calls"


def replay(records: Sequence[Record], requests: Sequence[Batch]) -> list[Outcome]:
    """Holds no byte too many and nothing between requests; every buffer is two system calls."""
    outcomes = []
    for request in requests:
        needed = lower_bound(records, request)
        outcomes.append(Outcome(needed, needed, len(records), 2 * len(records)))
    return outcomes
