"""One request from its headers to its answer, whatever happens on the way."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .failures import (
    BACKEND,
    OVERLOADED,
    SLOW,
    TOO_LARGE,
    UNHEALTHY,
    ClientGoneError,
    RequestError,
    failure_of,
)
from .fields import Fields
from .reply import JSON, Reply, compute_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.types import Receive, Scope, Send

    from .failures import Style
    from .state import State

    Handler = Callable[[State, Fields], Coroutine[Any, Any, Reply]]

logger = logging.getLogger("vlt.server")

GONE = 499  # what others log for a client that did not wait; it is never sent

# A body over the limit is read on and thrown away up to so many times the limit, since many clients
# send all of it before they look at the answer.
READ_ON = 8


@dataclass(frozen=True)
class Outcome:
    """How a request ended.

    Attributes
    ----------
    scope
        ASGI's description of the request.
    status : int
        As sent, or `GONE`.
    seconds : float
        From its headers on.
    reply, failure
        One of the two, or neither where the client went away.
    """

    scope: Scope
    status: int
    seconds: float
    reply: Reply | None
    failure: RequestError | None


class Endpoint:
    """A route that takes JSON, as an ASGI application of its own.

    Parameters
    ----------
    state
        What all routes share.
    handle
        Makes an answer of a request's fields.
    style
        How the interface that the route belongs to says what went wrong.
    """

    def __init__(self, state: State, handle: Handler, style: Style) -> None:
        self._state = state
        self._handle = handle
        self._style = style

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begin = time.monotonic()
        reply: Reply | None = None
        failure: RequestError | None = None
        try:
            with self._state.gate.enter(dict(scope["headers"])):
                reply = await self._reply(scope, receive)
                status, headers = 200, self._headers(reply, begin)
                await respond(send, status, reply.body, headers)
        except ClientGoneError:
            status = GONE
        except Exception as error:
            failure = failure_of(error)
            if failure.kind is BACKEND:
                logger.error("a request failed", exc_info=error)
            status, body = self._style(failure)
            with suppress(OSError):
                await respond(send, status, body, failure_headers(failure))
        self._account(Outcome(scope, status, time.monotonic() - begin, reply, failure))

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        options = self._state.options
        try:
            body = await asyncio.wait_for(
                read_body(receive, options.payload_limit), options.body_timeout
            )
        except asyncio.TimeoutError:
            raise RequestError(
                SLOW, f"the request did not come within {options.body_timeout:g} seconds"
            ) from None
        with self._state.gate.work():
            return await until_gone(self._handle(self._state, Fields.parse(body)), receive)

    def _headers(self, reply: Reply, begin: float) -> list[tuple[bytes, bytes]]:
        return compute_headers(reply, self._state.compute_type, time.monotonic() - begin)

    def _account(self, outcome: Outcome) -> None:
        """Count, trace and log a request."""
        self._state.metrics.request(outcome)
        if self._state.tracing is not None:
            self._state.tracing.request(outcome)
        if logger.isEnabledFor(logging.INFO):
            logger.info("request", extra={"fields": log_fields(outcome)})


def log_fields(outcome: Outcome) -> dict[str, Any]:
    """What the log says of a request; times in milliseconds."""
    fields: dict[str, Any] = {
        "method": outcome.scope["method"],
        "path": outcome.scope["path"],
        "status": outcome.status,
        "ms": round(outcome.seconds * 1e3, 2),
    }
    if outcome.failure is not None:
        fields["error"] = str(outcome.failure)
    if outcome.reply is not None and outcome.reply.answer is not None:
        answer = outcome.reply.answer
        fields["inputs"] = len(answer.lengths)
        fields["tokens"] = sum(answer.lengths)
        fields["tokenize_ms"] = round(answer.tokenize_seconds * 1e3, 2)
        fields["queue_ms"] = round(answer.queue_seconds * 1e3, 2)
        fields["run_ms"] = round(answer.run_seconds * 1e3, 2)
    return fields


async def read_body(receive: Receive, limit: int) -> bytes:
    """All of a request's body."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= READ_ON * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        more = message.get("more_body", False)
    if size > limit:
        raise RequestError(TOO_LARGE, f"the body must have at most {limit} bytes")
    return b"".join(chunks)


async def until_gone(work: Coroutine[Any, Any, Reply], receive: Receive) -> Reply:
    """The result of some work, which stops if the client goes away."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        working.cancel()
        watching.cancel()


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone; nothing else can come after the body."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send an answer in JSON."""
    start = [(b"content-type", JSON), (b"content-length", b"%d" % len(body)), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def failure_headers(failure: RequestError) -> list[tuple[bytes, bytes]]:
    """When to come back, and whether the connection ends: its rest may be unread."""
    headers: list[tuple[bytes, bytes]] = []
    if failure.kind in (OVERLOADED, UNHEALTHY):
        headers.append((b"retry-after", b"1"))
    if failure.kind in (TOO_LARGE, SLOW, UNHEALTHY):
        headers.append((b"connection", b"close"))
    return headers
