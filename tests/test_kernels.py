"""Every kernel of every instruction set against the double-precision reference, in C++."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cmake_build
import pytest
from instruction_sets import INSTRUCTION_SETS, NARROW

CANNOT_RUN_HERE = 77


@pytest.fixture(scope="session")
def kernel_tests(build_tree: Path) -> Path:
    """The test program, built from the checkout."""
    cmake_build.build(build_tree, "vlt_kernel_tests")
    return build_tree / "vlt_kernel_tests"


FLOAT32_OPERATIONS = ("linear", "attention", "relative", "rows", "moves", "red_zones")
CASES = [(name, operation) for name in INSTRUCTION_SETS for operation in FLOAT32_OPERATIONS]
# What weights go into.
CASES += [
    (f"{name}:{dtype}", operation)
    for dtype, names in NARROW.items()
    for name in names
    for operation in ("linear", "attention", "relative", "rows")
]


@pytest.mark.parametrize(("backend", "operation"), CASES)
def test_kernels_match_the_reference(kernel_tests: Path, backend: str, operation: str) -> None:
    done = subprocess.run(
        [kernel_tests, backend, operation], capture_output=True, text=True, check=False
    )
    if done.returncode == CANNOT_RUN_HERE:
        pytest.skip(f"this machine cannot run {backend}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout


def test_sizes_on_a_device_are_planned(kernel_tests: Path) -> None:
    command = [str(kernel_tests), "reference", "device_plan"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
