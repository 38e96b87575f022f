"""`vlt bench`: speed, memory and where the time goes, on lists of sequence lengths."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import vlt
from vlt import outputs
from vlt.errors import InvalidArgumentError
from vlt.handles import Model, Session
from vlt.packing import PackedIds
from vlt.token_encoder import usable_cores
from vlt.weights_source import weights_of

from .common import DEMO_NAME, add_command, add_engine_options, demo_model, megabytes, positive

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

# "vocabulary" would ask for tokens to choose.
OUTPUT_NAMES = [name for name in outputs.OUTPUTS if name != "vocabulary"]

# Lengths in tokens, when no file of workloads is given; the larger ones only on a GPU.
DEFAULT_WORKLOADS = {
    "single-16": {"lengths": [16]},
    "single-128": {"lengths": [128]},
    "mixed-32": {"lengths": [8 + 15 * index % 120 for index in range(32)]},
}
GPU_WORKLOADS = {
    **DEFAULT_WORKLOADS,
    "mixed-1024": {"lengths": [8 + 15 * index % 120 for index in range(1024)]},
}

EXAMPLES = """\
  vlt bench                                            the demo's model, three small workloads
  vlt bench weights.bin --threads 2 --repeat 20
  vlt bench weights.bin --workloads workloads.json --json > bench.json
  vlt bench weights.bin --device cuda --dtype bfloat16

workloads.json is an object: name -> {"lengths": [tokens of each sequence]}. Token ids are random.
A workload with a sequence longer than the model takes is left out, and said so."""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands, "bench", run, "Measure speed, memory and where the time goes.", EXAMPLES
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL",
        help="a weights file or a model folder (the demo's model)",
    )
    parser.add_argument("--workloads", type=Path, metavar="FILE", help="JSON file, see below")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="this workload; may be repeated"
    )
    parser.add_argument(
        "--repeat", type=positive, default=10, metavar="N", help="timed runs of each (10)"
    )
    parser.add_argument("--output", choices=OUTPUT_NAMES, default="hidden", help="what to compute")
    parser.add_argument(
        "--disable-graphs", action="store_true", help="on a GPU: launch every kernel anew"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> None:
    """Measure the workloads one by one, and print each as soon as it is known."""
    path = options.model or demo_model()
    model = Model(weights_of(path), options.device, options.dtype)
    own = GPU_WORKLOADS if model.gpu else DEFAULT_WORKLOADS
    workloads = read_workloads(options.workloads, options.only, own)
    outputs.require(model.info, options.output)
    report: dict[str, Any] = {
        "version": vlt.__version__,
        "model": str(options.model or DEMO_NAME),
        "device": model.device,
        "dtype": model.info["compute_type"],
        "kernels": model.info["kernels"],
        "threads": None if model.gpu else options.threads or usable_cores(),
        "output": options.output,
        "repeat": options.repeat,
        "workloads": {},
    }
    if not options.json:
        print(as_heading(report))
    for name, lengths in workloads.items():
        result = measure(model, lengths, options)
        report["workloads"][name] = result
        if not options.json:
            print(as_text(name, result))
    if options.json:
        print(json.dumps(report, indent=2))


def read_workloads(
    path: Path | None, only: list[str] | None, default: Mapping[str, Any] = DEFAULT_WORKLOADS
) -> dict[str, list[int]]:
    """name -> lengths, checked."""
    content: Any = default
    if path is not None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidArgumentError(f"{path} is not JSON: {error}") from None
    where = path or "the workloads"
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"{where} must hold an object, name -> {{'lengths': [...]}}")
    workloads = {name: lengths_of(name, entry, where) for name, entry in content.items()}
    for name in only or []:
        if name not in workloads:
            raise InvalidArgumentError(
                f"there is no workload {name!r} in {where}; it has {', '.join(workloads)}"
            )
    return {name: workloads[name] for name in only} if only else workloads


def lengths_of(name: str, entry: Any, where: Path | str) -> list[int]:
    """The lengths of one workload, checked."""
    lengths = entry.get("lengths") if isinstance(entry, dict) else None
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise InvalidArgumentError(
            f"workload {name!r} of {where} must be {{'lengths': [tokens of each sequence]}}"
        )
    if not any(lengths):
        raise InvalidArgumentError(f"workload {name!r} of {where} has no tokens")
    return lengths


def measure(model: Model, lengths: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """Times, memory and profile of one workload; {"skipped": why} if the model cannot run it."""
    longest = model.info["max_length"]
    if max(lengths) > longest:
        return {"skipped": f"a sequence of {max(lengths)} tokens, and the model takes {longest}"}
    ids = random_ids(lengths, model.info["vocab_size"])
    tokens = len(ids.values)
    shape = model.outputs[options.output].shape(tokens, len(lengths))
    out = np.empty(shape, np.float32)

    session = Session(model, options.threads, disable_graphs=options.disable_graphs)
    session.reserve(tokens, len(lengths), max(lengths))
    seconds = timed(lambda: session.run(ids, options.output, out), options.repeat)
    profiled = Session(model, options.threads, profile=True)
    timed(lambda: profiled.run(ids, options.output, out), options.repeat)
    median = statistics.median(seconds)
    return {
        "sequences": len(lengths),
        "tokens": tokens,
        "padded_tokens": max(lengths) * len(lengths),
        "padding_avoided": max(lengths) * len(lengths) / tokens,
        "median_ms": median * 1e3,
        "fastest_ms": min(seconds) * 1e3,
        "tokens_per_second": tokens / median,
        "memory": session.memory_stats(),
        "profile": profile_of(profiled),
    }


def random_ids(lengths: list[int], vocab_size: int) -> PackedIds:
    """The same random ids each time."""
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    values = np.random.default_rng(0).integers(0, vocab_size, int(starts[-1]), np.int32)
    return PackedIds(values, starts)


def timed(call: Callable[[], None], repeat: int) -> list[float]:
    """Seconds of each of `repeat` calls, after one that warms up."""
    call()
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds


def profile_of(session: Session) -> list[dict[str, Any]]:
    """Each operation's share of the time and its speed."""
    entries = session.profile()
    total = sum(entry["seconds"] for entry in entries)
    return [
        {
            "operation": entry["name"],
            "calls": entry["calls"],
            "seconds": entry["seconds"],
            "share": entry["seconds"] / total if total else 0.0,
            "gflops": entry["flops"] / entry["seconds"] / 1e9 if entry["seconds"] else 0.0,
        }
        for entry in entries
    ]


