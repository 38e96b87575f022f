"""Embedding, layer norm, pooling and normalising at every width, in every precision."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from gpu import kernels, references
from gpu.batches import Batch, Plan, starts_of
from gpu.cases import DTYPES, REDUCED, Random, name_of
from gpu.guarded import Guarded, guard
from gpu.kernels import DEVICE, ErrorSlot, Norm
from gpu.native import POOLING_MODES
from gpu.references import EPS32
from gpu.report import Report
from gpu.row_cases import SPARE_ROWS, norm_of, plan_of, rows_of

pytestmark = pytest.mark.gpu

WIDTHS: tuple[int, ...] = (*range(1, 71), 130, 312, 384, 768, 1000, 1024, 1536, 4096)
FEW_WIDTHS: tuple[int, ...] = (1, 7, 33, 64, 312, 384, 768, 1024, 4096)
if REDUCED:
    WIDTHS = FEW_WIDTHS = (1, 7, 33, 64, 384)

for_every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)


def out_dtypes(dtype: torch.dtype) -> list[torch.dtype]:
    return [dtype] if dtype == torch.float32 else [dtype, torch.float32]


@for_every_dtype
def test_layernorm(dtype: torch.dtype) -> None:
    rows = 77
    plan = plan_of([rows])
    with Report() as report:
        for width in WIDTHS:
            x, norm = rows_of(width, dtype, rows), norm_of(width)
            source = guard(x, SPARE_ROWS)
            exact, bound = references.layernorm(
                x.double(), norm.weight, norm.bias, norm.epsilon, dtype
            )
            out = Guarded(rows + SPARE_ROWS, width, dtype, DEVICE)
            kernels.layernorm(plan, source.view, norm, out.view)
            report.within(f"H={width}", out.view[:rows], exact, bound)
            report.intact(f"H={width}", out, rows)
            expected = out.view[:rows].clone()
            for out_dtype in out_dtypes(dtype):
                _check_layernorm_outputs(report, plan, source, norm, expected.to(out_dtype))
            kernels.layernorm(plan, source.view, norm, source.view)
            report.same_bits(f"H={width} in place", source.view[:rows], expected)
            report.intact(f"H={width} in place", source, rows)


def _check_layernorm_outputs(
    report: Report, plan: Plan, source: Guarded, norm: Norm, expected: torch.Tensor
) -> None:
    """To a strided matrix, and to indirect ones without gaps, aligned and not: the same values."""
    rows, width = expected.shape
    case = f"H={width} {name_of(source.view.dtype)} -> {name_of(expected.dtype)}"
    out = Guarded(rows + SPARE_ROWS, width, expected.dtype, DEVICE)
    kernels.layernorm(plan, source.view, norm, out.view)
    report.same_bits(case, out.view[:rows], expected)
    report.intact(case, out, rows)
    for shift in (0, 1):
        whole, dense = shifted(torch.full_like(expected, torch.nan), shift)
        address = kernels.pointer(dense)
        kernels.layernorm(plan, source.view, norm, dense, indirect=address)
        report.same_bits(f"{case} indirect, shifted by {shift}", dense, expected)
        outside = bool(whole[:shift].isnan().all() and whole[shift + dense.numel() :].isnan().all())
        report.require(f"{case} indirect, shifted by {shift}", outside, "wrote outside")


def shifted(values: torch.Tensor, shift: int) -> tuple[torch.Tensor, torch.Tensor]:
    """NaN, and in it from element `shift` on a copy of a matrix without gaps."""
    whole = torch.full((values.numel() + 16,), torch.nan, dtype=values.dtype, device=DEVICE)
    view = whole[shift : shift + values.numel()].view(values.shape)
    view.copy_(values)
    return whole, view


@for_every_dtype
def test_layernorm_is_no_worse_than_torch(dtype: torch.dtype) -> None:
    rows = 64 if REDUCED else 4000
    with Report() as report:
        for width in (384, 768, 1024):
            x, norm = Random(width).normal(rows, width, dtype=dtype), norm_of(width)
            norm = Norm(norm.weight.to(dtype).float(), norm.bias.to(dtype).float(), norm.epsilon)
            exact, _ = references.layernorm(x.double(), norm.weight, norm.bias, norm.epsilon, dtype)
            out = Guarded(rows, width, dtype, DEVICE)
            kernels.layernorm(plan_of([rows]), x, norm, out.view)
            peer = torch.nn.functional.layer_norm(
                x, (width,), norm.weight.to(dtype), norm.bias.to(dtype), norm.epsilon
            )
            report.no_worse_than(f"H={width} {name_of(dtype)}", out.view, peer, exact)


@for_every_dtype
def test_rows_do_not_see_each_other(dtype: torch.dtype) -> None:
    rows = 70
    well = torch.arange(rows, device=DEVICE) % 3 != 1
    with Report() as report:
        for width in FEW_WIDTHS:
            x, norm = rows_of(width, dtype, rows), norm_of(width)
            out, ill_out, alone = (Guarded(n, width, dtype, DEVICE) for n in (rows, rows, 1))
            kernels.layernorm(plan_of([rows]), guard(x).view, norm, out.view)
            ill = x.clone()
            ill[~well] = torch.nan
            kernels.layernorm(plan_of([rows]), guard(ill).view, norm, ill_out.view)
            report.same_bits(f"H={width} beside NaN", ill_out.view[well], out.view[well])
            stays = bool(ill_out.view[~well].isnan().all())
            report.require(f"H={width}", stays, "a row of NaN became numbers")
            for row in (5, 36, rows - 1):
                kernels.layernorm(plan_of([1]), guard(x[row : row + 1]).view, norm, alone.view)
                report.same_bits(f"H={width} row {row} alone", alone.view, out.view[row : row + 1])


def test_layernorm_by_rows_gives_the_same_bits() -> None:
    """To another matrix and in place, on devices so small that warps take many turns."""
    rows = 40 if REDUCED else 3001
    plan = plan_of([rows])
    with Report() as report:
        for width in (384, 768, 1024):
            x, norm = rows_of(width, torch.float16, rows), norm_of(width)
            usual = Guarded(rows + SPARE_ROWS, width, torch.float16, DEVICE)
            kernels.layernorm(plan, guard(x, SPARE_ROWS).view, norm, usual.view)
            for lane_rows in (0, 1, 2, 4):
                for processors in (1, 5, kernels.device_traits().num_multiprocessors):
                    traits = kernels.traits_with(num_multiprocessors=processors)
                    source = guard(x, SPARE_ROWS)
                    out = Guarded(rows + SPARE_ROWS, width, torch.float16, DEVICE)
                    for name, to in (("apart", out), ("in place", source)):
                        case = f"{lane_rows} rows, H={width}, {processors} multiprocessors, {name}"
                        kernels.layernorm(
                            plan, source.view, norm, to.view, lane_rows=lane_rows, traits=traits
                        )
                        report.same_bits(case, to.view[:rows], usual.view[:rows])
                        report.intact(case, to, rows)


LENGTHS = (3, 0, 1, 17, 128, 40, 0, 129, 1)


class Embedding:
    """Tables, ids and types of one batch, with the exact result."""

    def __init__(
        self,
        width: int,
        dtype: torch.dtype,
        num_types: int,
        offset: int,
        lengths: Sequence[int] = LENGTHS,
        has_positions: bool = True,
    ) -> None:
        self.lengths, self.rows, self.offset = lengths, sum(lengths), offset
        draw = Random(width + num_types)
        self.word = draw.normal(50, width, dtype=dtype)
        position = draw.normal(max(lengths) + offset, width, dtype=dtype)
        self.position = position if has_positions else None
        self.token_type = draw.normal(num_types, width, dtype=dtype) if num_types else None
        self.ids = draw.integers(50, self.rows)
        self.types = draw.integers(max(num_types, 1), self.rows)
        self.norm = norm_of(width)

    def run(self, types: torch.Tensor | None, error: ErrorSlot, **traits: int | bool) -> Guarded:
        batch = Batch.of(starts_of(self.lengths), DEVICE, token_ids=self.ids, token_types=types)
        width = self.word.shape[1]
        out = Guarded(self.rows + SPARE_ROWS, width, self.word.dtype, DEVICE)
        kernels.embed_layernorm(
            batch,
            plan_of(self.lengths),
            self.word,
            self.position,
            self.token_type,
            self.norm,
            out.view,
            error,
            position_offset=self.offset,
            traits=kernels.traits_with(**traits),
        )
        return out

    def exact(self, types: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.cat([torch.arange(length, device=DEVICE) for length in self.lengths])
        x = self.word.double()[self.ids]
        if self.position is not None:
            x = x + self.position.double()[index + self.offset]
        if self.token_type is not None:
            x = x + self.token_type.double()[types]
        norm = self.norm
        return references.layernorm(
            x, norm.weight, norm.bias, norm.epsilon, self.word.dtype, terms=3
        )


@for_every_dtype
def test_embed_layernorm(dtype: torch.dtype) -> None:
    error = ErrorSlot.empty()
    with Report() as report:
        for width in WIDTHS:
            for num_types, offset in ((2, 0), (0, 2)):
                problem = Embedding(width, dtype, num_types, offset)
                for types in (problem.types, None):
                    case = (
                        f"H={width} {name_of(dtype)} {num_types} types, given: {types is not None}"
                    )
                    out = problem.run(types, error)
                    used = problem.types * 0 if types is None else types
                    report.within(case, out.view[: problem.rows], *problem.exact(used))
                    report.intact(case, out, problem.rows)
        report.require("errors", error.read()[0] == "none", f"reported {error.read()}")


@for_every_dtype
def test_embedding_without_positions(dtype: torch.dtype) -> None:
    error = ErrorSlot.empty()
    with Report() as report:
        for width in FEW_WIDTHS:
            for num_types in (0, 2):
                problem = Embedding(width, dtype, num_types, 0, has_positions=False)
                out = problem.run(problem.types, error)
                case = f"H={width} {name_of(dtype)} {num_types} types"
                report.within(case, out.view[: problem.rows], *problem.exact(problem.types))
                report.intact(case, out, problem.rows)
        report.require("errors", error.read()[0] == "none", f"reported {error.read()}")


def test_embedding_finds_every_sequence() -> None:
    """Many sequences, short and empty ones side by side, on devices so small that warps take one
    tile of rows after the other."""
    draw, error = random.Random(3), ErrorSlot.empty()
    batches = {
        "one": [300],
        "ones": [1] * (40 if REDUCED else 2000),
        "empty ones": [0] * 70 + [5] + [0] * 40 + [1, 1, 0, 33] + [0] * 33,
        "all kinds": [draw.choice((0, 0, 1, 2, 9, 40)) for _ in range(100 if REDUCED else 3000)],
    }
    with Report() as report:
        for name, lengths in batches.items():
            for width in (7, 64, 768):
                problem = Embedding(width, torch.float16, 2, 1, lengths)
                for processors in (1, 2, kernels.device_traits().num_multiprocessors):
                    case = f"{name}, H={width}, {processors} multiprocessors"
                    out = problem.run(problem.types, error, num_multiprocessors=processors)
                    report.within(case, out.view[: problem.rows], *problem.exact(problem.types))
                    report.intact(case, out, problem.rows)
        report.require("errors", error.read()[0] == "none", f"reported {error.read()}")


def test_bad_ids_and_types_are_reported_and_taken_as_zero() -> None:
    with Report() as report:
        for width in (7, 384):
            for kind, position, value in (
                ("token_id", 20, 50),
                ("token_id", 0, -1),
                ("token_id", sum(LENGTHS) - 1, 2**31 - 1),
                ("token_type", 21, 2),
                ("token_type", 150, -(2**31)),
            ):
                case = f"H={width}: {kind} {value} at {position}"
                problem, error = Embedding(width, torch.float16, 2, 0), ErrorSlot.empty()
                chosen = problem.ids if kind == "token_id" else problem.types
                chosen[position] = value
                out = problem.run(problem.types, error)
                wanted = (kind, position, value)
                report.require(case, error.read() == wanted, f"reported {error.read()}")
                chosen[position] = 0
                report.within(case, out.view[: problem.rows], *problem.exact(problem.types))


def test_types_without_a_table_must_be_zero() -> None:
    problem, error = Embedding(64, torch.float16, 0, 0), ErrorSlot.empty()
    problem.types[33] = 1
    problem.run(problem.types, error)
    assert error.read() == ("token_type", 33, 1)


POOLED_LENGTHS = (1, 2, 0, 7, 33, 100, 128, 0, 300)
POOLING_STARTS = (0, 1, 0, 7, 3, 0, 127, 0, 50)  # some leave no token at all


@for_every_dtype
@pytest.mark.parametrize("starts", [None, POOLING_STARTS], ids=["whole", "from starts"])
def test_pool(dtype: torch.dtype, starts: Sequence[int] | None) -> None:
    batch = Batch.of(starts_of(POOLED_LENGTHS), DEVICE, pooling_starts=starts)
    count, rows = len(POOLED_LENGTHS), sum(POOLED_LENGTHS)
    plan = plan_of(POOLED_LENGTHS)
    mode_lists = [*([mode] for mode in POOLING_MODES), list(POOLING_MODES), ["mean", "cls"]]
    with Report() as report:
        for width in FEW_WIDTHS if REDUCED else (*range(1, 71, 3), *FEW_WIDTHS):
            states = guard(Random(width).normal(rows, width, dtype=dtype), SPARE_ROWS)
            for modes in mode_lists:
                values, lost = references.pool(
                    states.view[:rows], POOLED_LENGTHS, starts or [0] * count, modes
                )
                for out_dtype in out_dtypes(dtype):
                    case = f"H={width} {'+'.join(modes)} {name_of(dtype)} -> {name_of(out_dtype)}"
                    out = Guarded(count + SPARE_ROWS, values.shape[1], out_dtype, DEVICE)
                    kernels.pool(batch, plan, states.view, modes, out.view)
                    bound = lost + references.rounding(values, out_dtype)
                    report.within(case, out.view[:count], values, bound)
                    report.intact(case, out, count)


def normalize_bound(exact: torch.Tensor, out_dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A sum of squares, a root, a division; then rounding."""
    steps = 8 + exact.shape[1] / 32
    return steps * EPS32 * exact.abs() + references.rounding(exact, out_dtype)


