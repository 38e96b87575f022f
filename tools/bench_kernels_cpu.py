"""Share of its peak that a CPU reaches in linear, and of the rate at which it reads memory.

    cmake -S . -B build -DVLT_BUILD_TESTS=ON && cmake --build build
    python tools/bench_kernels_cpu.py --program build/vlt_bench_linear \\
        --backends avx512,avx512_bf16:bfloat16,avx512_vnni:int8 --threads 1 --markdown kernels.md

Products have 512 rows, or one row and weights that no cache holds. The peak is that of a loop of
independent multiply-adds in registers, the rate of reading that of a loop over 160 MiB. All figures
are medians of several turns and runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any


def measure(program: Path, backend: str, threads: int, runs: int) -> dict[str, Any]:
    """One backend's figures: medians over the runs."""
    command = [str(program), backend, str(threads)]
    found = [json.loads(subprocess.check_output(command, text=True)) for _ in range(runs)]
    rates = zip(*(run["products"] for run in found), strict=True)
    return {
        "backend": backend,
        "peak": statistics.median(run["peak"] for run in found),
        "read": statistics.median(run["read"] for run in found),
        "products": [
            {**same[0], "rate": statistics.median(each["rate"] for each in same)} for same in rates
        ],
    }


def share(product: dict[str, Any], figures: dict[str, Any]) -> str:
    """A product's rate, and its share of what is possible."""
    many = product["rows"] > 1
    ceiling = figures["peak"] if many else figures["read"]
    unit = f"{product['rate'] / 1e9:.0f} {'GFLOP/s' if many else 'GB/s'}"
    return f"{unit} ({product['rate'] / ceiling:.0%})" if ceiling else unit


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row for each product, a column for each backend."""
    head = ["M × N × K", *(each["backend"] for each in results)]
    rows = [head, ["---"] + ["---:"] * len(results)]
    peaks = [f"{r['peak'] / 1e9:.0f} GFLOP/s, {r['read'] / 1e9:.0f} GB/s" for r in results]
    rows.append(["peak, reading", *peaks])
    for i, product in enumerate(results[0]["products"]):
        name = f"{product['rows']} × {product['outputs']} × {product['inputs']}"
        rows.append([name, *(share(each["products"][i], each) for each in results)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    """Measure every backend, and print or write the table."""
    parser = argparse.ArgumentParser(description="Time linear on the CPU against its peak.")
    parser.add_argument("--program", type=Path, default=Path("build/vlt_bench_linear"))
    parser.add_argument("--backends", default="avx512,avx512_bf16:bfloat16,avx512_vnni:int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    results = [
        measure(args.program, backend, args.threads, args.runs)
        for backend in args.backends.split(",")
    ]
    text = table(results)
    print(text, end="")
    if args.markdown:
        args.markdown.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
