"""Time two builds of the library against each other: does a change pay in a whole encoder?

    python tools/bench_versions.py OLD/libvlt.so NEW/libvlt.so --models minilm
    python tools/bench_versions.py OLD/libvlt.so NEW/libvlt.so --device cuda --dtype float16

Both run under this checkout's Python, in processes that take turns; each figure is the median over
the processes of their own medians. A kernel that wins by itself may lose here, where caches and
power are shared: see BENCHMARKS.md. Models are those of bench_encoder.py, and on a GPU those of
bench_encoder.py --device cuda, which needs torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

Times = dict[str, dict[str, float]]  # cell -> what was timed -> milliseconds

# Options that a process of its own gets as they are, and lists of names.
PASSED_ON = ("device", "dtype", "threads", "seconds", "cache")
LISTS = ("models", "workloads")


def measure_cpu(args: argparse.Namespace) -> Times:
    """`run`: all sequences of a workload in one call."""
    from bench_encoder import SLICES, draw_workload, open_vlt
    from bench_models import MODELS, open_model, read_shape
    from bench_timing import Entry, time_interleaved

    import vlt

    times: Times = {}
    for name in chosen(args.models, list(MODELS)):
        model = open_model(name, args.cache)
        vocab_size = read_shape(model.folder).vocab_size
        with open_vlt(model, args.threads, args.dtype) as encoder:
            for workload in chosen(args.workloads, list(SLICES)):
                packed = vlt.pack(draw_workload(workload, vocab_size))
                entry = Entry("vlt", "packed", partial(encoder.run, packed))
                time_interleaved([entry], args.seconds)
                times[f"{name} {workload}"] = {"run": 1e3 * entry.median}
    return times


def measure_cuda(args: argparse.Namespace) -> Times:
    """`device`: arrays there in and out; `in a row`: many such calls, each; `lists`: from lists."""
    import torch
    from bench_gpu_cells import MODELS, WORKLOADS, cells, load_bert, make_work, write_checkpoint
    from bench_gpu_timing import (
        Engine,
        device_milliseconds,
        host_milliseconds,
        time_interleaved,
    )
    from bench_gpu_vlt import RunningVlt

    torch.set_grad_enabled(False)
    times: Times = {}
    with torch.cuda.stream(torch.cuda.Stream()):
        for name in chosen(args.models, list(MODELS)):
            folder = write_checkpoint(name, args.dtype, args.cache)
            bert, encoder = load_bert(folder, args.dtype), RunningVlt(folder, args.dtype)
            for cell in cells([name], chosen(args.workloads, list(WORKLOADS))):
                work = make_work(cell, bert)
                run = encoder.on_device(work).run
                lists = Engine("lists", encoder.from_lists(work), host_milliseconds)
                found = time_interleaved([Engine("device", run), lists])
                count = max(3, int(100 / found["device"]))
                in_a_row = device_milliseconds(partial(repeat, run, count))
                found["in a row"] = in_a_row / count
                times[str(cell)] = found
            encoder.close()
    return times


def repeat(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def chosen(names: list[str] | None, known: list[str]) -> list[str]:
    """Those of `names` that exist, or all."""
    for name in names or []:
        if name not in known:
            sys.exit(f"{name!r} is not of {', '.join(known)}")
    return names or known


def in_own_process(library: Path, arguments: list[str]) -> Times:
    """What measure_…() gives with this build."""
    if not library.exists():
        sys.exit(f"there is no {library}")
    command = [sys.executable, __file__, "--measure", str(library), *arguments]
    environment = {**os.environ, "VLT_LIBRARY": str(library.absolute())}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def table(old: list[Times], new: list[Times]) -> str:
    """Markdown: milliseconds of both and their ratio; above 1 the new build is faster."""
    rows = [
        "| cell | timed | old, ms | new, ms | old / new |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    logarithms: dict[str, list[float]] = {}
    for cell, timed in old[0].items():
        for what in timed:
            before, after = (
                statistics.median(times[cell][what] for times in rounds) for rounds in (old, new)
            )
            logarithms.setdefault(what, []).append(math.log(before / after))
            rows.append(f"| {cell} | {what} | {before:.4g} | {after:.4g} | {before / after:.3f} |")
    for what, each in logarithms.items():
        rows.append(f"| geometric mean | {what} | | | {math.exp(statistics.fmean(each)):.3f} |")
    return "\n".join(rows)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description="Time two builds of libvlt in turns.")
    parser.add_argument("libraries", type=Path, nargs="+", metavar="LIBRARY", help="old, then new")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", help="default: float32, on a GPU float16")
    parser.add_argument("--models", type=names, help="default: all")
    parser.add_argument("--workloads", type=names, help="default: all")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each build")
    parser.add_argument("--seconds", type=float, default=2.0, help="about, for a cell on the CPU")
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for checkpoints")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if not args.measure and len(args.libraries) != 2:
        parser.error(f"it takes two libraries, the old and the new one, not {len(args.libraries)}")
    args.dtype = args.dtype or ("float32" if args.device == "cpu" else "float16")
    return args


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    measure: dict[str, Callable[[argparse.Namespace], Times]] = {
        "cpu": measure_cpu,
        "cuda": measure_cuda,
    }
    if args.measure:
        print(json.dumps(measure[args.device](args)))
        return
    options = [f"--{name}={value}" for name, value in vars(args).items() if name in PASSED_ON]
    options += [f"--{name}={','.join(vars(args)[name])}" for name in LISTS if vars(args)[name]]
    rounds: tuple[list[Times], list[Times]] = ([], [])
    for number in range(args.rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)  # neither always comes first
        for i in order:
            rounds[i].append(in_own_process(args.libraries[i], options))
    print(table(*rounds))


if __name__ == "__main__":
    main(sys.argv[1:])
