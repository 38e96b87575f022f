"""What runs on a GPU showed: their cells merged, as tables and in words.

A file of `bench_encoder.py --device cuda --out` holds runs, each with its setting and its cells. A
peer's ratio to vlt is of the latest run that timed both on the cell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_gpu_cells import MODELS, WORKLOADS
from bench_report import geometric_mean
from peers.cuda import FLOOR, PEERS

BEGIN = "<!-- written by tools/bench_encoder.py --device cuda -->"
END = "<!-- end of what it wrote -->"
LEGEND = (
    "Milliseconds from ids on the device to states on the device, the median of runs in turns. "
    f"`{FLOOR}` is no peer but the forward pass's matrix products alone, by cuBLAS in one CUDA "
    f"graph; *of floor* is its time over vlt's. TFLOP/s are vlt's and count the products of real "
    "tokens only. *lists* is vlt from lists of ids to float32 numpy states, on the host's clock."
)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of an engine, and of vlt in the same run."""

    milliseconds: float
    vlt: float

    @property
    def ratio(self) -> float:
        """Above 1, vlt is faster."""
        return self.milliseconds / self.vlt


@dataclass
class CellResult:
    """A cell with the latest timing of each engine."""

    model: str
    workload: str
    tokens: int
    gflop: float
    timings: dict[str, Timing] = field(default_factory=dict)

    @property
    def teraflops(self) -> float:
        """vlt's rate on the real tokens, in TFLOP/s."""
        return self.gflop / self.timings["vlt"].milliseconds

    @property
    def peers(self) -> dict[str, Timing]:
        """Those that do the same work, in the order of PEERS."""
        return {n: self.timings[n] for n in PEERS if n in self.timings and n != FLOOR}

    @property
    def ratio(self) -> float | None:
        """The best peer's time over vlt's."""
        return min((timing.ratio for timing in self.peers.values()), default=None)

    @property
    def floor_share(self) -> float | None:
        """The products' time over vlt's: 1 would be a forward pass of products only."""
        return self.timings[FLOOR].ratio if FLOOR in self.timings else None


def load_runs(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """All runs of the files, in their order."""
    return [run for path in paths for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]


def merge(runs: Sequence[dict[str, Any]]) -> list[CellResult]:
    """One result for each cell, model by model in the order of the benchmark, then any others."""
    results: dict[tuple[str, str], CellResult] = {}
    for run in runs:
        for cell in run["cells"]:
            key = cell["model"], cell["workload"]
            new = CellResult(*key, cell["tokens"], cell["gflop"])
            times = cell["milliseconds"]
            timings = {name: Timing(each, times["vlt"]) for name, each in times.items()}
            results.setdefault(key, new).timings.update(timings)
    order = [(model, workload) for model in MODELS for workload in WORKLOADS]
    known = [results.pop(key) for key in order if key in results]
    return [*known, *results.values()]


def table(results: Sequence[CellResult]) -> list[list[str]]:
    """Header and rows of cells, for results of one model."""
    peers = [n for n in PEERS if n != FLOOR and any(n in r.timings for r in results)]
    columns = [*peers, FLOOR, "vlt"]
    header = ["workload", "tokens", *columns, "TFLOP/s", "best peer / vlt", "of floor", "lists"]
    rows = [
        [
            result.workload,
            f"{result.tokens:,}",
            *(_milliseconds(result.timings.get(name)) for name in columns),
            f"{result.teraflops:.0f}",
            _number(result.ratio),
            _number(result.floor_share),
            _milliseconds(result.timings.get("vlt lists")),
        ]
        for result in results
    ]
    return [header, *rows]


def summary(results: Sequence[CellResult]) -> str:
    """Geometric means and worst cells of the ratios to each peer, to the best and to the floor."""
    lines = []
    for name in [n for n in PEERS if n != FLOOR]:
        ratios = [(r.timings[name].ratio, r) for r in results if name in r.timings]
        lines += _mean_and_worst(f"{name} / vlt", ratios)
    best = [(r.ratio, r) for r in results if r.ratio is not None]
    shares = [(r.floor_share, r) for r in results if r.floor_share is not None]
    lines += _mean_and_worst("best peer / vlt", best)
    lines += _mean_and_worst("share of the floor", shares)
    return "\n".join(f"- {line}" for line in lines)


def _mean_and_worst(what: str, values: Sequence[tuple[float, CellResult]]) -> list[str]:
    if not values:
        return []
    worst, where = min(values, key=lambda pair: pair[0])
    mean = geometric_mean([value for value, _ in values])
    return [
        f"{what}: geometric mean {mean:.2f}, worst {worst:.2f} ({where.model}, {where.workload}), "
        f"{len(values)} cells"
    ]


def render_setting(setting: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in setting.items()) + "."


def render_line(cell: dict[str, Any]) -> str:
    """A cell that was just measured, in one line."""
    result = merge([{"cells": [cell]}])[0]
    times = " ".join(f"{n} {_milliseconds(t)}" for n, t in result.timings.items())
    errors = " ".join(f"{name} {error:.1e}" for name, error in cell["errors"].items())
    return (
        f"{result.model:10} {result.workload:15} {times} | {result.teraflops:.0f} TFLOP/s, "
        f"best peer / vlt {_number(result.ratio)}, of floor {_number(result.floor_share)} | "
        f"errors: {errors}"
    )


def render_markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Settings, tables and summary of runs in one precision."""
    results = merge(runs)
    settings = list(dict.fromkeys(render_setting(run["setting"]) for run in runs))
    parts = ["\n\n".join(settings), LEGEND]
    for model in dict.fromkeys(result.model for result in results):
        body = markdown_table(table([result for result in results if result.model == model]))
        parts.append(f"**{model}**\n\n{body}")
    return "\n\n".join([*parts, summary(results)])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Header and rows of cells, all columns but the first aligned to the right."""
    header, *others = rows
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *others]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def update(path: Path, text: str) -> None:
    """Put `text` between the marks in the file; at its end, with the marks, where it has none."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n".lstrip()
    before, _, rest = old.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{path} has the line {BEGIN!r} but no {END!r} after it; add one")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(paths: Sequence[Path], markdown: Path | None, picture: Path | None) -> int:
    """Print what the files hold, and write it where it was asked for."""
    runs = load_runs(paths)
    if not any(run["cells"] for run in runs):
        raise SystemExit(f"there is no measured cell in {', '.join(map(str, paths))}")
    precisions = dict.fromkeys(run["setting"]["precision"] for run in runs)
    texts = [
        render_markdown([run for run in runs if run["setting"]["precision"] == precision])
        for precision in precisions
    ]
    print("\n\n".join(texts))
    if markdown:
        update(markdown, "\n\n".join(texts))
    if picture:
        from bench_gpu_picture import draw  # needs matplotlib

        first = next(iter(precisions))
        draw(picture, merge([run for run in runs if run["setting"]["precision"] == first]))
    return 0


def _milliseconds(timing: Timing | None) -> str:
    if timing is None:
        return "–"
    value = timing.milliseconds
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
