"""A server in a thread of the test's own process, and requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlt.server.app import create_app, create_state
from vlt.server.options import ServerOptions
from vlt.server.running import Server, make_server
from vlt.server.state import State
from vlt.serving.settings import EngineSettings
from vlt.text_encoder import TextEncoder

PATIENCE = 20  # seconds


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, as a client without any library would have it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, found, response.read())

    def get(self, path: str, **headers: str) -> Response:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, fields: Any, **headers: str) -> Response:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return self.ask("POST", path, body, **headers)


class RunningServer:
    """What tests need of a server that runs."""

    def __init__(self, server: Server, state: State) -> None:
        self.server = server
        self.state = state

    @property
    def port(self) -> int:
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.port)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def stop(self) -> None:
        """As a signal would."""
        self.server.handle_exit(15, None)


@contextmanager
def running(
    encoder: TextEncoder,
    options: dict[str, Any] | None = None,
    tracing: Any = None,
    **settings: Any,
) -> Iterator[RunningServer]:
    """A server of an encoder, which stays open."""
    limits = ServerOptions(**{"grace": 5.0, **(options or {})})
    chosen = EngineSettings(**{"fit_seconds": 0.02, **settings})
    state = create_state([encoder], chosen, limits, tracing=tracing)
    server = make_server(create_app(state), state, "127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server does not start")
    try:
        yield RunningServer(server, state)
    finally:
        server.handle_exit(15, None)
        thread.join(PATIENCE)
        state.service.close()
        assert not thread.is_alive(), "the server does not stop"


def wait_until(condition: Any, problem: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.002)


def bits(rows: Any) -> bytes:
    """Of numbers in JSON, which must be those of float32."""
    array: NDArray[np.float32] = np.array(rows, np.float64).astype(np.float32)
    return array.tobytes()
