"""Traces of a server: when requests arrive, and how long they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlt.scheduling import CostModel

WORKLOADS = Path(__file__).with_name("workloads.json")
MEAN_BURST = 8  # requests that come together, geometrically distributed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """Request i arrives at `arrivals[i]` seconds, ascending, and has `lengths[i]` tokens."""

    arrivals: Floats
    lengths: NDArray[np.int64]


def poisson(rng: np.random.Generator, count: int, rate: float) -> Floats:
    """Independent requests."""
    return np.cumsum(rng.exponential(1 / rate, count))


def bursty(rng: np.random.Generator, count: int, rate: float) -> Floats:
    """Bursts at random times; in a burst all arrive at once."""
    sizes = rng.geometric(1 / MEAN_BURST, count)
    starts = np.cumsum(rng.exponential(MEAN_BURST / rate, count))
    return np.repeat(starts, sizes)[:count]


ARRIVALS: dict[str, Callable[[np.random.Generator, int, float], Floats]] = {
    "poisson": poisson,
    "bursty": bursty,
}


# Every length equally often, as in the tests of TurboTransformers' paper.
UNIFORM = {"uniform 2-100": (2, 100), "uniform 5-500": (5, 500)}


def workload_lengths(name: str) -> NDArray[np.int64]:
    """Of tools/workloads.json, or of `UNIFORM`."""
    if name in UNIFORM:
        low, high = UNIFORM[name]
        return np.arange(low, high + 1)
    return np.array(json.loads(WORKLOADS.read_text(encoding="utf-8"))[name]["lengths"])


def draw_lengths(workload: str, longest: int, count: int, seed: int) -> NDArray[np.int64]:
    """Of a workload, longer ones cut."""
    drawn = np.random.default_rng(seed).choice(workload_lengths(workload), count)
    return np.minimum(drawn, longest)


def make_trace(
    workload: str, arrivals: str, load: float, cost: CostModel, count: int, seed: int
) -> Trace:
    """Lengths drawn from a workload, at a load.

    A load of 1 is what the device could just do if it packed all tokens into one endless batch:
    the fixed cost of batches and all padding come on top.
    """
    rng = np.random.default_rng(seed)
    known = workload_lengths(workload)
    rate = load * len(known) / (cost.seconds(known.tolist()) - cost.base)
    return Trace(ARRIVALS[arrivals](rng, count, rate), rng.choice(known, count))
