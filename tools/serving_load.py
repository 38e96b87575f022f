"""Requests to an HTTP server over many connections, as cheap for the machine as can be.

Each connection is an asyncio protocol that writes requests made beforehand and only counts the
bytes of the answers, so that a client on the server's own machine takes little from it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


def requests_of(inputs: Sequence[object], path: str) -> list[bytes]:
    """A request for each of some inputs, to text-embeddings-inference's route or to OpenAI's."""
    field = "inputs" if path == "/embed" else "input"
    found = []
    for value in inputs:
        body = json.dumps({field: value, "model": "default"}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


@dataclass
class Load:
    """What came of it.

    Attributes
    ----------
    seconds : float
        From the first request to the last answer.
    statuses
        Answers of each status.
    accepted : list of float
        Seconds that each answer of status 200 took.
    """

    seconds: float = 0.0
    statuses: Counter[int] = dataclasses.field(default_factory=Counter)
    accepted: list[float] = dataclasses.field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Of the accepted requests' times, in milliseconds."""
        return float(np.percentile(self.accepted, share)) * 1e3 if self.accepted else float("nan")


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._expected = 0
        self._begin = 0.0
        self._answered: asyncio.Future[None] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the whole answer."""
        self._answered = asyncio.get_running_loop().create_future()
        self._begin = time.perf_counter()
        self._transport.write(request)
        await self._answered

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._expected:
            end = self._received.find(END_OF_HEAD)
            if end < 0:
                return
            at = self._received.lower().index(LENGTH, 0, end) + len(LENGTH)
            line_end = self._received.index(b"\r", at)
            self._expected = end + len(END_OF_HEAD) + int(self._received[at:line_end])
        if len(self._received) >= self._expected:
            self._finish()

    def _finish(self) -> None:
        status = int(self._received[9:12])
        self._load.statuses[status] += 1
        if status == 200:
            self._load.accepted.append(time.perf_counter() - self._begin)
        self._received.clear()
        self._expected = 0
        assert self._answered is not None
        self._answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("the server closed a connection"))

    def close(self) -> None:
        self._transport.close()


async def _connect(port: int, load: Load, count: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
        for _ in range(count)
    ]
    return [connection for _, connection in made]


async def _closed_loop(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Load:
    load = Load()
    clients = await _connect(port, load, connections)
    remaining = cycle(requests)
    begin = time.perf_counter()

    async def ask_on(client: Connection) -> None:
        while time.perf_counter() - begin < seconds:
            await client.ask(next(remaining))

    await asyncio.gather(*map(ask_on, clients))
    load.seconds = time.perf_counter() - begin
    for client in clients:
        client.close()
    return load


async def _open_loop(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int
) -> Load:
    load = Load()
    idle = await _connect(port, load, connections)
    tasks: set[asyncio.Task[None]] = set()

    async def ask_once(client: Connection, request: bytes) -> None:
        await client.ask(request)
        idle.append(client)

    begin = time.perf_counter()
    for when, request in zip(_arrivals(rate, seconds), cycle(requests), strict=False):
        await asyncio.sleep(max(begin + when - time.perf_counter(), 0))
        if not idle:
            idle.extend(await _connect(port, load, 16))
        task = asyncio.create_task(ask_once(idle.pop(), request))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - begin
    for client in idle:
        client.close()
    return load


def _arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Times of a Poisson process, the same in every run."""
    gaps = random.Random(1)
    now = gaps.expovariate(rate)
    while now < seconds:
        yield now
        now += gaps.expovariate(rate)


def _run(load: Coroutine[Any, Any, Load]) -> Load:
    """On uvloop, which takes half of asyncio's own time."""
    import uvloop

    return uvloop.run(load)


def closed_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Every connection sends its next request when it has an answer."""
    return _run(_closed_loop(port, requests, connections, seconds))


def open_loop(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 64
) -> Load:
    """Poisson arrivals, whatever the server does, on as many connections as it takes."""
    return _run(_open_loop(port, requests, rate, seconds, connections))
