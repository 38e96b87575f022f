"""What each step from padded PyTorch to vlt gives, as in ByteTransformer's paper.

    python tools/bench_gpu_ladder.py [--longest 128 256 512 1024]

Needs what bench_encoder.py --device cuda and bench_kernels.py need. BERT-base on 16 sequences of
ByteTransformer's protocol; all rungs take turns in one process, and each one's states are compared
with float32 ones. The rungs up to the third launch every kernel from Python: where batches are
small, that is most of their time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from bench_gpu_cells import Cell, load_bert, make_work, write_checkpoint
from bench_gpu_protocol import protocol_lengths
from bench_gpu_report import markdown_table
from bench_gpu_run import Check
from bench_gpu_timing import Engine, time_interleaved
from bench_gpu_vlt import RunningVlt
from peers.cuda import Work, ladder

MODEL, DTYPE = "bert-base", "float16"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--longest", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for checkpoints")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    folder = write_checkpoint(MODEL, DTYPE, arguments.cache)
    bert = load_bert(folder, DTYPE)
    launched, recorded = RunningVlt(folder, DTYPE, disable_graphs=True), RunningVlt(folder, DTYPE)
    rows: list[list[str]] = []
    with torch.cuda.stream(torch.cuda.Stream()):
        for longest in arguments.longest:
            cell = Cell(MODEL, f"uniform-16x{longest}", protocol_lengths(16, longest))
            times = _measure(make_work(cell, bert), launched, recorded)
            rows = rows or [["longest", *times]]
            first = times["padded"]
            rows.append([str(longest), *(f"{t:.3f} ({first / t:.2f})" for t in times.values())])
    print(f"{torch.cuda.get_device_name()}, ms (times as fast as padded)\n")
    print(markdown_table(rows))


def _measure(work: Work, launched: RunningVlt, recorded: RunningVlt) -> dict[str, float]:
    """Milliseconds of each rung."""
    rungs = {
        "padded": ladder.make_padded,
        "packed": ladder.make_packed,
        "fused epilogues": ladder.make_fused,
        "fused attention": launched.on_device,
        "graphs": recorded.on_device,
    }
    check = Check(work)
    engines = []
    for name, make in rungs.items():
        ready = make(work)
        check(name, ready)
        engines.append(Engine(name, ready.run))
    return time_interleaved(engines)


if __name__ == "__main__":
    main()
