"""A picture of simulated waits: p99 against load.

Needs matplotlib. The same figures give the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from picture_file import STYLE, save
from serving_report import Cell

# Okabe and Ito's palette, as in the other pictures.
COLOURS = {
    "one by one": "#8C8C8C",
    "naive padded": "#E69F00",
    "DP padded": "#0072B2",
    "token budget": "#009E73",
    "vlt": "#D55E00",
}


def draw_waits(cells: Sequence[Cell], path: Path) -> None:
    """A row for each kind of arrivals, a column for each workload."""
    kinds = list(dict.fromkeys(cell.arrivals for cell in cells))
    workloads = list(dict.fromkeys(cell.workload for cell in cells))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(workloads), 2.6 * len(kinds)), layout="constrained")
        grid = figure.subplots(len(kinds), len(workloads), squeeze=False)
        for row, kind in enumerate(kinds):
            for column, workload in enumerate(workloads):
                chosen = [c for c in cells if (c.arrivals, c.workload) == (kind, workload)]
                draw_cell(grid[row, column], chosen)
                grid[row, column].set_title(f"{workload}, {kind}")
        for axes in grid[:, 0]:
            axes.set_ylabel("p99 (ms)")
        for axes in grid[-1]:
            axes.set_xlabel("load")
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=len(COLOURS),
            frameon=False,
        )
        save(figure, path)


def draw_cell(axes: Any, cells: Sequence[Cell]) -> None:
    for strategy in cells[0].results:
        waits = [1e3 * cell.mean(strategy, "p99") for cell in cells]
        width = 2.2 if strategy == "vlt" else 1.2
        loads = [cell.load for cell in cells]
        axes.plot(loads, waits, "o-", ms=3, lw=width, color=COLOURS[strategy], label=strategy)
    axes.set_yscale("log")
