"""Servers in processes of their own, for bench_serving.py."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUMS = re.compile(r"^te_(request(?:_[a-z]+)?)_duration_sum (\S+)$", re.MULTILINE)


class Server:
    """A server in a process of its own."""

    def __init__(self, name: str, path: str, port: int, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.path = path
        self.port = port
        self._process = process

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def seconds(self) -> float:
        """Of processors, since it began."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def request_seconds(self) -> dict[str, float]:
        """Of all requests so far, in all and in their parts, as /metrics says; vlt's alone."""
        if self.name != "vlt":
            return {}
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as response:
            found = SUMS.findall(response.read().decode())
        return {name.removeprefix("request_"): float(seconds) for name, seconds in found}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(name: str, path: str, command: str) -> Iterator[Server]:
    """Start a server, wait until it answers, end it."""
    port = free_port()
    process = subprocess.Popen(
        shlex.split(command.format(port=port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield Server(name, path, port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"{process.args!r} ended with {process.returncode}") from None
            time.sleep(0.1)
