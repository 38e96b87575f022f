"""A headless Chromium, spoken to by its DevTools protocol."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websocket import create_connection

PATIENCE = 30  # seconds
LISTENS = re.compile(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


def chromium() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One tab, and what it asked for and complained of."""

    def __init__(self, address: str) -> None:
        self._socket = create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self._number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command; events that come before it are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event.get("method") == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))

    def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value, once it is true."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints}"
            time.sleep(0.02)
        return value

    def close(self) -> None:
        self._socket.close()


@contextmanager
def open_page(url: str, folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose files are in `folder`."""
    program = chromium()
    assert program
    log = folder / "chromium.log"
    with log.open("w") as output:
        browser = subprocess.Popen(
            [program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}/data"],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (match := LISTENS.search(log.read_text())):
            assert browser.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        request = urllib.request.Request(
            f"http://127.0.0.1:{match[1]}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(request) as response:
            page = Page(json.load(response)["webSocketDebuggerUrl"])
        page.call("Page.navigate", url=url)
        page.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")
        yield page
        page.close()
    finally:
        browser.terminate()
        browser.wait(PATIENCE)
