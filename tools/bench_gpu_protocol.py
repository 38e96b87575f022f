"""ByteTransformer's protocol on a GPU: bench_encoder.py --device cuda --protocol.

Zhai et al., IPDPS 2023 (arXiv:2210.03052): BERT-base, batches of 1, 8 and 16 sequences whose
lengths are uniform with 0.6 of the longest as their mean; the longest is 64 … 1,024. The peers are
what PyTorch's users have today, and one that needs no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_gpu_cells import Cell
from bench_gpu_report import CellResult, load_runs, markdown_table, merge, render_setting
from bench_report import geometric_mean
from peers.cuda import PEERS

BATCHES = (1, 8, 16)
LONGEST = (64, 128, 256, 512, 1024)
PROTOCOL_PEERS = ["padded", "padded-compile", "packed-cg"]
# How much faster than each engine ByteTransformer was, mean over its protocol, in its own paper.
PAPER = {
    "PyTorch JIT": 1.87,
    "TensorFlow XLA": 2.31,
    "TurboTransformers": 2.38,
    "DeepSpeed": 1.74,
    "FasterTransformer": 1.55,
}


def protocol_cells() -> list[Cell]:
    """A cell for each batch and longest sequence; a single sequence has the mean length."""
    return [
        Cell("bert-base", f"uniform-{count}x{longest}", protocol_lengths(count, longest))
        for count in BATCHES
        for longest in LONGEST
    ]


def protocol_lengths(count: int, longest: int) -> tuple[int, ...]:
    """Evenly from a fifth of the longest to the longest; draws of so few would miss the mean."""
    if count == 1:
        return (round(0.6 * longest),)
    return tuple(round(longest * (0.2 + 0.8 * i / (count - 1))) for i in range(count))


def protocol_table(results: Sequence[CellResult]) -> list[list[str]]:
    """Header and rows: milliseconds of vlt, and each peer's time over it; the mean comes last."""
    peers = [name for name in PEERS if any(name in result.timings for result in results)]
    rows = [
        [
            result.workload,
            f"{result.tokens:,}",
            f"{result.timings['vlt'].milliseconds:.3f}",
            *(_ratio(result, name) for name in peers),
        ]
        for result in results
    ]
    means = [
        f"{geometric_mean([r.timings[name].ratio for r in results if name in r.timings]):.2f}"
        for name in peers
    ]
    header = ["workload", "tokens", "vlt", *(f"{name} / vlt" for name in peers)]
    return [header, *rows, ["geometric mean", "", "", *means]]


def _ratio(result: CellResult, name: str) -> str:
    return f"{result.timings[name].ratio:.2f}" if name in result.timings else "–"


def report(paths: Sequence[Path]) -> str:
    """What the files of `--protocol --out` hold, with the paper's figures."""
    runs = load_runs(paths)
    margins = ", ".join(f"{name} {ratio:.2f}" for name, ratio in PAPER.items())
    return "\n\n".join(
        [
            *dict.fromkeys(render_setting(run["setting"]) for run in runs),
            markdown_table(protocol_table(merge(runs))),
            f"In its paper, ByteTransformer was faster by these factors on average: {margins}.",
        ]
    )
