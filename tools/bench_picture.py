"""A picture of what bench_encoder.py measured on a CPU. Needs matplotlib.

    python tools/bench_picture.py float32.json bfloat16.json int8.json docs/images/encoder_cpu.svg

A row for each model: tokens a second against the length of a single text, of vlt and the best peer
in each precision; and the best peer's time over vlt's on every workload.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import matplotlib as mpl
from bench_report import Result
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter
from picture_file import STYLE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Precision -> mark and colour (Okabe and Ito's).
PRECISIONS = {
    "float32": ("o", "#0072B2"),
    "bfloat16": ("^", "#009E73"),
    "int8": ("s", "#D55E00"),
}
TICKS = [digit * 10**power for power in range(2, 6) for digit in (1, 2, 5)]  # tokens/s

Results: TypeAlias = dict[str, dict[str, list[Result]]]  # model -> precision -> workloads


def read(paths: Sequence[Path]) -> Results:
    """The results of several runs; of runs alike the last one counts."""
    results: Results = {}
    for path in paths:
        document = json.loads(path.read_text(encoding="utf-8"))
        precision = document["setting"]["precision"]
        for model, rows in document["results"].items():
            results.setdefault(model, {})[precision] = [Result(**row) for row in rows]
    return results


def single_texts(rows: Sequence[Result]) -> list[Result]:
    """The workloads of one text, by its length."""
    return sorted((row for row in rows if row.num_sequences == 1), key=lambda row: row.num_tokens)


def best_peer_seconds(row: Result) -> float:
    return row.ratio * row.best("vlt")[0]


def draw(path: Path, results: Results) -> None:
    """All models, one below the other."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4 * len(results)), layout="constrained")
        grid = figure.subplots(len(results), 2, squeeze=False, width_ratios=(2, 3))
        for (speeds, ratios), (model, runs) in zip(grid, results.items(), strict=True):
            _draw_speeds(speeds, runs)
            _draw_ratios(ratios, runs)
            speeds.set_title(f"{model}: one text", loc="left")
            ratios.set_title(f"{model}: the best peer's time over vlt's", loc="left")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        save(figure, path)


def _draw_speeds(axes: Axes, runs: dict[str, list[Result]]) -> None:
    lengths: list[int] = []
    for precision, rows in runs.items():
        marker, colour = PRECISIONS[precision]
        singles = single_texts(rows)
        lengths = [row.num_tokens for row in singles]
        ours = [row.num_tokens / row.best("vlt")[0] for row in singles]
        theirs = [row.num_tokens / best_peer_seconds(row) for row in singles]
        axes.plot(lengths, ours, f"{marker}-", color=colour, label=f"vlt, {precision}")
        axes.plot(lengths, theirs, f"{marker}:", color=colour, fillstyle="none", label="best peer")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in TICKS if low < tick < high])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("tokens")
    axes.set_ylabel("tokens/s")
    axes.grid(color="#E8E8E8", linewidth=0.8)


def _draw_ratios(axes: Axes, runs: dict[str, list[Result]]) -> None:
    names = list(dict.fromkeys(row.workload for rows in runs.values() for row in rows))
    for precision, rows in runs.items():
        marker, colour = PRECISIONS[precision]
        places = [names.index(row.workload) for row in rows]
        axes.plot([row.ratio for row in rows], places, marker, color=colour, markersize=6)
    axes.axvline(1, color="black", linewidth=1)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g} ×"))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#E8E8E8", linewidth=0.8)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="what bench_encoder.py --out wrote")
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    draw(args.picture, read(args.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
