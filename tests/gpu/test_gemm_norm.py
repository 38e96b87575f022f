"""The product with its norm: what the two kernels give one after the other, to the bit."""

from __future__ import annotations

import pytest
import torch
from gpu import kernels
from gpu.cases import Random, name_of
from gpu.gemm_problem import Problem
from gpu.kernels import DEVICE, Norm
from gpu.report import Report
from gpu.row_cases import SPARE_ROWS, count, norm_of, plan_of

pytestmark = pytest.mark.gpu

# All that the kernel serves: tiles of 64, of 96 (576, 672, 768) and of 128 columns.
WIDTHS = (128, 192, 256, 320, 384, 448, 512, 576, 640, 672, 768, 896, 1024)
ROWS = (1, 17, 63, 64, 65, 128, 300, 1000)

for_16_bits = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=name_of)


@pytest.fixture(autouse=True)
def _kernel_runs_here() -> None:
    if not kernels.device_traits().hopper_kernels:
        pytest.skip("the kernel needs a device of compute capability 9.0")


@for_16_bits
def test_the_bits_of_product_and_norm(dtype: torch.dtype) -> None:
    with Report() as report:
        for width in WIDTHS:
            norm = norm_of(width)
            for inputs in (width, 4 * width, 72):
                problem = Problem(max(ROWS) + SPARE_ROWS, (width, inputs), dtype)
                for rows in ROWS:
                    _check(report, problem, norm, rows)


def test_other_widths_are_refused() -> None:
    for width in set(range(8, 1100, 8)) - set(WIDTHS):
        x = torch.zeros(1, width, dtype=torch.float16, device=DEVICE)
        bias = kernels.padded_bias(torch.zeros(width, device=DEVICE))
        weight = torch.zeros(width, 8, dtype=torch.float16, device=DEVICE)
        with pytest.raises(RuntimeError, match="no kernel for this product with its norm"):
            kernels.gemm_norm(
                x[:, :8], weight, bias, x, norm_of(width), torch.empty_like(x), num_rows=count(1)
            )


def _check(report: Report, problem: Problem, norm: Norm, rows: int) -> None:
    """Of `rows` rows and room for some more, into rows of which none but those may be written."""
    case = f"{problem} M={rows}"
    room = rows + SPARE_ROWS
    residual = problem.residual[:room]
    sums = problem.out(room)
    sums.view[:] = residual
    problem.run("hopper", sums, residual=sums.view)
    expected = problem.out(room)
    kernels.layernorm(plan_of([rows]), sums.view, norm, expected.view)
    beside, out = problem.out(room), problem.out(room)
    beside.view[:] = residual
    kernels.gemm_norm(
        problem.a.view[:room],
        problem.weight.view,
        problem.bias.view[0],
        beside.view,
        norm,
        out.view,
        num_rows=count(rows),
    )
    report.same_bits(case, out.view[:rows], expected.view[:rows])
    report.intact(case, out, rows)
    report.same_bits(f"{case} residual", beside.view, residual)
    report.intact(f"{case} residual", beside)


@for_16_bits
@pytest.mark.parametrize("width", [384, 768, 1024])
def test_dependent_launches_in_a_graph(width: int, dtype: torch.dtype) -> None:
    """Each may start while the one before it drains, yet must wait for its results."""
    rows = 128
    random = Random(12)
    norm = norm_of(width)
    up = random.normal(4 * width, width, dtype=dtype, scale=width**-0.5)
    down = random.normal(width, 4 * width, dtype=dtype, scale=(4 * width) ** -0.5)
    up_bias, down_bias = (
        kernels.padded_bias(random.normal(n, scale=0.1)) for n in (4 * width, width)
    )
    start = random.normal(rows, width, dtype=dtype)
    x, y, wide = (
        torch.empty(rows, n, dtype=dtype, device=DEVICE) for n in (width, width, 4 * width)
    )
    num_rows = count(rows)

    def layers(wait: bool) -> None:
        a, b = x, y
        for _ in range(6):
            kernels.gemm("hopper", a, up, up_bias, wide, activation="gelu")
            if wait:
                torch.cuda.synchronize()
            kernels.gemm_norm(wide, down, down_bias, a, norm, b, num_rows=num_rows)
            if wait:
                torch.cuda.synchronize()
            a, b = b, a

    x[:] = start
    layers(wait=True)
    expected = x.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        layers(wait=False)
    with Report() as report:
        report.require("all", bool(expected.isfinite().all()), "not finite")
        for number in range(20):
            x[:] = start
            graph.replay()
            report.same_bits(f"replay {number}", x, expected)
