"""The encoder against transformers and sentence-transformers in float64."""

from __future__ import annotations

import pytest
from converted_cases import ConvertedCases, run_case
from fidelity import RMS_FACTOR, WORST_FACTOR
from golden_cases import CASES, GoldenCase
from instruction_sets import FAST, INSTRUCTION_SETS, open_encoder

# The reference kernels do about 1e9 multiplications a second.
REFERENCE_MULTIPLICATIONS = 100_000_000

PAIRS = [
    pytest.param(case, name, id=f"{case.name}-{name}")
    for case in CASES
    for name in INSTRUCTION_SETS
    if name in FAST or case.multiplications <= REFERENCE_MULTIPLICATIONS
]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedCases:
    return ConvertedCases(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize(("case", "instruction_set"), PAIRS)
def test_loses_no_more_than_pytorch(
    case: GoldenCase, instruction_set: str, converted: ConvertedCases
) -> None:
    weights, golden = converted(case)
    encoder = open_encoder(weights, instruction_set, num_threads=2)
    actual = run_case(encoder, case)
    golden.require_within(
        actual,
        golden.torch_loss.scaled(RMS_FACTOR, WORST_FACTOR),
        f"{case.name} on {instruction_set}",
    )
