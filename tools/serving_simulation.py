"""A server of one device in simulated time: requests arrive, wait, run in batches, are done.

Whoever runs is never interrupted, and all of a batch are done when the batch is. Time is computed,
not measured: the same trace gives the same waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from serving_traces import Floats, Trace

from vlt.scheduling import CostModel, PaddedCosts, Scheduler

MOST_PADDED = 32  # requests of a padded batch


@dataclass(frozen=True)
class Costs:
    """What was measured of one device: packed batches, and padded ones."""

    packed: CostModel
    padded: PaddedCosts


class Strategy(Protocol):
    """Which requests run together, and what that takes."""

    def add(self, request: int, length: int, now: float) -> None: ...

    def next_batch(self, now: float) -> list[int]:
        """Of those waiting; not empty if any are."""
        ...

    def seconds(self, lengths: NDArray[np.int64]) -> float:
        """Of one batch."""
        ...


class Packed:
    """A policy of vlt's scheduler; limits are its own if left out."""

    def __init__(self, costs: Costs, policy: str, **limits: Any) -> None:
        self._cost = costs.packed
        self._scheduler = Scheduler(costs.packed, policy=policy, **limits)
        self.add = self._scheduler.add
        self.next_batch = self._scheduler.next_batch

    def seconds(self, lengths: NDArray[np.int64]) -> float:
        tokens, squares = int(lengths.sum()), int((lengths**2).sum())
        return self._cost.base + self._cost.per_token * tokens + self._cost.per_square * squares


class Padded:
    """Every request of a batch costs as much as its longest."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs.padded
        self._waiting: deque[tuple[int, int]] = deque()  # (request, length)

    def add(self, request: int, length: int, now: float) -> None:
        self._waiting.append((request, length))

    def seconds(self, lengths: NDArray[np.int64]) -> float:
        return self._costs.at(int(lengths.max()), len(lengths))


class NaivePadded(Padded):
    """The oldest first, as many as a batch may have."""

    def __init__(self, costs: Costs, most: int = MOST_PADDED) -> None:
        super().__init__(costs)
        self._most = most

    def next_batch(self, now: float) -> list[int]:
        count = min(self._most, len(self._waiting))
        return [self._waiting.popleft()[0] for _ in range(count)]


class PlannedPadded(Padded):
    """TurboTransformers' hungry scheduler: an idle device gets a plan for all that are waiting.

    Its batches run one after the other; who arrives meanwhile is in the next plan.
    """

    def __init__(self, costs: Costs) -> None:
        super().__init__(costs)
        self._planned: deque[list[int]] = deque()

    def next_batch(self, now: float) -> list[int]:
        if not self._planned:
            waiting = list(self._waiting)
            self._waiting.clear()
            plan = self._costs.plan([length for _, length in waiting], MOST_PADDED)
            self._planned.extend([waiting[place][0] for place in batch] for batch in plan)
        return self._planned.popleft()


STRATEGIES: dict[str, Callable[[Costs], Strategy]] = {
    "one by one": lambda costs: Packed(costs, "one"),
    "naive padded": NaivePadded,
    "DP padded": PlannedPadded,
    "token budget": lambda costs: Packed(costs, "fifo"),
    "vlt": lambda costs: Packed(costs, "latency"),
}


@dataclass(frozen=True)
class Outcome:
    """When each request was done, and in how many batches."""

    done: Floats
    num_batches: int

    def waits(self, trace: Trace) -> Floats:
        """Seconds from arrival to answer."""
        return self.done - trace.arrivals


def simulate(trace: Trace, strategy: Strategy) -> Outcome:
    """Serve a trace. The device never idles while a request waits."""
    count = len(trace.arrivals)
    done = np.full(count, np.nan)
    now, arrived, finished, num_batches = 0.0, 0, 0, 0
    arrivals, lengths = trace.arrivals.tolist(), trace.lengths.tolist()
    while finished < count:
        if arrived == finished:
            now = max(now, arrivals[arrived])
        while arrived < count and arrivals[arrived] <= now:
            strategy.add(arrived, lengths[arrived], arrivals[arrived])
            arrived += 1
        batch = strategy.next_batch(now)
        now += strategy.seconds(trace.lengths[batch])
        done[batch] = now
        finished += len(batch)
        num_batches += 1
    return Outcome(done, num_batches)


def simulate_closed(
    lengths: NDArray[np.int64], connections: int, away: float, strategy: Strategy, seed: int
) -> tuple[Trace, Outcome]:
    """Serve connections that always ask again: each sends its next request after an answer.

    Parameters
    ----------
    lengths : [n] int64
        Tokens of the requests, in the order in which they are sent.
    away : float
        Seconds, on average, from an answer to the connection's next request: what answering,
        the way, the client and tokenizing take. Exponentially distributed.
    """
    rng = np.random.default_rng(seed)
    count = len(lengths)
    arrivals, done = np.full(count, np.nan), np.full(count, np.nan)
    coming = sorted(rng.exponential(away, connections).tolist())
    now, arrived, finished, num_batches = 0.0, 0, 0, 0
    while finished < count:
        if arrived == finished:
            now = max(now, coming[0])
        while coming and coming[0] <= now and arrived < count:
            arrivals[arrived] = heapq.heappop(coming)
            strategy.add(arrived, int(lengths[arrived]), arrivals[arrived])
            arrived += 1
        batch = strategy.next_batch(now)
        now += strategy.seconds(lengths[batch])
        done[batch] = now
        finished += len(batch)
        num_batches += 1
        for pause in rng.exponential(away, len(batch)).tolist():
            heapq.heappush(coming, now + pause)
    return Trace(arrivals, lengths), Outcome(done, num_batches)
