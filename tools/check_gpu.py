"""Run the reduced GPU tests under compute-sanitizer's tools; fails where one finds an error.

    python tools/check_gpu.py                           # all tools, up to 500 seconds each
    python tools/check_gpu.py --jobs 4                  # the tools beside each other
    python tools/check_gpu.py --tools racecheck --limit 900 -- -k "attention and not fp32"

Needs a GPU, compute-sanitizer, torch with CUDA, pytest and a build of the tests' kernels. What
follows `--` goes to pytest. Each tool prints one line; its log is kept in --logs.

Only vlt's kernels are checked, but by initcheck, which must see all that is written: there reports
on other kernels are counted apart and forgiven.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
OWN_KERNELS = ["--kernel-name", "kns=3vlt"]  # the namespace in a mangled name
# Options of each tool. What the CUDA interface refuses is not asked for: PyTorch probes it.
TOOLS: dict[str, list[str]] = {
    "memcheck": [*OWN_KERNELS, "--report-api-errors", "no"],
    "synccheck": OWN_KERNELS,
    "initcheck": [],
    "racecheck": OWN_KERNELS,
}
# initcheck does not see what the copy engine writes, so it checks the kernels that do without.
ENVIRONMENTS = {"initcheck": {"VLT_CUDA_KERNELS": "mma"}}
# racecheck looks at one kernel at a time: whole encoders, for which it takes an hour, add none. To
# initcheck an encoder's kernels read rows of the workspace that nothing wrote: they ask for rows
# before they know how many there are, and ignore those.
ENCODERS = ["--ignore", "tests/gpu/test_encoder_gpu.py"]
IGNORED = {"racecheck": ENCODERS, "initcheck": ENCODERS}
# Without PyTorch's cache each tensor is an allocation, whose end these two then know.
UNCACHED = ("memcheck", "initcheck")
COMMON = ["--print-limit", "1000", "--error-exitcode", "86"]
LIMIT_SECONDS = 500
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
UNINITIALIZED = re.compile(r"========= Uninitialized .*\n(?:=========.*\n)*")


class Verdict(NamedTuple):
    passed: bool
    words: str


def command(tool: str, pytest_arguments: Sequence[str]) -> list[str]:
    """The sanitizer on the GPU tests."""
    tests = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q"]
    quiet = ["-p", "no:cacheprovider"]
    return [
        *["compute-sanitizer", "--tool", tool, *COMMON, *TOOLS[tool]],
        *[*tests, *quiet, *IGNORED.get(tool, []), *pytest_arguments],
    ]


def run(tool: str, pytest_arguments: Sequence[str], limit: float, log: Path) -> int | None:
    """Write all output to the log; the exit status, or None at the time limit."""
    environment = {**os.environ, "VLT_GPU_TESTS": "reduced", **ENVIRONMENTS.get(tool, {})}
    if tool in UNCACHED:
        environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command(tool, pytest_arguments),
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all its children can be ended with it
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def judge(tool: str, status: int | None, log: str) -> Verdict:
    """What a finished run says."""
    if status is None:
        return Verdict(False, "not finished within the time limit")
    summary = SUMMARY.search(log)
    if summary is None:
        return Verdict(False, f"exit status {status}, and the sanitizer wrote no summary")
    tests = outcome_of_tests(log)
    if not re.search(r"\b[1-9]\d* passed", tests) or re.search(r"\b(failed|error)", tests):
        return Verdict(False, f"tests: {tests}; sanitizer: {summary[0]}")
    errors = int(summary[1])
    if tool == "initcheck" and errors:
        reports = UNINITIALIZED.findall(log)
        own = sum("vlt::" in report for report in reports)
        # Reports that were not printed may be anybody's.
        forgiven = own == 0 and len(reports) >= errors
        words = f"{own} of {len(reports)} reports on vlt's kernels, {errors} errors in all"
        return Verdict(forgiven, f"{words}; tests: {tests}")
    return Verdict(errors == status == 0, f"{errors} errors; tests: {tests}")


def outcome_of_tests(log: str) -> str:
    """pytest's last line: how many tests passed, failed, were skipped."""
    lines = [line for line in log.splitlines() if re.search(r"\d+ \w+.* in [\d.]+s", line)]
    return lines[-1].strip("= ") if lines else "no summary of pytest"


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    arguments = [*sys.argv[1:], "--"]
    split = arguments.index("--")
    parser = argparse.ArgumentParser(description="The GPU tests under compute-sanitizer.")
    parser.add_argument("--tools", default=",".join(TOOLS), help="default: %(default)s")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="seconds a tool; default: %(default)s"
    )
    parser.add_argument("--jobs", type=int, default=1, help="tools at a time; default: one")
    parser.add_argument("--logs", type=Path, default=ROOT / "build" / "sanitizer")
    args = parser.parse_args(arguments[:split])
    args.tools = args.tools.split(",")
    unknown = [tool for tool in args.tools if tool not in TOOLS]
    if unknown:
        parser.error(f"there is no tool {unknown[0]!r}; there are {', '.join(TOOLS)}")
    return args, arguments[split + 1 : -1]


def main() -> int:
    args, pytest_arguments = parse_arguments()
    if shutil.which("compute-sanitizer") is None:
        print("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit")
        return 1
    args.logs.mkdir(parents=True, exist_ok=True)

    def check(tool: str) -> bool:
        log = args.logs / f"{tool}.log"
        start = time.perf_counter()
        status = run(tool, pytest_arguments, args.limit, log)
        verdict = judge(tool, status, log.read_text(encoding="utf-8", errors="replace"))
        seconds = time.perf_counter() - start
        word = "passed" if verdict.passed else "FAILED"
        print(f"{tool:10} {word} in {seconds:.0f} s: {verdict.words} ({log})", flush=True)
        return verdict.passed

    with ThreadPoolExecutor(args.jobs) as pool:
        return 0 if all(list(pool.map(check, args.tools))) else 1


if __name__ == "__main__":
    sys.exit(main())
