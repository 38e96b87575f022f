"""Replay traces of a server in simulated time, by vlt's scheduler and by those it is measured with.

    python tools/simulate_serving.py --pictures docs/images
    python tools/simulate_serving.py --measure weights.bin --threads 2
    python tools/simulate_serving.py --operations

The costs of batches are measured (tools/serving_costs.json, written by --measure, which wants a
quiet machine); time is simulated, so the same costs and seeds give the same figures everywhere.
Strategies: one by one; naive padded batches; TurboTransformers' dynamic programme on padded
batches; packed batches of the oldest up to a token budget; vlt's policy.

Prints tables, and fails where vlt's policy is worse in p99 than the token budget, mean over the
seeds, or not better by 5 % on mixed-256. Needs numpy and vlt; matplotlib for --pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import serving_costs
from serving_report import (
    LEGEND,
    Cell,
    against_budget,
    broken_promises,
    summarize,
    table,
    throughput,
)
from serving_simulation import STRATEGIES, Costs, NaivePadded, Strategy, simulate
from serving_traces import ARRIVALS, make_trace

from vlt.scheduling import Scheduler

WORKLOADS = ("queries-1024", "mixed-256", "passages-512")
LOADS = (0.3, 0.5, 0.7, 0.9, 0.97)
SATURATED = 4.0  # more than any strategy can serve
SMALL_BATCHES = (2, 4, 8)  # of naive padding: it wins less by batches, and loses less
MEASURING_SECONDS = 30.0  # of the padded table
WAITING = 10_000  # requests in the queue whose operations are timed


def small_batches(most: int) -> Callable[[Costs], Strategy]:
    return lambda costs: NaivePadded(costs, most)


SATURATED_STRATEGIES: dict[str, Callable[[Costs], Strategy]] = {
    **STRATEGIES,
    **{f"naive, {most}": small_batches(most) for most in SMALL_BATCHES},
}


def run_cell(
    workload: str,
    arrivals: str,
    load: float,
    costs: Costs,
    requests: int,
    seeds: int,
    strategies: Mapping[str, Callable[[Costs], Strategy]] = STRATEGIES,
) -> Cell:
    """Every strategy on the same traces."""
    traces = [
        make_trace(workload, arrivals, load, costs.packed, requests, seed) for seed in range(seeds)
    ]
    results = {
        name: [summarize(trace, simulate(trace, make(costs)), costs) for trace in traces]
        for name, make in strategies.items()
    }
    return Cell(workload, arrivals, load, results)


def report(cells: Sequence[Cell], saturated: Sequence[Cell]) -> None:
    print(f"{LEGEND}\n")
    for workload in WORKLOADS:
        for arrivals in ARRIVALS:
            chosen = [c for c in cells if (c.workload, c.arrivals) == (workload, arrivals)]
            print(f"**{workload}, {arrivals}**\n\n{table(chosen)}\n")
    print(f"{against_budget(cells)}\n")
    print(f"Requests a second, saturated:\n\n{throughput(saturated)}\n")


def report_operations() -> None:
    """Time the scheduler's own work, from Python, with a long queue."""
    rng = np.random.default_rng(0)
    scheduler = Scheduler(serving_costs.load()[0].packed)
    for request, length in enumerate(rng.integers(4, 512, WAITING).tolist()):
        scheduler.add(request, length, 1e-3 * request)
    middle = rng.permutation(WAITING)[: WAITING // 10].tolist()
    start = time.perf_counter()
    for request in middle:
        scheduler.remove(request)
    removed = time.perf_counter()
    for request in middle:
        scheduler.add(request, 100, 1e-3 * WAITING)
    added = time.perf_counter()
    batch = scheduler.next_batch(1e-3 * WAITING)
    taken = time.perf_counter()
    print(
        f"With {WAITING:,} waiting: remove {1e6 * (removed - start) / len(middle):.1f} µs, "
        f"add {1e6 * (added - removed) / len(middle):.1f} µs, "
        f"next_batch of {len(batch)} {1e6 * (taken - added):.1f} µs"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay traces of a server in simulated time.")
    parser.add_argument("--requests", type=int, default=4000, help="of a trace; default: 4000")
    parser.add_argument("--seeds", type=int, default=10, help="traces a cell; default: 10")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the picture there")
    parser.add_argument("--measure", type=Path, metavar="WEIGHTS", help="measure costs, no more")
    parser.add_argument("--operations", action="store_true", help="time the scheduler, no more")
    parser.add_argument("--threads", type=int, default=2, help="of --measure")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.measure:
        print(serving_costs.measure(args.measure, args.threads, MEASURING_SECONDS))
        return 0
    if args.operations:
        report_operations()
        return 0
    costs, setting = serving_costs.load()
    print(f"Costs: {setting}. {costs.packed}\n")
    size = costs, args.requests, args.seeds
    cells = [run_cell(w, a, load, *size) for w in WORKLOADS for a in ARRIVALS for load in LOADS]
    saturated = [run_cell(w, "poisson", SATURATED, *size, SATURATED_STRATEGIES) for w in WORKLOADS]
    report(cells, saturated)
    if args.pictures:
        from serving_pictures import draw_waits  # needs matplotlib

        draw_waits(cells, args.pictures / "serving_waits.svg")
    broken = broken_promises(cells)
    print(*broken or ["vlt's policy keeps what is promised of its p99"], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
