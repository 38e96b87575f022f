"""tools/nvcc_guard.py finds what the assembler says of slow kernels, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import nvcc_guard

ENTRY = "ptxas info    : Compiling entry function 'some_kernel' for 'sm_90a'\n"
FAST = f"""{ENTRY}ptxas info    : Function properties for some_kernel
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, used 16 barriers
"""
SPILLED = FAST.replace("0 bytes spill stores", "8 bytes spill stores")
# As ptxas 13.0 says it.
SERIALISED = (
    "ptxas info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are "
    "serialized due to non wgmma instructions defining accumulator registers of a wgmma between "
    "start and end of the pipeline stage in the function 'some_kernel'\n"
)


def test_a_fast_kernel_has_no_problem() -> None:
    assert not list(nvcc_guard.problems(FAST))


@pytest.mark.parametrize("report", [SPILLED, FAST + SERIALISED], ids=["spilled", "serialised"])
def test_a_slow_kernel_is_named(report: str) -> None:
    (problem,) = nvcc_guard.problems(report)
    assert "some_kernel" in problem


@pytest.mark.parametrize("code", ["C7508", "C7510", "C7515"])
def test_every_code_of_lost_performance_counts(code: str) -> None:
    assert list(nvcc_guard.problems(f"ptxas info    : ({code}) something was not kept\n"))
