"""tools/check_gpu.py passes what is clean and nothing else, going by the sanitizer's output."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import check_gpu

PASSED = "12 passed, 3 skipped in 4.56s\n"
CLEAN = "========= ERROR SUMMARY: 0 errors\n"


def uninitialized(kernel: str) -> str:
    return (
        "========= Uninitialized __global__ memory read of size 4 bytes\n"
        f"=========     at {kernel}+0x70\n"
        "=========     by thread (0,0,0) in block (0,0,0)\n"
        "\n"
    )


def test_clean_runs_pass() -> None:
    for tool in ("memcheck", "synccheck", "initcheck"):
        assert check_gpu.judge(tool, 0, PASSED + CLEAN).passed
    hazards = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
    assert check_gpu.judge("racecheck", 0, PASSED + hazards).passed


@pytest.mark.parametrize(
    ("status", "log", "words"),
    [
        (None, PASSED, "time limit"),
        (1, PASSED, "no summary"),
        (1, f"1 failed, 3 passed in 4.56s\n{CLEAN}", "1 failed"),
        (0, f"3 skipped in 0.01s\n{CLEAN}", "3 skipped"),
        (5, f"7 deselected in 0.01s\n{CLEAN}", "7 deselected"),
        (0, CLEAN, "no summary of pytest"),
        (86, f"{PASSED}========= ERROR SUMMARY: 2 errors\n", "2 errors"),
        (134, PASSED + CLEAN, "0 errors"),
    ],
)
def test_everything_else_fails(status: int | None, log: str, words: str) -> None:
    verdict = check_gpu.judge("memcheck", status, log)
    assert not verdict.passed
    assert words in verdict.words


def test_hazards_fail() -> None:
    log = PASSED + "========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)\n"
    assert not check_gpu.judge("racecheck", 86, log).passed


def test_initcheck_forgives_only_other_kernels() -> None:
    others = uninitialized("at::native::fill") * 2 + PASSED
    assert check_gpu.judge("initcheck", 86, f"{others}========= ERROR SUMMARY: 2 errors\n").passed
    unseen = f"{others}========= ERROR SUMMARY: 3 errors\n"
    assert not check_gpu.judge("initcheck", 86, unseen).passed
    own = uninitialized("void vlt::cuda::pool_kernel(int)") + others
    assert not check_gpu.judge("initcheck", 86, f"{own}========= ERROR SUMMARY: 3 errors\n").passed
