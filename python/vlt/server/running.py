"""Serves the application, and stops in the order that loses nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from types import FrameType

    from starlette.applications import Starlette

    from .state import State

logger = logging.getLogger("vlt.server")

# Connections that clients keep open between requests; longer than load balancers usually do, so
# that it is they who close them.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 4_096  # connections that wait to be accepted; the system has a bound of its own

# Tenths of a second without a request before a server that stops closes its connections, so that
# what clients had sent by then is answered.
QUIET_TICKS = 3


class Connection(HttpToolsProtocol):  # type: ignore[misc]
    """One that is closed where a request's headers do not come in time."""

    seconds = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The first request is waited for."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """A request has begun."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Its body has a bound of its own."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Server(uvicorn.Server):  # type: ignore[misc]
    """On the first SIGTERM or SIGINT new requests are refused with 503, while those in flight are
    finished; then, or after `ServerOptions.grace` seconds, or on a second signal, it ends.
    """

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state
        self._deadline = 0.0
        self._quiet = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or stop at once."""
        gate = self._state.gate
        if gate.draining:
            self.should_exit = self.force_exit = True
            return
        self._deadline = time.monotonic() + self._state.options.grace
        gate.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        gate = self._state.gate
        if gate.draining:
            self._quiet = 0 if gate.open_requests else self._quiet + 1
            if self._quiet >= QUIET_TICKS or time.monotonic() > self._deadline:
                self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror}") from error


def is_loopback(host: str) -> bool:
    """Does the address reach this machine only?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_server(app: Starlette, state: State, host: str, port: int) -> Server:
    """Ready to run."""

    class BoundConnection(Connection):
        seconds = state.options.body_timeout

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,  # what is not done by now had its time
    )
    return Server(config, state)


def serve(app: Starlette, state: State, host: str, port: int) -> None:
    """Serve until a signal comes; then close the service.

    Raises
    ------
    OSError
        The address is not this machine's, or the port is taken.
    """
    if state.options.api_key is None and not is_loopback(host):
        logger.warning("whoever reaches %s may use this server: it asks for no API key", host)
    try:
        listener = listen(host, port)
        logger.info("listening on http://%s:%d", host, listener.getsockname()[1])
        make_server(app, state, host, port).run(sockets=[listener])
    finally:
        state.service.close()
        if state.tracing is not None:
            state.tracing.close()
    logger.info("stopped")
