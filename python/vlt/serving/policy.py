"""Which of the waiting sequences the next batch takes: the interface, and the oldest first."""

from __future__ import annotations

from typing import Protocol


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


class FifoScheduler:
    """The oldest first, as many as fit a budget of tokens, as soon as a worker is free.

    Parameters
    ----------
    max_tokens : int
        Of one batch; a sequence longer than that has a batch of its own.
    max_requests : int
        Sequences of one batch.
    """

    def __init__(self, max_tokens: int, max_requests: int) -> None:
        self._max_tokens = max_tokens
        self._max_requests = max_requests
        self._lengths: dict[int, int] = {}  # in the order of arrival
        self._tokens = 0

    def add(
        self,
        request: int,
        length: int,
        now: float,
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> None:
        """Priorities and deadlines do not change the order."""
        self._lengths[request] = length
        self._tokens += length

    def remove(self, request: int) -> bool:
        """It no longer waits; was it there?"""
        length = self._lengths.pop(request, None)
        self._tokens -= length or 0
        return length is not None

    def next_batch(self, now: float) -> list[int]:
        """The oldest that fit."""
        batch: list[int] = []
        tokens = 0
        for request, length in self._lengths.items():
            if batch and (tokens + length > self._max_tokens or len(batch) == self._max_requests):
                break
            batch.append(request)
            tokens += length
        for request in batch:
            del self._lengths[request]
        self._tokens -= tokens
        return batch

    def wake_at(self) -> float | None:
        """Never: what waits is taken at once."""
        return None

    @property
    def num_waiting(self) -> int:
        """Sequences that wait."""
        return len(self._lengths)

    @property
    def waiting_tokens(self) -> int:
        """Their tokens."""
        return self._tokens
