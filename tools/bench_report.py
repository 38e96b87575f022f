"""Tables of a benchmark's medians: engines side by side, and the best peer's time over vlt's."""

from __future__ import annotations

import math
from dataclasses import dataclass

# How a mode is marked behind its time; a padded batch, the usual way, has no mark.
MARKS = {"packed": "", "padded": "", "alone": "*", "spread": "**"}
LEGEND = (
    "Milliseconds, the median of interleaved rounds; each engine at the best of its modes: padded "
    "batches of 32 sorted by length, * one sequence at a time, ** one at a time on one-thread "
    "instances. GFLOP/s counts the products of real tokens only."
)


@dataclass(frozen=True)
class Result:
    """One workload on one model."""

    workload: str
    num_sequences: int
    num_tokens: int
    gflop: float  # of the linear layers and the attention on tokens, padding not counted
    medians: dict[str, dict[str, float]]  # engine -> mode -> seconds

    def best(self, engine: str) -> tuple[float, str]:
        """The engine's best time in seconds and the mode it was reached in."""
        return min((seconds, mode) for mode, seconds in self.medians[engine].items())

    @property
    def peers(self) -> list[str]:
        return [engine for engine in self.medians if engine != "vlt"]

    @property
    def ratio(self) -> float:
        """The best peer's time over vlt's: above 1, vlt is faster."""
        return min(self.best(peer)[0] for peer in self.peers) / self.best("vlt")[0]


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def table(results: list[Result]) -> list[list[str]]:
    """Header and rows of cells."""
    peers = results[0].peers
    rows = [["workload", "tokens", *peers, "vlt", "GFLOP/s", "best peer / vlt"]]
    for result in results:
        seconds = result.best("vlt")[0]
        rows.append(
            [
                f"{result.workload} ({result.num_sequences})",
                f"{result.num_tokens:,}",
                *(_cell(*result.best(peer)) for peer in peers),
                _cell(seconds, "packed"),
                f"{result.gflop / seconds:.0f}",
                f"{result.ratio:.2f}",
            ]
        )
    return rows


def summary(results: list[Result]) -> str:
    ratios = [result.ratio for result in results]
    worst = min(results, key=lambda result: result.ratio)
    return (
        f"best peer / vlt: geometric mean {geometric_mean(ratios):.2f}, "
        f"worst {worst.ratio:.2f} ({worst.workload})"
    )


def render_markdown(model: str, results: list[Result]) -> str:
    header, *rows = table(results)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"**{model}** - {summary(results)}\n\n{body}\n"


def render_setting(setting: dict[str, str]) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in setting.items())
    return f"{facts}.\n\n{LEGEND}\n"


def render_text(model: str, results: list[Result]) -> str:
    rows = table(results)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([model, *lines, summary(results)])


def _cell(seconds: float, mode: str) -> str:
    milliseconds = f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"
    return milliseconds + MARKS[mode]
