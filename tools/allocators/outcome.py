"""What an allocator did for one request."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """Bytes and counts of one request."""

    spanned: int  # bytes of all blocks that the request's buffers lay in: the planned peak
    held: int  # the most bytes that were held from the system while it ran
    system_allocations: int  # how often memory was asked from the system
    steps: int  # what deciding cost, in the allocator's own unit: see its UNIT
