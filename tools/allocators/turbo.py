"""TurboTransformers' allocator, written after the description in its paper.

For each request all buffers are placed anew, the largest first, into chunks tried from the smallest
to the largest. In a chunk a buffer goes to the smallest gap among the buffers alive at the same
time, else behind them; the first chunk with room takes it. Where none has, a new chunk is
max(2 MiB, 1.2 x the buffer). Chunks that the request does not use are freed at once.

Fang, Yu, Zhao, Zhou: "TurboTransformers: an efficient GPU serving system for transformer models",
PPoPP 2021, section 4.2.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from allocator_shim import Batch, Record

from allocators.outcome import Outcome

UNIT = "pairs of buffers compared"

SMALLEST_CHUNK = 2 << 20
GROWTH = (6, 5)  # 1.2, in whole numbers


class Placed(NamedTuple):
    """A buffer in a chunk."""

    record_index: int
    offset: int
    size: int
    record: Record


@dataclass
class Chunk:
    size: int
    placed: list[Placed] = field(default_factory=list)  # ascending by offset

    def find_room(self, record: Record, size: int) -> int | None:
        """Where the buffer fits, the tightest gap before the tail; None where it does not."""
        best, best_gap, top = None, self.size + 1, 0
        for other in self.placed:
            if not record.meets(other.record):
                continue
            gap = other.offset - top
            if size <= gap < best_gap:
                best, best_gap = top, gap
            top = max(top, other.offset + other.size)
        if best is None and top + size <= self.size:
            best = top
        return best


class Turbo:
    """The chunks that one request leaves to the next."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []  # ascending by size
        self.system_allocations = 0
        self.comparisons = 0

    def plan(self, records: Sequence[Record], request: Batch) -> None:
        """Place all buffers of the request; `chunks` then holds what it uses and nothing else."""
        for chunk in self.chunks:
            chunk.placed.clear()
        sizes = [record.bytes(request) for record in records]
        for index in sorted(range(len(records)), key=lambda i: -sizes[i]):
            self._place(index, records[index], sizes[index])
        self.chunks = [chunk for chunk in self.chunks if chunk.placed]

    def _place(self, index: int, record: Record, size: int) -> None:
        for chunk in self.chunks:
            if size > chunk.size:
                continue
            self.comparisons += len(chunk.placed)
            offset = chunk.find_room(record, size)
            if offset is not None:
                placed = Placed(index, offset, size, record)
                bisect.insort(chunk.placed, placed, key=lambda p: p.offset)
                return
        growth = size * GROWTH[0] // GROWTH[1]
        chunk = Chunk(max(SMALLEST_CHUNK, growth), [Placed(index, 0, size, record)])
        bisect.insort(self.chunks, chunk, key=lambda c: c.size)
        self.system_allocations += 1


def replay(records: Sequence[Record], requests: Sequence[Batch]) -> list[Outcome]:
    """The requests one after the other; what a request does not use is not counted as held."""
    turbo = Turbo()
    outcomes = []
    for request in requests:
        allocations, comparisons = turbo.system_allocations, turbo.comparisons
        turbo.plan(records, request)
        size = sum(chunk.size for chunk in turbo.chunks)
        outcomes.append(
            Outcome(
                size,
                size,
                turbo.system_allocations - allocations,
                turbo.comparisons - comparisons,
            )
        )
    return outcomes
