"""Who is let in: the API key, the bound on requests in flight, and none once the server stops."""

from __future__ import annotations

import hmac
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .failures import OVERLOADED, UNAUTHORIZED, UNHEALTHY, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Gate:
    """Counts requests. Used by the event loop's thread alone.

    Attributes
    ----------
    open_requests : int
        Whose headers have come and whose answer has not gone.
    working : int
        Of these, the ones that are worked on.
    draining : bool
        New requests are refused.
    """

    def __init__(self, api_key: str | None, max_working: int) -> None:
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self._max_working = max_working
        self.open_requests = 0
        self.working = 0
        self.draining = False

    @contextmanager
    def enter(self, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        """For a request, from its headers to its answer."""
        if self.draining:
            raise RequestError(UNHEALTHY, "the server is stopping and takes no more requests")
        if self._key is not None:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._key):
                raise RequestError(
                    UNAUTHORIZED, "the header must be `Authorization: Bearer KEY` with the key"
                )
        self.open_requests += 1
        try:
            yield
        finally:
            self.open_requests -= 1

    @contextmanager
    def work(self) -> Iterator[None]:
        """For a request that has come whole, until its answer is there."""
        if self.working >= self._max_working:
            raise RequestError(
                OVERLOADED, f"the server works on {self.working} requests already; try again later"
            )
        self.working += 1
        try:
            yield
        finally:
            self.working -= 1
