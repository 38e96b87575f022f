"""Replay traces of a server in simulated time, by vlt's scheduler and by those it is measured with.

    python tools/simulate_serving.py --pictures docs/images
    python tools/simulate_serving.py --measure weights.bin --threads 2
    python tools/simulate_serving.py --operations

The costs of batches are measured (tools/serving_costs.json, written by --measure, which wants a
quiet machine); time is simulated, so the same costs and seeds give the same figures everywhere.
Strategies: one by one; naive padded batches; TurboTransformers' dynamic programme on padded
batches; packed batches of the oldest up to a token budget; vlt's policy.

Besides these traces, whose arrivals are random, connections that always ask again, as a load test
has them, at a server with its own limits.

Prints tables, and fails where vlt's policy is worse in p99 than the token budget, mean over the
seeds, or not better by 5 % on mixed-256, and where it is worse by more than 10 % than fifo with
connections that always ask. Needs numpy and vlt; matplotlib for --pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import serving_costs
from serving_report import (
    LEGEND,
    Cell,
    Result,
    against_budget,
    broken_promises,
    closed_table,
    summarize,
    table,
    throughput,
)
from serving_simulation import (
    STRATEGIES,
    Costs,
    NaivePadded,
    Outcome,
    Packed,
    Strategy,
    simulate,
    simulate_closed,
)
from serving_traces import ARRIVALS, UNIFORM, Trace, draw_lengths, make_trace

from vlt.scheduling import Scheduler
from vlt.serving.policy import HANDOVER_SECONDS
from vlt.serving.settings import BATCH_TOKENS, EngineSettings

WORKLOADS = ("queries-1024", "mixed-256", "passages-512")
LOADS = (0.3, 0.5, 0.7, 0.9, 0.97)
SATURATED = 4.0  # more than any strategy can serve
SMALL_BATCHES = (2, 4, 8)  # of naive padding: it wins less by batches, and loses less
MEASURING_SECONDS = 30.0  # of the padded table
# Connections that always ask, at a server with its own limits and the model's longest input.
CONNECTIONS = (16, 64, 256)
AWAY_SECONDS = 0.005  # between answer and next request, as measured (BENCHMARKS.md, Serving)
LONGEST = 256
SETTLING = 25  # requests of each connection before the figures begin
POLICIES = {"fifo": "fifo", "vlt": "latency"}
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


def run_closed(
    workload: str, connections: int, costs: Costs, requests: int, seeds: int
) -> dict[str, list[Result]]:
    """Both policies of the server, on the same lengths."""
    packed = replace(costs.packed, base=costs.packed.base + HANDOVER_SECONDS)
    served = replace(costs, packed=packed)
    limits = {"max_wait": EngineSettings.max_wait, "max_tokens": BATCH_TOKENS["cpu"]}
    results: dict[str, list[Result]] = {name: [] for name in POLICIES}
    for seed in range(seeds):
        lengths = draw_lengths(workload, LONGEST, SETTLING * connections + requests, seed)
        for name, policy in POLICIES.items():
            strategy = Packed(served, policy, **limits)
            trace, outcome = simulate_closed(lengths, connections, AWAY_SECONDS, strategy, seed)
            settled = slice(SETTLING * connections, -connections)
            part = Trace(trace.arrivals[settled], trace.lengths[settled])
            results[name].append(
                summarize(part, Outcome(outcome.done[settled], outcome.num_batches), served)
            )
    return results


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
    saturated = [
        run_cell(w, "poisson", SATURATED, *size, SATURATED_STRATEGIES)
        for w in (*WORKLOADS, *UNIFORM)
    ]
    report(cells, saturated)
    closed = {(w, n): run_closed(w, n, *size) for w in WORKLOADS for n in CONNECTIONS}
    print(f"Connections that always ask:\n\n{closed_table(closed)}\n")
    if args.pictures:
        from serving_pictures import draw_waits  # needs matplotlib

        draw_waits(cells, args.pictures / "serving_waits.svg")
    broken = broken_promises(cells, closed)
    print(*broken or ["vlt's policy keeps what is promised of its p99"], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
