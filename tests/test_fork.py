"""After a fork the child has the weights, and threads and sessions of its own."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlt

FORK = multiprocessing.get_context("fork")
PATIENCE = 60  # seconds; a child that hangs must fail its test
IDS = [np.arange(1, 1 + n) for n in (5, 60, 1, 33)]


def in_child(work: Any) -> Any:
    """What `work()` returns in a forked child."""
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=lambda: sender.send(work()))
    child.start()
    try:
        assert receiver.poll(PATIENCE), "the child gives no answer"
        return receiver.recv()
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_child_computes_the_same_bits(tiny_weights: Path, num_threads: int) -> None:
    with vlt.Encoder(tiny_weights, num_threads=num_threads) as encoder:
        expected = encoder.run(IDS).values.tobytes()
        assert in_child(lambda: encoder.run(IDS).values.tobytes()) == expected
        assert in_child(encoder.memory_stats)["runs"] == 0  # a session of its own
        assert encoder.run(IDS).values.tobytes() == expected  # nor did the parent lose anything


def test_child_of_a_busy_parent_works(tiny_weights: Path) -> None:
    """Another thread holds the parent's only session at the moment of the fork."""
    with vlt.Encoder(tiny_weights, num_threads=2) as encoder:
        expected = encoder.run(IDS).values.tobytes()
        done = threading.Event()
        busy = threading.Thread(
            target=lambda: [encoder.run(IDS * 50) for _ in iter(done.is_set, True)]
        )
        busy.start()
        try:
            for _ in range(10):
                assert in_child(lambda: encoder.run(IDS).values.tobytes()) == expected
                time.sleep(0.001)
        finally:
            done.set()
            busy.join()


def test_child_of_a_child_works(tiny_weights: Path) -> None:
    with vlt.Encoder(tiny_weights, num_threads=2) as encoder:
        expected = encoder.run(IDS).values.tobytes()

        def child() -> bool:
            own = encoder.run(IDS).values.tobytes() == expected
            return own and in_child(lambda: encoder.run(IDS).values.tobytes()) == expected

        assert in_child(child)