@for_every_dtype
def test_pool_reads_indirect_states(dtype: torch.dtype) -> None:
    """Rows without gaps, aligned or not, at an address that is read on the device."""
    batch, plan = Batch.of(starts_of(POOLED_LENGTHS), DEVICE), plan_of(POOLED_LENGTHS)
    count, rows = len(POOLED_LENGTHS), sum(POOLED_LENGTHS)
    with Report() as report:
        for width in FEW_WIDTHS:
            x = Random(width).normal(rows, width, dtype=dtype)
            outs = [Guarded(count, width, torch.float32, DEVICE) for _ in range(2)]
            kernels.pool(batch, plan, guard(x).view, ["mean"], outs[0].view)
            for shift in (0, 1):
                _, dense = shifted(x, shift)
                outs[1].poison()
                kernels.pool(
                    batch,
                    plan,
                    dense,
                    ["mean"],
                    outs[1].view,
                    indirect_states=kernels.pointer(dense),
                )
                report.same_bits(f"H={width} shifted by {shift}", outs[1].view, outs[0].view)


@for_every_dtype
def test_pooling_is_the_same_in_every_batch(dtype: torch.dtype) -> None:
    """Alone, where a sequence gets a block, and among thousands, where a block gets several."""
    lengths = (1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129, 300)
    draw = random.Random(5)
    fillers = [draw.choice((1, 3, 20, 70)) for _ in range(100 if REDUCED else 9000)]
    many = [*lengths, *fillers]
    batch, plan = Batch.of(starts_of(many), DEVICE), plan_of(many)
    modes = list(POOLING_MODES)
    with Report() as report:
        for width in (7, 64, 136, 384):
            x = Random(width).normal(sum(many), width, dtype=dtype)
            together = Guarded(len(many), width * len(modes), torch.float32, DEVICE)
            kernels.pool(batch, plan, x, modes, together.view)
            first = 0
            for s, length in enumerate(lengths):
                own = x[first : first + length]
                first += length
                alone = Guarded(1, width * len(modes), torch.float32, DEVICE)
                one = Batch.of([0, length], DEVICE)
                kernels.pool(one, plan_of([length]), own, modes, alone.view)
                case = f"H={width} {name_of(dtype)} L={length}"
                report.same_bits(case, together.view[s : s + 1], alone.view)


