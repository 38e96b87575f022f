"""Which of the waiting sequences the next batch takes: what the engine needs of a scheduler."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from vlt import scheduling

if TYPE_CHECKING:
    from vlt.token_encoder import TokenEncoder

    from .settings import EngineSettings

# What a batch costs besides the model: two hops between threads, and the interpreter's lock, which
# its answers and the next requests take at the same time.
HANDOVER_SECONDS = 1e-3


class Scheduler(Protocol):
    """Orders waiting sequences. Called by one thread at a time; times are `time.monotonic`'s."""

    def add(
        self,
        request: int,
        length: int,
        now: float,
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> None:
        """A sequence of `length` tokens begins to wait, under a number of its own."""

    def remove(self, request: int) -> bool:
        """It no longer waits; was it there?"""

    def next_batch(self, now: float) -> list[int]:
        """Take out what shall run now; empty where it is better to wait, or nothing waits."""

    def wake_at(self) -> float | None:
        """When to ask again if nothing is added until then; None: not before."""

    @property
    def num_waiting(self) -> int:
        """Sequences that wait."""

    @property
    def waiting_tokens(self) -> int:
        """Their tokens."""


def make_scheduler(encoder: TokenEncoder, settings: EngineSettings) -> Scheduler:
    """The one that the settings ask for, with a cost model fitted to the encoder's device."""
    cost = scheduling.CostModel.measure(encoder, settings.fit_seconds)
    return scheduling.Scheduler(
        replace(cost, base=cost.base + HANDOVER_SECONDS),
        policy=settings.policy,
        max_tokens=settings.batch_tokens(encoder),
        max_requests=settings.max_batch_requests,
        max_wait=settings.max_wait,
    )
