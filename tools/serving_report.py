"""What simulations of a server say: waits, fairness, throughput; tables and promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from serving_simulation import Costs, Outcome
from serving_traces import Floats, Trace

LONG = 64  # tokens; above it a request counts as long

LEGEND = (
    "Waits are milliseconds from arrival to answer, means over the seeds. p99 short, p99 long: of "
    f"requests of up to {LONG} tokens, and of longer ones. Slowdown: the largest wait over the "
    "time that the request takes alone. Batch: requests of a batch, on average."
)


@dataclass(frozen=True)
class Result:
    """One trace served by one strategy."""

    p50: float
    p99: float
    p99_short: float  # nan where there are none
    p99_long: float
    slowdown: float
    rate: float  # requests a second, from the first arrival to the last answer
    batch: float  # requests


def percentile(waits: Floats, percent: float) -> float:
    return float(np.percentile(waits, percent)) if len(waits) else float("nan")


def summarize(trace: Trace, outcome: Outcome, costs: Costs) -> Result:
    waits = outcome.waits(trace)
    lengths = trace.lengths.astype(np.float64)
    cost = costs.packed
    alone = cost.base + cost.per_token * lengths + cost.per_square * lengths**2
    span = outcome.done.max() - trace.arrivals[0]
    return Result(
        p50=percentile(waits, 50),
        p99=percentile(waits, 99),
        p99_short=percentile(waits[lengths <= LONG], 99),
        p99_long=percentile(waits[lengths > LONG], 99),
        slowdown=float((waits / alone).max()),
        rate=len(waits) / span,
        batch=len(waits) / outcome.num_batches,
    )


@dataclass(frozen=True)
class Cell:
    """One workload, kind of arrivals and load: a result for each seed, by strategy."""

    workload: str
    arrivals: str
    load: float
    results: Mapping[str, Sequence[Result]]

    def mean(self, strategy: str, what: str) -> float:
        return float(np.mean([getattr(each, what) for each in self.results[strategy]]))

    def ratios(self, what: str, strategy: str, other: str) -> Floats:
        """Of each seed: strategy / other."""
        pairs = zip(self.results[strategy], self.results[other], strict=True)
        return np.array([getattr(a, what) / getattr(b, what) for a, b in pairs])


def milliseconds(seconds: float) -> str:
    if np.isnan(seconds):
        return ""
    return f"{1e3 * seconds:,.0f}" if seconds > 0.01 else f"{1e3 * seconds:.1f}"


def rows(cell: Cell) -> Iterator[str]:
    for strategy in cell.results:
        waits = (cell.mean(strategy, what) for what in ("p50", "p99", "p99_short", "p99_long"))
        yield (
            f"| {cell.load} | {strategy} | {' | '.join(map(milliseconds, waits))} | "
            f"{cell.mean(strategy, 'slowdown'):,.0f} | {cell.mean(strategy, 'batch'):.1f} |"
        )


def table(cells: Sequence[Cell]) -> str:
    """Of one workload and kind of arrivals."""
    head = "| load | strategy | p50 | p99 | p99 short | p99 long | slowdown | batch |"
    rule = "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    return "\n".join([head, rule, *(row for cell in cells for row in rows(cell))])


def against_budget(cells: Sequence[Cell]) -> str:
    """p99 of vlt's policy over that of the token budget, each seed by itself."""
    lines = [
        "| workload | arrivals | load | p99, vlt / token budget | worst seed |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for cell in cells:
        ratios = cell.ratios("p99", "vlt", "token budget")
        lines.append(
            f"| {cell.workload} | {cell.arrivals} | {cell.load} | "
            f"{np.exp(np.log(ratios).mean()):.2f} | {ratios.max():.2f} |"
        )
    return "\n".join(lines)


def closed_table(results: Mapping[tuple[str, int], Mapping[str, Sequence[Result]]]) -> str:
    """By workload and connections: two policies against each other, means over the seeds."""
    lines = [
        "| workload | connections | p99 fifo | p99 vlt | p99, vlt / fifo | worst seed | "
        "requests/s, vlt / fifo |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (workload, connections), found in results.items():
        cell = Cell(workload, "closed", connections, found)
        ratios = cell.ratios("p99", "vlt", "fifo")
        rates = cell.ratios("rate", "vlt", "fifo")
        waits = " | ".join(milliseconds(cell.mean(name, "p99")) for name in ("fifo", "vlt"))
        lines.append(
            f"| {workload} | {connections} | {waits} | {np.exp(np.log(ratios).mean()):.2f} | "
            f"{ratios.max():.2f} | {rates.mean():.3f} |"
        )
    return "\n".join(lines)


def throughput(cells: Sequence[Cell]) -> str:
    """Requests a second where more come than can be served."""
    names = list(cells[0].results)
    lines = [
        f"| workload | {' | '.join(names)} | DP / naive | DP / best naive |",
        f"| --- |{' ---: |' * (len(names) + 2)}",
    ]
    for cell in cells:
        rates = {name: cell.mean(name, "rate") for name in names}
        best = max(rate for name, rate in rates.items() if name.startswith("naive"))
        lines.append(
            f"| {cell.workload} | {' | '.join(f'{rate:,.0f}' for rate in rates.values())} | "
            f"{rates['DP padded'] / rates['naive padded']:.2f} | {rates['DP padded'] / best:.2f} |"
        )
    return "\n".join(lines)


MOST_CLOSED = 1.1  # times the p99 of fifo


def broken_promises(
    cells: Sequence[Cell],
    closed: Mapping[tuple[str, int], Mapping[str, Sequence[Result]]] | None = None,
) -> list[str]:
    """Where vlt's policy is worse in p99 than the token budget, or not better where it must be."""
    broken = []
    for (workload, connections), found in (closed or {}).items():
        ratios = Cell(workload, "closed", connections, found).ratios("p99", "vlt", "fifo")
        if ratios.mean() > MOST_CLOSED:
            broken.append(
                f"{workload}, {connections} connections: p99 of vlt is {ratios.mean():.3f} of "
                f"fifo's; at most {MOST_CLOSED} is promised"
            )
    for cell in cells:
        mean = float(np.exp(np.log(cell.ratios("p99", "vlt", "token budget")).mean()))
        bound = 0.95 if cell.workload == "mixed-256" else 1.0
        if mean > bound + 1e-9:
            broken.append(
                f"{cell.workload}, {cell.arrivals}, load {cell.load}: p99 of vlt is {mean:.3f} of "
                f"the token budget's; at most {bound} is promised"
            )
    return broken
