"""Pictures for the documentation: where a forward pass lies, and what is held over a trace.

Needs matplotlib. The same figures give the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from allocator_shim import Batch, Record
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter
from picture_file import STYLE, save

from allocators import planned
from allocators.outcome import Outcome
from allocators.records import MODELS, forward_pass, kinds, lower_bound, num_operations
from allocators.traces import TRACES
from allocators.turbo import Turbo

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Replayed = Callable[[Sequence[Record], Sequence[Batch]], list[Outcome]]

MIB = 1 << 20
# Okabe and Ito's palette: told apart by those who see fewer colours, too.
KIND_COLOURS = {
    "states": "#0072B2",
    "qkv": "#E69F00",
    "context": "#F0E442",
    "attended": "#56B4E9",
    "expanded": "#009E73",
    "pooled": "#CC79A7",
}
ACCENT = "#D55E00"
# Name as in bench_allocator.ALLOCATORS -> what to call it, its colour.
ALLOCATORS = {
    "per tensor": ("per tensor", "#8C8C8C"),
    "caching": ("caching", "#E69F00"),
    "turbo": ("TurboTransformers", "#0072B2"),
    "vlt": ("vlt", ACCENT),
}
PLAN_MODEL = "minilm"
PLAN_BATCH = Batch(1115, 16)  # the workload uniform-16x128
HELD_MODEL = "bert-base"
# Trace -> what it is, how many of its requests are shown, the scale of bytes.
HELD_TRACES = {
    "spike": ("One request of 64 × 512 tokens among small ones", 120, "log"),
    "alternating": ("Requests of 20 and of 500 tokens in turns", 24, "linear"),
}
UNUSED = "#E8E8E8"
DASHED = (0, (4, 2))


@dataclass(frozen=True)
class Layout:
    """Where each record lies, and the blocks that all lie in, bottom up."""

    title: str
    offsets: Sequence[int]
    blocks: Sequence[int]


def vlt_layout(records: Sequence[Record], batch: Batch) -> Layout:
    plan = planned.plan(records, [batch])
    return Layout("vlt", [int(offset) for offset in plan.offsets[0]], [int(plan.peaks[0])])


def turbo_layout(records: Sequence[Record], batch: Batch) -> Layout:
    """TurboTransformers' chunks of a first request, one above the other, the largest below."""
    turbo = Turbo()
    turbo.plan(records, batch)
    offsets = [0] * len(records)
    blocks = [chunk.size for chunk in reversed(turbo.chunks)]
    for number, chunk in enumerate(reversed(turbo.chunks)):
        for placed in chunk.placed:
            offsets[placed.record_index] = sum(blocks[:number]) + placed.offset
    return Layout("TurboTransformers", offsets, blocks)


def draw_plans(path: Path) -> None:
    """One forward pass as vlt places it beside TurboTransformers' placement."""
    model = MODELS[PLAN_MODEL]
    records = forward_pass(model)
    bound = lower_bound(records, PLAN_BATCH)
    layouts = [vlt_layout(records, PLAN_BATCH), turbo_layout(records, PLAN_BATCH)]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, layout in zip(panels, layouts, strict=True):
        _draw_layout(axes, layout, records, kinds(model), bound)
        axes.set_xticks([3.5 + 5 * layer for layer in range(model.num_layers)])
        axes.set_xticklabels([f"layer {layer + 1}" for layer in range(model.num_layers)])
        axes.tick_params(axis="x", length=0)
    panels[0].set_ylabel("address, MiB")
    # What is pooled, a row a sequence, is too thin to see.
    handles: list[Artist] = [
        Patch(color=color, label=kind) for kind, color in KIND_COLOURS.items() if kind != "pooled"
    ]
    handles.append(Patch(color=UNUSED, label="unused"))
    handles.append(Line2D([], [], color=ACCENT, linestyle=DASHED, label="most bytes alive at once"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    save(figure, path)


def _draw_layout(
    axes: Axes, layout: Layout, records: Sequence[Record], kinds: Sequence[str], bound: int
) -> None:
    end = num_operations(records)
    for number, block in enumerate(layout.blocks):
        below = sum(layout.blocks[:number]) / MIB
        axes.bar(0, block / MIB, end, below, align="edge", color=UNUSED)
        axes.axhline(below + block / MIB, color="black", linewidth=1, zorder=3)
    for record, kind, offset in zip(records, kinds, layout.offsets, strict=True):
        axes.bar(
            record.first_op,
            record.bytes(PLAN_BATCH) / MIB,
            record.last_op + 1 - record.first_op,
            offset / MIB,
            align="edge",
            color=KIND_COLOURS[kind],
            edgecolor="white",
            linewidth=0.5,
        )
    axes.axhline(bound / MIB, color=ACCENT, linewidth=1.6, linestyle=DASHED, zorder=3)
    total = sum(layout.blocks)
    blocks = f"{len(layout.blocks)} chunks" if len(layout.blocks) > 1 else "one block"
    axes.set_title(
        f"{layout.title}: {blocks}, {total / MIB:.1f} MiB, "
        f"{total / bound:.2f} × the least possible",
        loc="left",
    )
    axes.set_xlim(0, end)


def draw_held(path: Path, replays: Mapping[str, Mapping[str, Sequence[Outcome]]]) -> None:
    """Bytes held over the requests; `replays` holds the outcomes by trace and allocator."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, len(replays))
    for axes, (trace, outcomes) in zip(panels, replays.items(), strict=True):
        description, shown, scale = HELD_TRACES[trace]
        for name, (label, colour) in ALLOCATORS.items():
            held = [outcome.held / MIB for outcome in outcomes[name][:shown]]
            asked = sum(outcome.system_allocations for outcome in outcomes[name][:shown])
            axes.step(
                range(shown),
                held,
                where="mid",
                color=colour,
                label=f"{label} ({asked:,})",
                linewidth=1.6,
            )
        axes.set_title(description, loc="left")
        axes.set_xlabel("request")
        axes.set_ylabel("held, MiB")
        axes.set_xlim(0, shown - 1)
        axes.set_yscale(scale)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.legend(
            title="in brackets: allocations from the system",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=2,
            frameon=False,
        )
    save(figure, path)


def draw_all(folder: Path, allocators: Mapping[str, Replayed], suffix: str = ".svg") -> None:
    """Write both pictures into the folder; `allocators` are replay functions by name."""
    records = forward_pass(MODELS[HELD_MODEL])
    with mpl.rc_context(STYLE | {"figure.constrained_layout.wspace": 0.05}):
        draw_plans((folder / "allocator_plan").with_suffix(suffix))
        draw_held(
            (folder / "allocator_held").with_suffix(suffix),
            {
                trace: {name: run(records, TRACES[trace]()) for name, run in allocators.items()}
                for trace in HELD_TRACES
            },
        )
