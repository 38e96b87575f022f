"""Which of the waiting requests to run now: the scheduler of a server.

cost = CostModel.measure(encoder)
scheduler = Scheduler(cost)
scheduler.add(7, length=12, now=time.monotonic())
batch = scheduler.next_batch(time.monotonic())  # [7]
"""

from __future__ import annotations

import math
import threading

from . import _native, _native_scheduling
from .arguments import as_time, checked, checked_seconds, lookup
from .cost_model import CostModel, CostPoint
from .errors import InvalidArgumentError
from .handles import Resource
from .padded_costs import PaddedCosts

__all__ = ["CostModel", "CostPoint", "PaddedCosts", "Scheduler"]

MOST_PRIORITY = 1000


class Scheduler:
    """Makes batches of requests that arrive one by one. It has no clock and no thread of its own.

    Calls from several threads take turns; each takes microseconds, however many requests wait.

    Parameters
    ----------
    cost : CostModel
        Of the device that the batches run on.
    policy : str
        "latency": requests go by arrival, less a head start that is the longer the less a request
        costs; batches are kept as short as the fixed cost of a batch allows. Where the number of
        requests stays the same, as with clients that always ask again, all wait alike, as by
        "fifo": the oldest first, as many as the budgets allow. "one": the oldest first, one by one.
    max_tokens : int
        Of a batch; a longer request runs alone.
    max_requests : int
        Of a batch.
    max_wait : float
        Seconds: a request is never overtaken by one of the same priority that came more than this
        after it. A level of priority is worth as much.
    linger : float
        Seconds that a request waits for company before a batch starts that is not full. 0: an idle
        device takes what there is, which is best where batches are packed.
    """

    def __init__(
        self,
        cost: CostModel,
        *,
        policy: str = "latency",
        max_tokens: int = 16384,
        max_requests: int = 512,
        max_wait: float = 0.5,
        linger: float = 0.0,
    ) -> None:
        self._max_requests = checked("max_requests", max_requests, 1)
        pointer = _native_scheduling.scheduler_create(
            (cost.base, cost.per_token, cost.per_square),
            lookup("policy", policy, _native.POLICIES),
            checked("max_tokens", max_tokens, 1, _native.INT64_MAX),
            self._max_requests,
            checked_seconds("max_wait", max_wait, positive=True),
            checked_seconds("linger", linger),
        )
        self._resource = Resource(pointer, _native.LIBRARY.vlt_scheduler_free)
        self._lock = threading.Lock()

    def add(
        self,
        request: int,
        length: int,
        now: float,
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> None:
        """Have a request wait.

        Parameters
        ----------
        request : int
            The caller's number for it, which no other waiting request has.
        length : int
            Tokens.
        now : float
            Seconds on the caller's clock.
        priority : int
            Higher goes earlier: a level is worth having come `max_wait` earlier.
        deadline : float, optional
            On the same clock: the request may go up to `max_wait` earlier to be done by then
            ("latency" only). Whoever waits longer is not dropped: that is what `remove` is for.
        """
        arrival = as_time("now", now)
        left = 0.0
        if deadline is not None:
            left = as_time("deadline", deadline) - arrival
            if left <= 0:
                raise InvalidArgumentError(f"deadline {deadline} is not after now, {now}")
        number = checked("request", request, -_native.INT64_MAX, _native.INT64_MAX)
        tokens = checked("length", length, 0)
        level = checked("priority", priority, -MOST_PRIORITY, MOST_PRIORITY)
        with self._lock:
            _native_scheduling.scheduler_add(
                self._resource.pointer, number, tokens, arrival, level, left
            )

    def remove(self, request: int) -> bool:
        """Take a request out, cancelled or timed out; False if it is not waiting."""
        number = checked("request", request, -_native.INT64_MAX, _native.INT64_MAX)
        with self._lock:
            return _native_scheduling.scheduler_remove(self._resource.pointer, number)

    def next_batch(self, now: float) -> list[int]:
        """Take the requests to run now, first to last; empty if none is to start yet."""
        with self._lock:
            capacity = max(1, min(self._max_requests, int(self._stats()["num_waiting"])))
            return _native_scheduling.scheduler_next_batch(
                self._resource.pointer, as_time("now", now), capacity
            )

    def wake_at(self) -> float | None:
        """When `next_batch` has a batch though nothing is added; None: nothing is waiting.

        Minus infinity if it has one whatever the time. With `linger`, a time in the future.
        """
        with self._lock:
            when = _native_scheduling.scheduler_wake_at(self._resource.pointer)
        return None if when == math.inf else when

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        with self._lock:
            return int(self._stats()["num_waiting"])

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the requests that wait."""
        with self._lock:
            return int(self._stats()["waiting_tokens"])

    @property
    def waiting_seconds(self) -> float:
        """What they take by the cost model, without the fixed cost of each batch."""
        with self._lock:
            return float(self._stats()["waiting_seconds"])

    def _stats(self) -> dict[str, float]:
        return _native_scheduling.scheduler_stats(self._resource.pointer)
