"""Replay traces of requests by vlt's allocator and by those it is measured against.

    pip install numpy cmake ninja matplotlib     # matplotlib for --pictures only
    python tools/bench_allocator.py --pictures docs/images
    PYTHONPATH=python VLT_LIBRARY=build/libvlt.so python tools/bench_allocator.py --planning
    PYTHONPATH=python VLT_LIBRARY=build/libvlt.so python tools/bench_allocator.py --device cuda

A trace (allocators/traces.py) is a list of requests of T tokens and S sequences; each runs the
whole forward pass of an encoder (allocators/records.py), in one piece, on four allocators: one
allocation a tensor, a caching allocator, TurboTransformers' (all three written here, in Python,
after their descriptions) and vlt's own C++. Bytes and counts may be compared, times may not: only
vlt's are of a compiled program.

Fails when vlt plans more for a request than 1.01 times its most live bytes and an alignment, or
more than TurboTransformers' allocator. `--planning` measures instead what planning costs a run,
`--device cuda` what PyTorch's own caching allocator and vlt's own sessions hold on a GPU: BERT-base
in half precision, for vlt real runs with all that a session needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from allocator_shim import Batch, Record
from allocators import caching, per_tensor, planned, torch_cuda, turbo
from allocators.outcome import Outcome
from allocators.records import MODELS, forward_pass, half_row_bytes, lower_bound
from allocators.report import LEGEND, Replay, broken_promises, markdown
from allocators.traces import TRACES

Allocator = Callable[[Sequence[Record], Sequence[Batch]], list[Outcome]]

ALLOCATORS: dict[str, tuple[Allocator, str]] = {
    "per tensor": (per_tensor.replay, per_tensor.UNIT),
    "caching": (caching.replay, caching.UNIT),
    "turbo": (turbo.replay, turbo.UNIT),
    "vlt": (planned.replay, planned.UNIT),
}


def replay_all(trace: str, records: Sequence[Record], requests: Sequence[Batch]) -> list[Replay]:
    """The trace on every allocator, in the order of ALLOCATORS."""
    bounds = [lower_bound(records, request) for request in requests]
    return [
        Replay(trace, name, bounds, replay(records, requests))
        for name, (replay, _) in ALLOCATORS.items()
    ]


def bench_model(name: str, traces: Sequence[str]) -> list[str]:
    """Replay the traces on one model, print what came out, return what does not hold."""
    records = forward_pass(MODELS[name])
    replays: list[Replay] = []
    broken: list[str] = []
    for trace in traces:
        replays += replay_all(trace, records, TRACES[trace]())
        broken += broken_promises(replays[-1], replays[-2], planned.ALIGNMENT)
    print(f"**{name}**\n\n{markdown(replays)}\n\n{planning_time(records, traces[0])}\n")
    return [f"{name}, {line}" for line in broken]


def planning_time(records: Sequence[Record], trace: str) -> str:
    """What planning took vlt, in words."""
    requests = TRACES[trace]()
    plan = planned.plan(records, requests)
    each = plan.evaluation_seconds / len(requests)
    return (
        f"vlt planned the {len(records)} buffers once in {1e6 * plan.planning_seconds:.0f} µs, "
        f"and placed them for a request of {trace} in {1e6 * each:.2f} µs."
    )


def report_planning(threads: int) -> None:
    """Measure and print what planning costs a run."""
    from allocators import session_planning  # needs the library, which the replay does not

    one = session_planning.measure(threads)
    print(
        f"bert-base, {one.num_sequences} sequences of 128 tokens, "
        f"{threads} threads: a run takes {1e3 * one.run_seconds:.1f} ms, of which planning "
        f"{1e6 * one.planning_seconds:.1f} µs, {one.planning_seconds / one.run_seconds:.4%} "
        f"(medians of {one.runs} runs)"
    )


def report_device(traces: Sequence[str]) -> None:
    """Replay the traces on a GPU and print what was held; one sentence where there is none."""
    reason = torch_cuda.missing()
    if reason:
        print(f"Skipped: {reason}.")
        return
    from allocators import session_memory  # needs the library, which the replay does not

    records = forward_pass(MODELS["bert-base"], half_row_bytes)
    replays: list[Replay] = []
    with session_memory.bert_base() as weights:
        for trace in traces:
            requests = TRACES[trace]()
            bounds = [lower_bound(records, request) for request in requests]
            replays += [
                Replay(trace, "caching, simulated", bounds, caching.replay(records, requests)),
                Replay(trace, "PyTorch's", bounds, torch_cuda.replay(records, requests)),
                Replay(trace, "vlt's session", bounds, session_memory.replay(weights, requests)),
            ]
    print(f"{LEGEND}\n\n**bert-base, half precision, GPU**\n\n{markdown(replays)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay traces of requests by allocators.")
    parser.add_argument("--models", default=",".join(MODELS), help="default: %(default)s")
    parser.add_argument("--traces", default=",".join(TRACES), help="default: %(default)s")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the pictures there")
    parser.add_argument("--planning", action="store_true", help="time planning within real runs")
    parser.add_argument("--threads", type=int, default=2, help="of --planning")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to replay")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.planning:
        report_planning(args.threads)
        return 0
    if args.device == "cuda":
        report_device(args.traces.split(","))
        return 0
    units = ", ".join(f"{name}: {unit}" for name, (_, unit) in ALLOCATORS.items())
    print(f"{LEGEND}\nUnits of {units}.\n")
    traces = args.traces.split(",")
    broken = [line for model in args.models.split(",") for line in bench_model(model, traces)]
    if args.pictures:
        from allocators import pictures  # needs matplotlib

        pictures.draw_all(args.pictures, {name: run for name, (run, _) in ALLOCATORS.items()})
    print(*broken or ["every planned peak holds what is promised"], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
