"""Clients and workers at their worst: nothing hangs, nothing is lost, the next request works."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")

from held_runs import HeldRuns
from http_server import PATIENCE, Client, RunningServer, bits, running, wait_until

from vlt.token_encoder import TokenEncoder


def request(fields: Any, path: str = "/embed", length: int | None = None) -> bytes:
    """A request as bytes, with a body that is said to have `length`."""
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


def status_of(connection: socket.socket) -> int:
    """Of the answer that comes."""
    with connection.makefile("rb") as file:
        return int(file.readline().split()[1])


def is_closed(connection: socket.socket) -> bool:
    """Once all that was sent is read."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.fixture
def server(tiny_encoder: vlt.Encoder) -> Iterator[RunningServer]:
    with running(tiny_encoder, {"body_timeout": 1.0, "payload_limit": 1_000_000}) as server:
        yield server


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Runs of the model wait for it."""
    return HeldRuns(monkeypatch).go


def require_working(server: RunningServer, encoder: vlt.Encoder) -> None:
    response = server.client().post("/embed", {"inputs": "a dog", "normalize": False})
    assert bits(response.json) == encoder.encode(["a dog"]).tobytes()


# ---- Clients -------------------------------------------------------------------------------------


def test_clients_that_vanish_leave_the_queue(
    server: RunningServer, held: threading.Event, tiny_encoder: vlt.Encoder
) -> None:
    gate, engine = server.state.gate, server.state.service.engine
    connections = [server.connect() for _ in range(20)]
    for connection in connections:
        connection.sendall(request({"inputs": ["a", "b"]}))
    wait_until(lambda: gate.working == 20, "the requests do not come")
    for connection in connections:
        connection.close()
    wait_until(lambda: gate.working == gate.open_requests == 0, "the requests stay")
    wait_until(lambda: engine.num_waiting == 0, "the inputs stay")
    held.set()
    require_working(server, tiny_encoder)
    figures = server.client().get("/metrics").body.decode()
    assert 'te_request_failure{err="gone"} 20.0' in figures


def test_bodies_that_do_not_come_are_given_up(
    server: RunningServer, tiny_encoder: vlt.Encoder
) -> None:
    slow = [server.connect() for _ in range(50)]
    for connection in slow:
        connection.sendall(request({"inputs": "a dog"}, length=1000))
    require_working(server, tiny_encoder)
    assert [status_of(connection) for connection in slow] == [408] * 50
    assert all(map(is_closed, slow))
    require_working(server, tiny_encoder)


def test_headers_that_do_not_come_are_given_up(
    server: RunningServer, tiny_encoder: vlt.Encoder
) -> None:
    silent, halting, later = server.connect(), server.connect(), server.connect()
    halting.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nX-")
    later.sendall(request({"inputs": "a"}))
    assert later.recv(1 << 16).startswith(b"HTTP/1.1 200")
    later.sendall(b"POST /embed HT")
    require_working(server, tiny_encoder)
    assert is_closed(silent)
    assert is_closed(halting)
    assert is_closed(later)


def test_clients_that_do_not_read_hold_nobody_up(
    server: RunningServer, tiny_encoder: vlt.Encoder
) -> None:
    deaf = [server.connect() for _ in range(8)]
    for connection in deaf:
        for _ in range(20):
            connection.sendall(request({"inputs": ["a man is running"] * 32}, "/embed_all"))
    require_working(server, tiny_encoder)
    for connection in deaf:
        connection.close()
    wait_until(lambda: server.state.gate.open_requests == 0, "the requests stay")
    require_working(server, tiny_encoder)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nContent-Length: x\r\n\r\n{}",
        b"POST /embed HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused(
    server: RunningServer, tiny_encoder: vlt.Encoder, garbage: bytes
) -> None:
    connection = server.connect()
    connection.sendall(garbage)
    assert is_closed(connection)
    require_working(server, tiny_encoder)


def test_bodies_may_come_in_pieces(server: RunningServer, tiny_encoder: vlt.Encoder) -> None:
    body = json.dumps({"inputs": "a dog", "normalize": False}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    pieces = (body[index : index + 5] for index in range(0, len(body), 5))
    connection.request("POST", "/embed", pieces, encode_chunked=True)
    found = json.loads(connection.getresponse().read())
    assert bits(found) == tiny_encoder.encode(["a dog"]).tobytes()


def test_huge_inputs(server: RunningServer, tiny_encoder: vlt.Encoder) -> None:
    client = server.client()
    for text in ("x" * 900_000, "a " * 400_000):
        response = client.post("/embed", {"inputs": text, "normalize": False})
        assert bits(response.json) == tiny_encoder.encode([text]).tobytes()
    ids = client.post("/embed", {"inputs": [3] * 300_000, "truncate": False})
    assert ids.status == 422
    too_large = client.post("/embed", {"inputs": "x" * 5_000_000})
    assert too_large.status == 413
    require_working(server, tiny_encoder)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for both ends of 2,000 connections in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip(f"needs 5,000 open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_thousands_of_connections_all_get_an_answer(
    tiny_encoder: vlt.Encoder, held: threading.Event
) -> None:
    with running(tiny_encoder, {"max_concurrent_requests": 100}) as server:
        idle = [server.connect() for _ in range(1000)]
        asking = [server.connect() for _ in range(1000)]
        for connection in asking:
            connection.sendall(request({"inputs": "a dog"}))
        refused = server.state.metrics._requests.failed
        wait_until(lambda: refused["overloaded"] == 900, "not all are refused")
        held.set()
        assert Counter(map(status_of, asking)) == {200: 100, 429: 900}
        idle[0].sendall(request({"inputs": "a dog"}))
        assert status_of(idle[0]) == 200
        for connection in (*idle, *asking):
            connection.close()
        require_working(server, tiny_encoder)


# ---- Workers -------------------------------------------------------------------------------------


def test_a_worker_that_raises_fails_only_its_own(
    server: RunningServer, tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TokenEncoder._run

    def raise_on_seven(self: Any, ids: vlt.PackedIds, *arguments: Any) -> None:
        if 7 in ids.values:
            raise RuntimeError("seven")
        run(self, ids, *arguments)

    monkeypatch.setattr(TokenEncoder, "_run", raise_on_seven)
    statuses: Counter[tuple[bool, int]] = Counter()

    def ask(bad: bool) -> None:
        client = server.client()
        for _ in range(20):
            response = client.post("/embed", {"inputs": [[2, 7 if bad else 8, 3]] * 3})
            statuses[bad, response.status] += 1

    threads = [threading.Thread(target=ask, args=(index % 2 == 0,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {(True, 424): 80, (False, 200): 80}
    refused = server.client().post("/v1/embeddings", {"input": [2, 7, 3]})
    assert (refused.status, refused.json["error"]["type"]) == (500, "server_error")
    require_working(server, tiny_encoder)


# ---- The end -------------------------------------------------------------------------------------


def test_requests_in_flight_are_finished_and_new_ones_refused(
    tiny_encoder: vlt.Encoder, held: threading.Event
) -> None:
    with running(tiny_encoder) as server:
        connections = [server.connect() for _ in range(10)]
        for connection in connections:
            connection.sendall(request({"inputs": "a dog"}))
        wait_until(lambda: server.state.gate.working == 10, "the requests do not come")
        server.stop()
        client = server.client()
        refused = client.post("/embed", {"inputs": "a"})
        assert (refused.status, refused.json["error_type"]) == (503, "Unhealthy")
        assert refused.headers["connection"] == "close"
        assert server.client().get("/health").status == 503
        held.set()
        assert [status_of(connection) for connection in connections] == [200] * 10


def test_requests_without_end_do_not_keep_it_running(
    tiny_encoder: vlt.Encoder, held: threading.Event
) -> None:
    with running(tiny_encoder, {"grace": 0.2}) as server:
        connection = server.connect()
        connection.sendall(request({"inputs": "a dog"}))
        wait_until(lambda: server.state.gate.working == 1, "the request does not come")
        server.stop()
        assert is_closed(connection)
        held.set()


@pytest.fixture
def process(tiny_weights: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`vlt serve`, and its port."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "vlt", "serve", str(tiny_weights), "--port", "0"]
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, env=os.environ)
    try:
        listening = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")
        wait_until(lambda: listening.search(log.read_text()), "the server does not listen")
        match = listening.search(log.read_text())
        assert match
        yield process, int(match[1])
        for line in log.read_text().splitlines():
            assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_a_port_that_is_taken_is_named(tiny_weights: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "vlt", "serve", str(tiny_weights), "--port", port]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"vlt: error: cannot listen on 127.0.0.1, port {port}:" in done.stderr.decode()


def test_sigterm_under_load_loses_no_request(
    process: tuple[subprocess.Popen[bytes], int],
) -> None:
    server, port = process
    told = threading.Event()
    answered: Counter[tuple[bool, int]] = Counter()
    lost: list[str] = []

    def ask() -> None:
        while True:
            after = told.is_set()  # was it sent after the signal?
            try:
                response = Client(port).post("/embed", {"inputs": ["a dog", "a cat runs"] * 8})
            except OSError as error:
                if not after:
                    lost.append(repr(error))
                return
            answered[after, response.status] += 1

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: answered[False, 200] > 200, "no answers")
    told.set()
    server.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    assert server.wait(PATIENCE) == 0
    assert time.monotonic() - begin < PATIENCE
    for thread in threads:
        thread.join()
    assert not lost
    assert {status for _, status in answered} <= {200, 503}
