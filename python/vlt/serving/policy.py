"""Which of the waiting sequences the next batch takes: a scheduler for an encoder's device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vlt.scheduling import CostModel, Scheduler

if TYPE_CHECKING:
    from vlt.token_encoder import TokenEncoder

    from .settings import EngineSettings

# What a batch costs besides the model: two hops between threads, and the interpreter's lock, which
# its answers and the next requests take at the same time.
HANDOVER_SECONDS = 1e-3


def make_scheduler(encoder: TokenEncoder, settings: EngineSettings) -> Scheduler:
    """The one that the settings ask for, with a cost model fitted to the encoder's device."""
    cost = CostModel.measure(encoder, settings.fit_seconds)
    return Scheduler(
        replace(cost, base=cost.base + HANDOVER_SECONDS),
        policy=settings.policy,
        max_tokens=settings.batch_tokens(encoder),
        max_requests=settings.max_batch_requests,
        max_wait=settings.max_wait,
    )