def as_heading(report: Mapping[str, Any]) -> str:
    """What was measured and how, in a line."""
    threads = f"{report['threads']} threads, " if report["threads"] else ""
    return (
        f"{report['model']}: {report['dtype']} on {report['device']} with {report['kernels']}, "
        f"{threads}output {report['output']}, median of {report['repeat']}"
    )


def as_text(name: str, result: Mapping[str, Any]) -> str:
    """The result of one workload, for people."""
    if "skipped" in result:
        return f"\n{name}: left out: {result['skipped']}"
    memory = result["memory"]
    work = f"{result['sequences']} sequences, {result['tokens']:,} tokens"
    padding = f"padding would make {result['padding_avoided']:.2f} times as many tokens"
    held = f"workspace {megabytes(memory['peak_held_bytes'])}"
    parts = f"{memory['parts'] / memory['runs']:.0f} parts a run"
    if memory["graphs"]:
        parts += f", {memory['graphs']} graphs"
    lines = [
        f"\n{name}: {result['median_ms']:.2f} ms, {result['tokens_per_second']:,.0f} tokens/s",
        f"  {work}; {padding}",
        f"  {held}, {memory['system_allocations']} allocations in {memory['runs']} runs, {parts}",
        f"  {'operation':32} {'share':>6} {'ms a run':>10} {'GFLOP/s':>9}",
    ]
    for entry in result["profile"]:
        speed = f"{entry['gflops']:9.1f}" if entry["gflops"] else " " * 9
        milliseconds = entry["seconds"] * 1e3 / memory["runs"]
        lines.append(
            f"  {entry['operation']:32} {entry['share']:6.1%} {milliseconds:10.3f} {speed}"
        )
    return "\n".join(lines)
