"""The same text, the same vector, where families add something to attention or between layers."""

from __future__ import annotations

import pytest
from converted_cases import ConvertedCases
from golden_cases import CASES, GoldenCase

import vlt

NAMES = ("albert-groups", "mpnet", "deberta", "deberta-v2-convolution", "deberta-v3")
FAMILIES = [case for case in CASES if case.name in NAMES]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedCases:
    return ConvertedCases(tmp_path_factory.mktemp("families"))


def states(encoder: vlt.Encoder, sequences: list[list[int]]) -> list[bytes]:
    return [rows.tobytes() for rows in encoder.run(sequences)]


def test_every_name_is_a_case() -> None:
    assert {case.name for case in FAMILIES} == set(NAMES)


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_together_as_alone_on_any_number_of_threads(
    case: GoldenCase, converted: ConvertedCases
) -> None:
    weights, _ = converted(case)
    sequences = [ids.tolist() for ids in case.inputs()[0]]
    sequences += [[], sequences[-1], [5], []]
    with vlt.Encoder(weights, device="cpu", num_threads=1) as encoder:
        expected = [states(encoder, [sequence])[0] for sequence in sequences]
        assert states(encoder, sequences) == expected
        assert states(encoder, sequences[::-1]) == expected[::-1]
    for num_threads in (2, 3):
        with vlt.Encoder(weights, device="cpu", num_threads=num_threads) as encoder:
            assert states(encoder, sequences) == expected
            assert [states(encoder, [sequence])[0] for sequence in sequences] == expected
