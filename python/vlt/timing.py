"""How long an encoder takes for batches of equal lengths."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from .arguments import checked_seconds
from .packing import PackedIds, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .outputs import OutputName
    from .token_encoder import TokenEncoder


def time_batches(
    encoder: TokenEncoder, shapes: Sequence[tuple[int, int]], seconds: float, fewest: int
) -> list[float]:
    """The least time in seconds of each batch of (sequences, length), in turns.

    The first turn, which is not counted, makes memory and graphs. Rounds are repeated until
    `seconds` are over; where not even one is done by then, the shapes from there on are left out,
    but `fewest` are timed.
    """
    end = time.perf_counter() + checked_seconds("seconds", seconds, positive=True)
    best: list[float] = []
    for shape in shapes:
        if len(best) >= fewest and time.perf_counter() > end:
            return best
        batch = equal_batch(*shape)
        time_batch(encoder, batch)
        best.append(time_batch(encoder, batch))
    while time.perf_counter() < end:
        for i, shape in enumerate(shapes):
            if time.perf_counter() < end:
                best[i] = min(best[i], time_batch(encoder, equal_batch(*shape)))
    return best


def equal_batch(count: int, length: int) -> PackedIds:
    """`count` sequences of `length` tokens. Which tokens does not matter for time."""
    return pack(np.zeros((count, length), np.int32))


def time_batch(encoder: TokenEncoder, batch: PackedIds) -> float:
    """Seconds of one run, ids to the output that a server gives."""
    output: OutputName = "embedding" if "embedding" in encoder.outputs else "hidden"
    start = time.perf_counter()
    encoder.run(batch, output=output)
    return time.perf_counter() - start
