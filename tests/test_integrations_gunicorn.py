"""A server that loads the model once and forks its workers: gunicorn --preload."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vlt

pytest.importorskip("gunicorn", reason="needs gunicorn")

IDS = [[1, 2, 3], [4, 5]]
PATIENCE = 60  # seconds
APPLICATION = """
import json, os, vlt
encoder = vlt.Encoder({weights!r}, num_threads=2)
encoder.run({ids!r})  # the parent has used it, and has threads

def application(environ, start_response):
    vectors = encoder.run({ids!r}, output="embedding")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), vectors.tolist()]).encode()]
"""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: Path) -> tuple[int, list[list[float]]]:
    connection = UnixConnection(path)
    connection.request("GET", "/")
    pid, vectors = json.loads(connection.getresponse().read())
    connection.close()
    return pid, vectors


def listens(path: Path) -> bool:
    """A socket's file is there a moment before anyone may connect."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def test_workers_compute_the_same_bits(tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(APPLICATION.format(weights=str(tiny_weights), ids=IDS))
    path = tmp_path / "socket"
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=3", f"--bind=unix:{path}"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "served:application"], cwd=tmp_path, env=os.environ, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(path):
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)
        answers = [ask(path) for _ in range(20)]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)
    with vlt.Encoder(tiny_weights) as encoder:
        expected = encoder.run(IDS, output="embedding").tolist()
    assert {pid for pid, _ in answers} - {server.pid}
    assert all(vectors == expected for _, vectors in answers)
