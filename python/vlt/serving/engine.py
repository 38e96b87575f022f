"""The queue between those who ask and the workers: bounded, in an order that a policy chooses."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlt.errors import ClosedError, DeadlineError, OverloadedError

from .ticket import Inputs, Place, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vlt.outputs import OutputName
    from vlt.scheduling import Scheduler


@dataclass(frozen=True)
class BatchRecord:
    """What is said of a batch that was run.

    Attributes
    ----------
    num_sequences, num_tokens : int
    padding : int
        Tokens that a padded batch would have had besides.
    seconds : float
        From the moment that a worker took it.
    error : Exception or None
    """

    num_sequences: int
    num_tokens: int
    padding: int
    seconds: float
    error: Exception | None


class Engine:
    """Takes sequences from any thread, lends them to workers in batches, settles their tickets.

    Parameters
    ----------
    scheduler
        Chooses the batches; only the engine calls it.
    max_queue : int
        Sequences that may wait; one call more than that is refused at once.
    observe : callable, optional
        Called with the record of each batch, in the worker's thread.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        max_queue: int,
        observe: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._max_queue = max_queue
        self._observe = observe
        self._changed = threading.Condition()
        self._settling = threading.Lock()  # a ticket's sequences may be in several batches
        self._numbers = itertools.count()
        self._waiting: dict[int, Place] = {}
        self._closed = False
        self.failing = False  # the last batch failed

    # ---- Those who ask -----------------------------------------------------------------------

    def submit(
        self,
        inputs: Inputs,
        output: OutputName,
        done: Callable[[Ticket], None],
        *,
        priority: int = 0,
        deadline: float | None = None,
    ) -> Ticket:
        """Queue sequences, all or none of them.

        Parameters
        ----------
        inputs, output
            One sequence at least, checked, and what to make of each.
        done
            Called once with the ticket, when it has its results or its error: from a worker's
            thread, so it must be short and must not raise.
        priority, deadline
            For the scheduler.

        Raises
        ------
        OverloadedError
            They do not fit the queue.
        ClosedError
            The engine is closed.
        DeadlineError
            The deadline has passed.
        """
        ticket = Ticket(inputs, output, done)
        if deadline is not None and deadline <= ticket.submitted:
            raise DeadlineError("the time for the request was over before it could be queued")
        lengths = inputs.lengths
        with self._changed:
            self.require_open()
            if len(self._waiting) + len(lengths) > self._max_queue:
                raise OverloadedError(
                    f"the queue holds {len(self._waiting)} of at most {self._max_queue} sequences, "
                    f"so there is no room for {len(lengths)} more; try again later"
                )
            first = next(self._numbers)
            ticket.numbers = range(first, first + len(lengths))
            self._numbers = itertools.count(ticket.numbers.stop)
            try:
                for index, length in enumerate(lengths):
                    self._scheduler.add(
                        first + index,
                        length,
                        ticket.submitted,
                        priority=priority,
                        deadline=deadline,
                    )
                    self._waiting[first + index] = Place(ticket, index)
            except Exception:
                self._take_out(ticket)
                raise
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Take out what still waits of a ticket; `done` will not be called any more."""
        with self._changed:
            self._take_out(ticket)
        with self._settling:
            ticket.abandon()

    def _take_out(self, ticket: Ticket) -> None:
        for number in ticket.numbers:
            if self._waiting.pop(number, None) is not None:
                self._scheduler.remove(number)

    # ---- Workers -----------------------------------------------------------------------------

    def take(self) -> list[Place] | None:
        """The next batch, when there is one; None: the engine is closed and all work taken."""
        with self._changed:
            while True:
                now = time.monotonic()
                batch = self._scheduler.next_batch(now)
                if batch:
                    if self._waiting:
                        self._changed.notify()  # another worker may take what is left
                    return [self._waiting.pop(number) for number in batch]
                if self._closed and not self._waiting:
                    return None
                wake = self._scheduler.wake_at()
                self._changed.wait(None if wake is None else max(wake - now, 0.0))

    def settle(self, places: Sequence[Place], rows: Sequence[Any]) -> None:
        """Hand results out."""
        with self._settling:
            for place, row in zip(places, rows, strict=True):
                place.ticket.settle(place.position, row)

    def fail(self, places: Sequence[Place], error: Exception) -> None:
        """Tell whoever waits for these sequences, and take out what else waits of their tickets."""
        for ticket in {id(place.ticket): place.ticket for place in places}.values():
            with self._settling:
                ticket.fail(error)
            self.cancel(ticket)

    def abort(self, error: Exception) -> None:
        """Close, and fail all that waits: nobody would run it any more."""
        with self._changed:
            places = list(self._waiting.values())
            self._waiting.clear()
            self._closed = True
            self._changed.notify_all()
        self.failing = True
        self.fail(places, error)

    def record(self, places: Sequence[Place], begin: float, error: Exception | None) -> None:
        """Say of a batch that it was run, and tell its tickets how long that took."""
        seconds = time.monotonic() - begin
        lengths = [place.ticket.inputs.lengths[place.position] for place in places]
        with self._settling:
            for ticket in {id(place.ticket): place.ticket for place in places}.values():
                ticket.queue_seconds = max(ticket.queue_seconds, begin - ticket.submitted)
                ticket.run_seconds = max(ticket.run_seconds, seconds)
        self.failing = error is not None
        if self._observe is not None:
            tokens = sum(lengths)
            padding = max(lengths) * len(lengths) - tokens
            self._observe(BatchRecord(len(lengths), tokens, padding, seconds, error))

    # ---- State -------------------------------------------------------------------------------

    @property
    def num_waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Their tokens."""
        with self._changed:
            return self._scheduler.waiting_tokens

    def require_open(self) -> None:
        """Raise a ClosedError once `close` was called."""
        if self._closed:
            raise ClosedError("this encoder is closed and takes no more work")

    def close(self) -> None:
        """Take no more work; what waits will still be run. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
