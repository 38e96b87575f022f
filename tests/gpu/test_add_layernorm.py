"""The norm of a sum, of rows of every kind and width."""

from __future__ import annotations

import pytest
import torch
from gpu import kernels, references
from gpu.cases import DTYPES, REDUCED, Random, name_of
from gpu.guarded import Guarded, guard
from gpu.kernels import DEVICE, Norm
from gpu.report import Report
from gpu.row_cases import SPARE_ROWS, count, norm_of, rows_of

pytestmark = pytest.mark.gpu

WIDTHS = (1, 33, 64) if REDUCED else (*range(1, 71, 3), 312, 384, 768, 1000, 1024, 4096)
ROWS = 40

for_every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)


@for_every_dtype
def test_add_layernorm(dtype: torch.dtype) -> None:
    with Report() as report:
        for width in WIDTHS:
            x, norm = rows_of(width, dtype, ROWS), norm_of(width)
            y = Random(width + 1).normal(ROWS, width, dtype=dtype)
            for residual in (y, None):
                total = x.double() if residual is None else x.double() + residual.double()
                exact, bound = references.layernorm(
                    total, norm.weight, norm.bias, norm.epsilon, dtype, terms=2
                )
                case = f"H={width} {name_of(dtype)}, residual: {residual is not None}"
                source = guard(x, SPARE_ROWS)
                beside = None if residual is None else guard(residual, SPARE_ROWS).view
                out = Guarded(ROWS + SPARE_ROWS, width, dtype, DEVICE)
                kernels.add_layernorm(count(ROWS), source.view, beside, norm, out.view)
                report.within(case, out.view[:ROWS], exact, bound)
                report.intact(case, out, ROWS)
                _check_outputs(report, case, source, beside, norm, out.view[:ROWS].clone())


def _check_outputs(
    report: Report,
    case: str,
    source: Guarded,
    residual: torch.Tensor | None,
    norm: Norm,
    expected: torch.Tensor,
) -> None:
    """The same values of fewer rows, in float32, at an address read on the device, and in place."""
    width = expected.shape[1]
    wide = Guarded(ROWS, width, torch.float32, DEVICE)
    kernels.add_layernorm(count(7), source.view, residual, norm, wide.view)
    report.same_bits(f"{case}, 7 rows of float32", wide.view[:7], expected[:7].float())
    report.intact(f"{case}, 7 rows of float32", wide, 7)
    dense = Guarded(ROWS, width, torch.float32, DEVICE, stride=width)
    address = kernels.pointer(dense.view)
    kernels.add_layernorm(count(ROWS), source.view, residual, norm, dense.view, indirect=address)
    report.same_bits(f"{case}, indirect", dense.view, expected.float())
    report.intact(f"{case}, indirect", dense)
    kernels.add_layernorm(count(ROWS), source.view, residual, norm, source.view)
    report.same_bits(f"{case}, in place", source.view[:ROWS], expected)
    report.intact(f"{case}, in place", source, ROWS)
