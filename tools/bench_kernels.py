"""Time each GPU kernel by itself, beside PyTorch's and beside what the device can do.

Needs a GPU, PyTorch, and libvlt_kernel_shim.so from a build with VLT_BUILD_TESTS and VLT_CUDA, in
build/ or where the environment variable VLT_KERNEL_SHIM says.

    python tools/bench_kernels.py                        everything; some two minutes
    python tools/bench_kernels.py --only gemm --models bert-base
    python tools/bench_kernels.py --all-tiles            every tile of the products, for the chooser
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import kernel_cases
import kernel_report
import torch
from gpu import kernels
from kernel_cases import Case
from kernel_report import Ceilings, Result
from kernel_timing import copy_ceiling, matmul_ceiling, time_in_turns

GROUPS = ("gemm", "attention", "rows")
MODELS = tuple(kernel_cases.HIDDEN_SIZES)


def main() -> None:
    arguments = _parse()
    torch.manual_seed(0)
    ceilings = Ceilings(matmul_ceiling(), copy_ceiling())
    setting = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "dtype": arguments.dtype,
    }
    print(*(f"{key} {value}" for key, value in setting.items()), sep=", ")
    print(f"matmul {ceilings.flops / 1e12:.0f} TFLOP/s, copy {ceilings.bytes / 1e9:.0f} GB/s")
    results: list[Result] = []
    for group in GROUPS:
        if arguments.only in (None, group):
            results += _run(group, arguments, ceilings)
    if arguments.out:
        report = {
            "setting": setting,
            "ceilings": asdict(ceilings),
            "results": [result.to_json(ceilings) for result in results],
        }
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=GROUPS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--all-tiles", action="store_true", help="products: time every tile")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    arguments = parser.parse_args()
    if arguments.all_tiles:
        if arguments.only not in (None, "gemm"):
            parser.error(f"--all-tiles is about the products: --only {arguments.only} leaves none")
        arguments.only = "gemm"
        if not kernels.device_traits().hopper_kernels:
            parser.error("--all-tiles needs a device of compute capability 9.0")
    return arguments


def _run(group: str, arguments: argparse.Namespace, ceilings: Ceilings) -> list[Result]:
    dtype = getattr(torch, arguments.dtype)
    models: list[str] = arguments.models
    if group == "gemm":
        results = _time(kernel_cases.gemm_cases(models, dtype, arguments.all_tiles), ceilings)
        if arguments.all_tiles:
            names = [kernels.hopper_tile(tile) for tile in range(kernels.num_hopper_tiles())]
            kernel_report.print_tiles(results, names)
        else:
            kernel_report.print_gemm(results)
    elif group == "attention":
        with_wide = [*models, "wide heads"] if len(models) == len(MODELS) else models
        results = _time(kernel_cases.attention_cases(with_wide, dtype), ceilings)
        kernel_report.print_attention(results, ceilings)
        if "bert-base" in models:
            padded = _time(kernel_cases.padded_attention_cases(dtype), ceilings)
            kernel_report.print_padded_attention(padded)
            results += padded
    else:
        results = _time(kernel_cases.row_cases(models, dtype), ceilings)
        kernel_report.print_rows(results, ceilings)
    sys.stdout.flush()
    return results


def _time(cases: Iterable[Case], ceilings: Ceilings) -> list[Result]:
    results = []
    processors = kernels.device_traits().num_multiprocessors
    for case in cases:
        estimate = max(2e-6, case.flops / ceilings.flops, case.bytes / ceilings.bytes)
        seconds = time_in_turns(case.launches, case.num_sets, estimate)
        sizes = case.sizes
        tile = -1
        if "tile 0" in seconds:
            tile = kernels.choose_hopper_tile(
                sizes["M"], sizes["N"], sizes["K"], case.kernel == "up", processors
            )
        results.append(
            Result(
                case.kernel, case.model, sizes, case.flops, case.bytes, seconds, case.notes, tile
            )
        )
    return results


if __name__ == "__main__":
    main()
