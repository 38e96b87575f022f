"""What the library says besides errors: to Python's logging, and to nobody unasked."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlt
from vlt.errors import InvalidArgumentError


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    yield
    vlt.disable_logging()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_what_is_loaded_and_created(tiny_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vlt")
    vlt.enable_logging()
    with vlt.Encoder(tiny_weights, num_threads=1) as encoder:
        encoder.run([[1, 2]])
    loaded, session = said(caplog)
    assert loaded.startswith(f"loaded '{tiny_weights}': 2 layers of 32, ")
    assert session == "session of 1 threads"
    assert {record.name for record in caplog.records} == {"vlt"}


def test_more_threads_than_cores(tiny_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    vlt.enable_logging("warning")
    with vlt.Encoder(tiny_weights, num_threads=1000) as encoder:
        encoder.run([[1]])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "num_threads is 1000" in said(caplog)[0]


def test_workspaces_and_parts(tiny_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vlt")
    with vlt.Encoder(tiny_weights, num_threads=1, workspace_limit=1 << 20) as encoder:
        encoder.run([[1]])
        vlt.enable_logging("debug")
        encoder.run([[1, 2, 3] * 4] * 2000)
    assert [text for text in said(caplog) if text.startswith("batch run in ")]
    assert [text for text in said(caplog) if text.startswith("workspace of ")]


def test_a_logger_of_ones_own(tiny_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mine")
    vlt.enable_logging("info", logging.getLogger("mine"))
    vlt.Encoder(tiny_weights).close()
    assert {record.name for record in caplog.records} == {"mine"}


def test_silence(tiny_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vlt")
    vlt.Encoder(tiny_weights).close()
    vlt.enable_logging("debug")
    vlt.disable_logging()
    vlt.Encoder(tiny_weights).close()
    assert said(caplog) == []


def test_levels_are_checked() -> None:
    with pytest.raises(InvalidArgumentError, match="level is 'loud'; it must be one of warning"):
        vlt.enable_logging("loud")


def test_changed_while_others_run(tiny_weights: Path) -> None:
    done = threading.Event()

    def work() -> None:
        with vlt.Encoder(tiny_weights, num_threads=1) as encoder:
            while not done.is_set():
                encoder.run([[1, 2, 3]] * 50)
                vlt.Encoder(tiny_weights, num_threads=1).close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        vlt.enable_logging("debug")
        vlt.disable_logging()
    done.set()
    for thread in threads:
        thread.join()


def test_the_interpreter_may_end(tiny_weights: Path) -> None:
    program = (
        "import sys, logging, vlt; logging.basicConfig(level=0); vlt.enable_logging('debug');"
        "encoder = vlt.Encoder(sys.argv[1], num_threads=2); encoder.run([[1, 2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tiny_weights], capture_output=True, text=True, check=True
    )
    assert "INFO:vlt:loaded " in done.stderr


def test_a_fork_while_a_message_is_delivered(tiny_weights: Path) -> None:
    """The handler sleeps without the interpreter's lock, which the thread that forks holds."""
    program = """
import logging, os, sys, threading, time, vlt
class Slow(logging.Handler):
    def emit(self, record):
        entered.set()
        time.sleep(0.3)
entered = threading.Event()
logging.getLogger("vlt").addHandler(Slow())
logging.getLogger("vlt").setLevel(1)
vlt.enable_logging("debug")
thread = threading.Thread(target=lambda: vlt.Encoder(sys.argv[1], num_threads=1).close())
thread.start()
entered.wait()
child = os.fork()
vlt.Encoder(sys.argv[1], num_threads=1).close()
if child == 0:
    os._exit(0)
thread.join()
sys.exit(os.waitpid(child, 0)[1])
"""
    subprocess.run([sys.executable, "-c", program, tiny_weights], check=True, timeout=60)


def test_set_by_many_threads(tiny_weights: Path) -> None:
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            vlt.enable_logging("debug")
            vlt.disable_logging()

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        vlt.Encoder(tiny_weights, num_threads=1).close()
    done.set()
    for thread in threads:
        thread.join()
