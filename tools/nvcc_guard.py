"""Run a CUDA compiler and fail where it says that a kernel came out slow.

    python tools/nvcc_guard.py nvcc -Xptxas -v ... -c kernel.cu

The assembler reports spilled registers, and matrix products or register settings that it could not
keep, as mere information. Here each is an error, named with its kernel. The rest of the report is
dropped unless the environment variable VLT_NVCC_REPORT is set.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

FUNCTION = re.compile(r"Function properties for (\S+)|Compiling entry function '(\S+)'")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
# C7508: setmaxnreg ignored. C7510, C7515 and others: wgmma serialised, each for its own reason.
SLOW = re.compile(r"\(C75\d\d\)|Potential Performance Loss")


def problems(report: str) -> Iterator[str]:
    """One line for every kernel that spills or was serialised."""
    function = "?"
    for line in report.splitlines():
        named = FUNCTION.search(line)
        if named:
            function = named.group(1) or named.group(2)
        spills = SPILLS.search(line)
        if spills and any(int(count) for count in spills.groups()):
            yield f"{function}: {spills.group(0)}"
        if SLOW.search(line):
            yield line.strip()


def is_information(line: str) -> bool:
    """Is it a line of the assembler's report rather than a diagnosis?"""
    return line.startswith("ptxas info") or "bytes stack frame" in line


def main(command: list[str]) -> int:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(problems(result.stderr))
    everything = bool(os.environ.get("VLT_NVCC_REPORT"))
    for line in result.stderr.splitlines():
        if everything or not is_information(line):
            print(line, file=sys.stderr)
    print(result.stdout, end="")
    for problem in found:
        print(f"error: slow kernel: {problem}", file=sys.stderr)
    return result.returncode or (1 if found else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
