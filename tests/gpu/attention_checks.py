"""What every attention has to pass: right, within its memory, and the same bits in every batch."""

from __future__ import annotations

import random

import torch
from gpu import kernels
from gpu.attention_problem import FAMILIES, Problem, sequence_rows
from gpu.cases import REDUCED
from gpu.report import Report

_LENGTHS = (1, 3, 16, 17, 31, 64, 65, 100, 128, 129, 130, 192, 193, 256, 260)
SHORT_AND_LONG = (1, 16, 17, 65, 129) if REDUCED else _LENGTHS


def lengths_upwards(most: int) -> list[int]:
    """0 … most, shuffled: every length, and every place of a sequence in its block."""
    lengths = list(range(most + 1))
    random.Random(5).shuffle(lengths)
    return lengths


def check(report: Report, problem: Problem, label: str, against_torch: bool = False) -> None:
    exact, bound = problem.exact()
    # Not under sanitizers: racecheck breaks PyTorch's products in half precision, with no kernel of
    # vlt run before them, and initcheck does not see what they write.
    peer = problem.by_torch() if against_torch and not REDUCED else None
    for family in filter(problem.fits, FAMILIES):
        case = f"{family} {problem} {label}"
        out, _ = problem.run(family)
        actual = out.view[: problem.rows]
        report.within(case, actual, exact, bound)
        report.intact(case, out, problem.rows)
        if peer is not None:
            report.no_worse_than(case, actual, peer, exact)


def check_same_bits(report: Report, problem: Problem) -> None:
    """Same bits alone, in another order, between NaN and infinity, on few processors, again."""
    few, no_overlap = kernels.traits_with(num_multiprocessors=3), kernels.traits_with(overlap=False)
    for family in filter(problem.fits, FAMILIES):
        expected = problem.result(family).clone()
        _check_alone(report, problem, family, expected)
        _check_reversed(report, problem, family, expected)
        _check_ill_neighbours(report, problem, family, expected)
        for name, traits in (("3 SMs", few), ("no overlap", no_overlap), ("again", None)):
            case = f"{family} {problem} {name}"
            report.same_bits(case, problem.result(family, traits), expected)


def _check_alone(report: Report, problem: Problem, family: str, expected: torch.Tensor) -> None:
    for index, length in enumerate(problem.lengths):
        rows = sequence_rows(problem.lengths, index)
        alone = problem.like(problem.qkv[rows], [length]).result(family)
        report.same_bits(f"{family} {problem} L={length} alone", alone, expected[rows])


def _check_reversed(report: Report, problem: Problem, family: str, expected: torch.Tensor) -> None:
    pieces = [sequence_rows(problem.lengths, i) for i in range(len(problem.lengths))][::-1]
    qkv = torch.cat([problem.qkv[rows] for rows in pieces])
    backwards = problem.like(qkv, problem.lengths[::-1]).result(family)
    wanted = torch.cat([expected[rows] for rows in pieces])
    report.same_bits(f"{family} {problem} in reverse", backwards, wanted)


def _check_ill_neighbours(
    report: Report, problem: Problem, family: str, expected: torch.Tensor
) -> None:
    """Every other sequence is NaN, infinity, or both; those between are as ever."""
    qkv, well = problem.qkv.clone(), torch.ones(problem.rows, dtype=torch.bool)
    for index in range(0, len(problem.lengths), 2):
        rows = sequence_rows(problem.lengths, index)
        qkv[rows] = (torch.nan, torch.inf, -torch.inf)[index // 2 % 3]
        well[rows] = False
    actual = problem.like(qkv, problem.lengths).result(family)
    well = well.to(qkv.device)
    report.same_bits(f"{family} {problem} beside NaN", actual[well], expected[well])
