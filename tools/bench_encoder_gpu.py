"""Time vlt against PyTorch on a GPU, in one process and in turns: bench_encoder.py --device cuda.

    python tools/bench_encoder.py --device cuda --prepare 12          # compiles, in parallel
    python tools/bench_encoder.py --device cuda --out gpu.json        # measures
    python tools/bench_encoder.py --device cuda --report gpu.json \\
        --markdown BENCHMARKS.md --picture docs/images/encoder_gpu.svg
    python tools/bench_encoder.py --device cuda --protocol            # ByteTransformer's, likewise

Needs torch with CUDA and transformers; the report needs neither. A cell is a workload on a model.
In each, all engines turn the same token ids on the device into the last layer's states on the
device, in the same precision; first their states are compared with float32 ones. `--out` adds a run
to the file after each cell, and the report takes several files, so that cells may be spread over
commands. A ratio is always of one run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import bench_gpu_report
from bench_gpu_cells import MODELS, WORKLOADS, cells
from bench_gpu_protocol import PROTOCOL_PEERS, protocol_cells, report
from peers.cuda import FLOOR, PEERS

DEFAULT_PEERS = ["packed-cg", "padded-compile", FLOOR]


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    def names(known: list[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            unknown = [name for name in text.split(",") if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not of {', '.join(known)}")
            return text.split(",")

        return parse

    parser = argparse.ArgumentParser(
        prog="bench_encoder.py --device cuda",
        description="Time vlt against PyTorch on a GPU.",
        epilog="Peers: " + "; ".join(f"{k}: {peer.description}" for k, peer in PEERS.items()),
    )
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--models", type=names(list(MODELS)), default=list(MODELS))
    parser.add_argument("--workloads", type=names(list(WORKLOADS)), default=list(WORKLOADS))
    parser.add_argument("--peers", type=names(list(PEERS)), help=", ".join(DEFAULT_PEERS))
    parser.add_argument(
        "--protocol",
        action="store_true",
        help=f"ByteTransformer's cells instead; peers: {', '.join(PROTOCOL_PEERS)}",
    )
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for checkpoints")
    parser.add_argument(
        "--compile-cache", type=Path, metavar="DIR", help="default: `compiled` in --cache"
    )
    parser.add_argument(
        "--prepare", type=int, metavar="N", help="only fill the caches, with N processes"
    )
    parser.add_argument("--out", type=Path, help="add the medians to this JSON file")
    parser.add_argument(
        "--report", type=Path, nargs="+", metavar="JSON", help="measure nothing, render these"
    )
    parser.add_argument("--markdown", type=Path, help="write the tables into this file")
    parser.add_argument("--picture", type=Path, help="write the picture (needs matplotlib)")
    args = parser.parse_args(arguments)
    args.compile_cache = args.compile_cache or args.cache / "compiled"
    args.peers = args.peers or (PROTOCOL_PEERS if args.protocol else DEFAULT_PEERS)
    args.cells = protocol_cells() if args.protocol else cells(args.models, args.workloads)
    if args.protocol and (args.markdown or args.picture):
        parser.error("--protocol prints its table: --markdown and --picture are for the other one")
    return args


def use_compile_cache(folder: Path) -> None:
    """Let torch.compile keep and find its results there; before torch is imported."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.absolute())
    os.environ["TORCHINDUCTOR_FX_GRAPH_CACHE"] = "1"
    os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "1"


def main(arguments: list[str]) -> int:
    """Prepare, measure or report; the exit status."""
    args = parse_arguments(arguments)
    if args.report and args.protocol:
        print(report(args.report))
        return 0
    if args.report:
        return bench_gpu_report.main(args.report, args.markdown, args.picture)
    use_compile_cache(args.compile_cache)
    if args.prepare:
        import bench_gpu_prepare

        problems = bench_gpu_prepare.prepare(
            args.cells, args.peers, args.dtype, args.cache, args.prepare
        )
    else:
        import bench_gpu_run

        problems = bench_gpu_run.measure(args.cells, args.peers, args.dtype, args.cache, args.out)
    print(*problems, sep="\n", file=sys.stderr)
    return 1 if problems else 0
