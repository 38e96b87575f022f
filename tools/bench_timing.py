"""Timing several ways of doing the same work, interleaved, so that noise hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# A mode this much slower than its engine's best in the calibration is not timed further.
HOPELESS = 1.6
MIN_ROUNDS, MAX_ROUNDS = 3, 9
# One this much slower than the fastest of all engines is timed in the fewest rounds: it decides
# nothing and would take most of the time.
FAR_BEHIND = 2.5
MAX_REPEATS = 50  # in one round
# Calls shorter than this are preceded by an untimed one: after other engines the caches are cold,
# as they are not for somebody who runs one engine only.
WARM_UP_SECONDS = 0.25


@dataclass
class Entry:
    """One engine in one mode on one workload; `run` does all of the workload's sequences."""

    engine: str
    mode: str
    run: Callable[[], object]
    estimate: float = 0.0  # seconds, from the calibration
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def time_interleaved(entries: Iterable[Entry], seconds: float) -> list[Entry]:
    """Time entries in turns for about `seconds` in all; returns those that were worth timing."""
    kept = _calibrate(list(entries))
    far_behind = FAR_BEHIND * min(entry.estimate for entry in kept)
    close = [entry for entry in kept if entry.estimate <= far_behind]
    rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(seconds / sum(e.estimate for e in close))))
    share = seconds / rounds / len(kept)
    for number in range(rounds):
        timed = kept if number < MIN_ROUNDS else close
        shift = number % len(timed)  # nobody always follows the same engine
        for entry in timed[shift:] + timed[:shift]:
            _time_turn(entry, share)
    return kept


def _calibrate(entries: list[Entry]) -> list[Entry]:
    for entry in entries:
        entry.run()  # the first call allocates, and some engines compile
        entry.estimate = min(_time_once(entry) for _ in range(2))
    best: dict[str, float] = {}
    for entry in entries:
        best[entry.engine] = min(entry.estimate, best.get(entry.engine, entry.estimate))
    return [entry for entry in entries if entry.estimate <= HOPELESS * best[entry.engine]]


def _time_turn(entry: Entry, share: float) -> None:
    wait_for_idle_threads()
    if entry.estimate < WARM_UP_SECONDS:
        entry.run()
    for _ in range(min(MAX_REPEATS, max(1, int(share / entry.estimate)))):
        entry.seconds.append(_time_once(entry))


def _time_once(entry: Entry) -> float:
    start = time.perf_counter()
    entry.run()
    return time.perf_counter() - start


def wait_for_idle_threads(interval: float = 0.01, longest: float = 1.0) -> None:
    """Wait until no thread of this process computes.

    Some engines' workers spin for a while after a call (Intel's OpenMP: 0.2 s) and would take a
    core from the engine that is timed next.
    """
    deadline = time.perf_counter() + longest
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(interval)
        if time.process_time() - before < 0.2 * interval:
            return
