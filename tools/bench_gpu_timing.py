"""Timing on a GPU: engines take turns in short bursts, so that its temperature hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

WARM_UP_RUNS = 3
ROUNDS = 5
# Of one engine in one round. Other engines have just filled the caches: a burst's first runs are
# not timed.
BURST_SECONDS = 0.12
BURST_WARM_UP_RUNS = 2
FEWEST_RUNS, MOST_RUNS = 3, 100

Run: TypeAlias = Callable[[], object]


def device_milliseconds(run: Run) -> float:
    """From the moment the device could begin until it has finished, by CUDA events.

    The device is idle before: launching counts as far as it does not overlap with work.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def host_milliseconds(run: Run) -> float:
    """From the call until its return, for runs whose results are on the host."""
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


@dataclass
class Engine:
    """Something that does all of a cell's work in one call."""

    name: str
    run: Run
    clock: Callable[[Run], float] = device_milliseconds
    milliseconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    def burst(self, runs: int) -> list[float]:
        """Times of `runs` runs after those that warm up."""
        for _ in range(BURST_WARM_UP_RUNS):
            self.run()
        torch.cuda.synchronize()
        return [self.clock(self.run) for _ in range(runs)]


def time_interleaved(engines: list[Engine], rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of each engine."""
    runs: dict[str, int] = {}
    for engine in engines:
        estimate = min(engine.burst(WARM_UP_RUNS)) / 1e3
        runs[engine.name] = min(MOST_RUNS, max(FEWEST_RUNS, int(BURST_SECONDS / estimate)))
    for number in range(rounds):
        shift = number % len(engines)  # nobody always follows the same engine
        for engine in engines[shift:] + engines[:shift]:
            engine.milliseconds += engine.burst(runs[engine.name])
    return {engine.name: engine.median for engine in engines}


def matmul_teraflops(dtype: torch.dtype, size: int = 8192) -> float:
    """The rate of one large matrix product on random numbers."""
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    milliseconds = time_interleaved([Engine("matmul", lambda: a @ b)], rounds=2)["matmul"]
    return 2 * size**3 / milliseconds / 1e9


def copy_terabytes(num_bytes: int = 2**31) -> float:
    """Terabytes a second, read and written, of a copy within the device's memory."""
    source = torch.empty(num_bytes, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = Engine("copy", lambda: target.copy_(source))
    return 2 * num_bytes / time_interleaved([copy], rounds=2)["copy"] / 1e9