def test_pooling_does_not_see_other_sequences_and_keeps_nan() -> None:
    draw = random.Random(2)
    lengths = [draw.randrange(1, 40) for _ in range(50)]
    batch, plan = Batch.of(starts_of(lengths), DEVICE), plan_of(lengths)
    width, modes = 64, list(POOLING_MODES)
    x = Random(1).normal(sum(lengths), width, dtype=torch.float16)
    ill, well = x.clone(), torch.ones(len(lengths), dtype=torch.bool, device=DEVICE)
    for sequence in range(0, len(lengths), 2):
        first = sum(lengths[:sequence])
        ill[first : first + lengths[sequence]] = torch.nan
        well[sequence] = False
    outs = [Guarded(len(lengths), width * len(modes), torch.float32, DEVICE) for _ in range(2)]
    for states, out in zip((x, ill), outs, strict=True):
        kernels.pool(batch, plan, states, modes, out.view)
    with Report() as report:
        report.same_bits("beside NaN", outs[1].view[well], outs[0].view[well])
        stays = bool(outs[1].view[~well].isnan().all())
        report.require("NaN", stays, "a sequence of NaN became numbers in some mode")


@for_every_dtype
def test_normalize(dtype: torch.dtype) -> None:
    rows = 40
    plan = plan_of([1] * rows)
    with Report() as report:
        for width in WIDTHS:
            x = Random(width).normal(rows, width)
            x[0], x[1], x[2] = 0, x[1] * 1e-4, x[2] * 100
            source = guard(x.to(dtype), SPARE_ROWS)
            stored = source.view[:rows].double()
            for divide in (True, False):
                exact = references.normalized(stored) if divide else stored
                for out_dtype in out_dtypes(dtype):
                    case = f"E={width} {name_of(dtype)} -> {name_of(out_dtype)}, divide: {divide}"
                    out = Guarded(rows + SPARE_ROWS, width, out_dtype, DEVICE)
                    kernels.normalize(plan, source.view, out.view, divide=divide)
                    report.within(case, out.view[:rows], exact, normalize_bound(exact, out_dtype))
                    report.intact(case, out, rows)
            _check_indirect_normalize(report, plan, source, rows)


