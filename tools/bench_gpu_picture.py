"""A picture of what runs on a GPU showed: each engine's time over vlt's. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from bench_gpu_report import CellResult
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from peers.cuda import FLOOR
from picture_file import STYLE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Engine -> what to call it, its mark and colour (Okabe and Ito's).
ENGINES = {
    FLOOR: ("the matrix products alone, cuBLAS", "|", "#000000"),
    "packed-cg": ("PyTorch without padding, compiled by layers, CUDA graph", "o", "#0072B2"),
    "packed-whole": ("PyTorch without padding, compiled as a whole", "^", "#009E73"),
    "padded-compile": ("PyTorch padded, compiled, CUDA graph", "s", "#E69F00"),
}
ACCENT = "#D55E00"
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)


def draw(path: Path, results: Sequence[CellResult]) -> None:
    """One row a cell, time over vlt's on a logarithmic scale; vlt itself is the line at 1."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.6 + 0.26 * len(results)), layout="constrained")
        axes = figure.subplots()
        _draw_rows(axes, results)
        axes.axvline(1, color=ACCENT, linewidth=1.6, zorder=1, label="vlt")
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xticks([tick for tick in TICKS if low < tick < high])
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g} ×"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("time over vlt's")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        save(figure, path)


def _draw_rows(axes: Axes, results: Sequence[CellResult]) -> None:
    for name, (label, marker, colour) in ENGINES.items():
        points = [
            (result.timings[name].ratio, row)
            for row, result in enumerate(results)
            if name in result.timings
        ]
        if points:
            ratios, rows = zip(*points, strict=True)
            axes.plot(ratios, rows, marker, color=colour, label=label, markersize=6, zorder=2)
    axes.set_yticks(range(len(results)), [f"{r.model}  {r.workload}" for r in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#E8E8E8", linewidth=0.8)
