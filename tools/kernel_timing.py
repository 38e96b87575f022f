"""Timing GPU kernels in turns: graphs of many launches over inputs that are not in the cache."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping

import torch

ROUNDS = 7
SECONDS_PER_GRAPH = 3e-4  # enough that starting a graph and reading the clock do not show
MOST_LAUNCHES = 96  # in one graph
CACHE_BYTES = 120e6  # more than twice the L2 cache of any device so far

Launch = Callable[[int], object]  # takes the number of the input set to work on


def num_input_sets(bytes_of_one: float) -> int:
    """Sets of inputs to take in turns, so that a launch finds none of its own in the cache."""
    return max(1, min(MOST_LAUNCHES, math.ceil(CACHE_BYTES / bytes_of_one)))


def time_in_turns(
    launches: Mapping[str, Launch], num_sets: int, estimate: float
) -> dict[str, float]:
    """Seconds of one launch of each, the median of rounds in which they take turns.

    Parameters
    ----------
    launches
        By name; each queues one launch on the current stream.
    num_sets
        Launch numbers run from 0 to below this, again and again.
    estimate
        Roughly the seconds of one launch, from which follows how many make a graph.
    """
    count = max(num_sets, min(MOST_LAUNCHES, math.ceil(SECONDS_PER_GRAPH / estimate)))
    graphs = {name: _capture(launch, count, num_sets) for name, launch in launches.items()}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    names = list(graphs)
    for number in range(ROUNDS + 1):
        shift = number % len(names)  # nobody always follows the same one
        for name in names[shift:] + names[:shift]:
            seconds = _replay(graphs[name]) / count
            if number > 0:  # the first round warms up
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def matmul_ceiling(size: int = 8192) -> float:
    """FLOP/s of PyTorch's product of two square float16 matrices."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
    seconds = time_in_turns({"matmul": lambda _: a @ b}, 1, 1.5e-3)["matmul"]
    return 2 * size**3 / seconds


def copy_ceiling(num_bytes: int = 2**31) -> float:
    """Bytes/s, read and written, of a copy on the device."""
    a, b = (torch.empty(num_bytes, device="cuda", dtype=torch.uint8) for _ in range(2))
    times = []
    for _ in range(ROUNDS):  # not in a graph, where copies go another, slower way
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        b.copy_(a)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e-3)
    return 2 * num_bytes / statistics.median(times)


def _capture(launch: Launch, count: int, num_sets: int) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()  # the inputs were made on another stream
    with torch.cuda.stream(stream):
        launch(0)  # the first call may load or compile
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in range(count):
            launch(number % num_sets)
    return graph


def _replay(graph: torch.cuda.CUDAGraph) -> float:
    """Seconds of one replay, which is queued behind another: starting it does not count."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
