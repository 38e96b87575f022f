"""Sessions for concurrent callers: made when needed, reused, never more than a bound."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .handles import Session


POOLS: weakref.WeakSet[SessionPool] = weakref.WeakSet()


def start_anew_after_fork() -> None:
    """Give every pool of a forked child locks and sessions of its own."""
    for pool in list(POOLS):
        pool._start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start_anew_after_fork)


class Loan:
    """A session of a pool for the time of a `with` block.

    A class, since a generator's context takes three times as long to enter and leave.
    """

    __slots__ = "_pool", "_session"

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    def __enter__(self) -> Session:
        self._session = self._pool._take()
        return self._session

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool._give_back(self._session)


class SessionPool:
    """Lends out sessions; a caller that finds none waits for one to come back.

    The session used last is lent first, so that its workspace is still in the cache and few
    workspaces grow when there are few callers.
    """

    def __init__(self, create: Callable[[], Session], capacity: int) -> None:
        self._create = create
        self._capacity = capacity
        self._sessions = [create()]  # a wrong option fails here, not at the first run
        self._idle = list(self._sessions)
        self._changed = threading.Condition()
        self._waiting = 0  # callers for whom there was no session
        self._reserved = (0, 0, 0)  # the largest batch that every session has room for
        self._closed = False
        POOLS.add(self)

    def _start_anew(self) -> None:
        """In the child of a fork: whoever held a lock or a session here lives on in the parent."""
        self._left_behind = self._sessions  # never freed: one may have been in use
        self._sessions = []
        self._idle = []
        self._changed = threading.Condition()
        self._waiting = 0

    def borrow(self) -> Loan:
        """For a `with` block, within which the session is the caller's alone."""
        return Loan(self)

    # Most callers find a session, and nobody waits for theirs. They need no lock, since a list is
    # popped and appended to in one step; with one, a call on a GPU notices how long it takes.

    def _give_back(self, session: Session) -> None:
        self._idle.append(session)
        if self._waiting:  # looked at last: who counts as waiting after this finds the session
            with self._changed:
                self._changed.notify()

    def _take(self) -> Session:
        self._require_open()
        try:
            return self._idle.pop()
        except IndexError:
            pass
        return self._wait_for_one()

    def _wait_for_one(self) -> Session:
        """A session that comes back, or a new one."""
        with self._changed:
            self._waiting += 1  # first: see _give_back()
            try:
                while True:
                    self._require_open()
                    try:
                        return self._idle.pop()
                    except IndexError:
                        pass
                    if len(self._sessions) < self._capacity:
                        session = self._create()
                        session.reserve(*self._reserved)
                        self._sessions.append(session)
                        return session
                    self._changed.wait()
            finally:
                self._waiting -= 1
                if self._idle:  # Ctrl-C may have come after this one was woken
                    self._changed.notify()

    def _require_open(self) -> None:
        if self._closed:
            raise InvalidArgumentError("this encoder is closed")

    def reserve(self, num_tokens: int, num_sequences: int, max_length: int) -> None:
        """Make room in every session, in those made later too."""
        bound = num_tokens, num_sequences, max_length
        self._open_sessions()[0].reserve(*bound)  # refuses a bound that makes no sense
        with self._changed:
            tokens, sequences, longest = self._reserved
            self._reserved = (
                max(tokens, num_tokens),
                max(sequences, num_sequences),
                max(longest, max_length),
            )
        for session in self._open_sessions():
            session.reserve(*bound)

    def fill(self) -> None:
        """Make all sessions that there may ever be."""
        with self._changed:
            self._require_open()
            while len(self._sessions) < self._capacity:
                session = self._create()
                self._sessions.append(session)
                self._idle.insert(0, session)
                self._changed.notify()
        self.reserve(*self._reserved)

    def synchronize(self) -> None:
        """Wait for the runs that returned before they were done."""
        for session in self._open_sessions():
            session.synchronize()

    def memory_stats(self) -> dict[str, Any]:
        """The sessions' statistics added up; the planned peak is the largest of them."""
        stats = [session.memory_stats() for session in self._open_sessions()]
        total = {name: sum(one[name] for one in stats) for name in stats[0]}
        total["planned_peak_bytes"] = max(one["planned_peak_bytes"] for one in stats)
        return total

    def cancel(self) -> None:
        """Stop the runs in progress."""
        for session in self._open_sessions():
            session.cancel()

    def _open_sessions(self) -> list[Session]:
        """All of them, and at least one."""
        if not self._sessions:  # after a fork
            with self.borrow():
                pass
        with self._changed:
            self._require_open()
            return list(self._sessions)

    def close(self) -> None:
        """Free the sessions, each after the run in progress. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