def _check_indirect_normalize(report: Report, plan: Plan, source: Guarded, rows: int) -> None:
    """From the source to an indirect float32 matrix, and from that one to itself, indirectly."""
    width = source.view.shape[1]
    out = Guarded(rows + SPARE_ROWS, width, torch.float32, DEVICE)
    kernels.normalize(plan, source.view, out.view)
    dense = Guarded(rows + SPARE_ROWS, width, torch.float32, DEVICE, stride=width)
    address = kernels.pointer(dense.view)
    kernels.normalize(plan, source.view, dense.view, indirect_out=address)
    report.same_bits(f"E={width} indirect out", dense.view[:rows], out.view[:rows])
    kernels.normalize(plan, source.view, source.view)
    report.same_bits(
        f"E={width} in place", source.view[:rows], out.view[:rows].to(source.view.dtype)
    )
    dense.view[:rows] *= 3
    wanted = references.normalized(dense.view[:rows].double())
    kernels.normalize(plan, dense.view, dense.view, indirect_in=address, indirect_out=address)
    report.within(f"E={width} indirect both", dense.view[:rows], wanted, normalize_bound(wanted))
    report.intact(f"E={width} indirect both", dense, rows)


def test_empty_batches_write_nothing() -> None:
    batch, plan = Batch.of([0], DEVICE), plan_of([])
    norm, error = norm_of(64), ErrorSlot.empty()
    x = Random(1).normal(9, 64, dtype=torch.float16)
    out, wide = (Guarded(9, 64, dtype, DEVICE) for dtype in (torch.float16, torch.float32))
    kernels.layernorm(plan, x, norm, out.view)
    kernels.embed_layernorm(batch, plan, x, x, None, norm, out.view, error)
    kernels.pool(batch, plan, x, ["mean"], wide.view)
    kernels.normalize(plan, x, out.view)
    with Report() as report:
        report.intact("float16", out, 0)
        report.intact("float32", wide, 0)
