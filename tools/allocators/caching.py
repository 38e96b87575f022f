"""A caching allocator of the kind of PyTorch's: freed blocks are kept, and fit later buffers.

Sizes are rounded up to 512 bytes. Buffers up to 1 MiB come from segments of 2 MiB, larger ones up
to 10 MiB from segments of 20 MiB, others from a segment of their own size rounded up to 2 MiB. The
smallest free block that is large enough serves; what it has too much is split off and kept, and
free neighbours merge. A segment never goes back to the system.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from allocator_shim import Batch, Record

from allocators.outcome import Outcome
from allocators.records import num_operations

UNIT = "allocator calls"

ROUNDING = 512
LARGEST_SMALL = 1 << 20
SMALL_SEGMENT = 2 << 20
LARGEST_SHARED = 10 << 20
SHARED_SEGMENT = 20 << 20
LARGE_ROUNDING = 2 << 20


@dataclass(eq=False)
class Block:
    """A part of a segment; neighbours cover it without gaps."""

    segment: int
    offset: int
    size: int
    small: bool  # of the pool of small buffers
    free: bool = False
    before: Block | None = None
    after: Block | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Best fit first: by size, then by address."""
        return self.size, self.segment, self.offset


def round_up(size: int, step: int) -> int:
    return (size + step - 1) // step * step


def segment_size(size: int) -> int:
    """The size of the segment that is asked from the system when no free block fits."""
    if size <= LARGEST_SMALL:
        return SMALL_SEGMENT
    return SHARED_SEGMENT if size < LARGEST_SHARED else round_up(size, LARGE_ROUNDING)


class Caching:
    """Segments taken from the system, and their free blocks."""

    def __init__(self) -> None:
        self.segments: list[int] = []  # their sizes
        self._free: dict[bool, list[Block]] = {True: [], False: []}  # ascending by key

    @property
    def held(self) -> int:
        return sum(self.segments)

    def allocate(self, size: int) -> Block:
        """A block of at least `size` bytes."""
        size = max(ROUNDING, round_up(size, ROUNDING))
        small = size <= LARGEST_SMALL
        blocks = self._free[small]
        index = bisect.bisect_left(blocks, (size, 0, 0), key=lambda block: block.key)
        block = blocks.pop(index) if index < len(blocks) else self._new_segment(size, small)
        block.free = False
        left_over = block.size - size
        if left_over >= (ROUNDING if small else LARGEST_SMALL + 1):
            self._split(block, size)
        return block

    def release(self, block: Block) -> None:
        """The block is free again, as one with its free neighbours."""
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._free[block.small].remove(neighbour)
                block.offset = min(block.offset, neighbour.offset)
                block.size += neighbour.size
        # A neighbour that is left is one in use.
        if block.before is not None and block.before.free:
            self._link(block.before.before, block)
        if block.after is not None and block.after.free:
            self._link(block, block.after.after)
        self._keep(block)

    def _new_segment(self, size: int, small: bool) -> Block:
        self.segments.append(segment_size(size))
        return Block(len(self.segments) - 1, 0, self.segments[-1], small)

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.segment, block.offset + size, block.size - size, block.small)
        block.size = size
        self._link(rest, block.after)
        self._link(block, rest)
        self._keep(rest)

    def _keep(self, block: Block) -> None:
        block.free = True
        bisect.insort(self._free[block.small], block, key=lambda b: b.key)

    @staticmethod
    def _link(before: Block | None, after: Block | None) -> None:
        if before is not None:
            before.after = after
        if after is not None:
            after.before = before


def run(allocator: Caching, records: Sequence[Record], request: Batch) -> list[Block]:
    """One request, each buffer allocated before its first operation and freed after its last.

    Returns the block that each record had, as it was then; the allocator may have merged it since.
    """
    blocks: dict[int, Block] = {}
    given: dict[int, Block] = {}
    for operation in range(num_operations(records)):
        for index, record in enumerate(records):
            if record.first_op == operation:
                block = allocator.allocate(record.bytes(request))
                blocks[index] = block
                given[index] = Block(block.segment, block.offset, block.size, block.small)
        for index, record in enumerate(records):
            if record.last_op == operation:
                allocator.release(blocks.pop(index))
    return [given[index] for index in range(len(records))]


def replay(records: Sequence[Record], requests: Sequence[Batch]) -> list[Outcome]:
    """The requests one after the other; a request spans the segments in which it had a block."""
    allocator = Caching()
    outcomes = []
    for request in requests:
        before = len(allocator.segments)
        used = {block.segment for block in run(allocator, records, request)}
        spanned = sum(allocator.segments[segment] for segment in used)
        asked = len(allocator.segments) - before
        outcomes.append(Outcome(spanned, allocator.held, asked, 2 * len(records)))
    return outcomes
