"""The numpy encoder against the goldens, and every instruction set against the numpy encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from converted_cases import ConvertedCases
from fidelity import measure, require_within
from golden_cases import CASES, GoldenCase
from instruction_sets import INSTRUCTION_SETS, open_encoder
from numpy_reference import NumpyEncoder

import vlt

# float64 keeps 29 bits more than float32, so a float64 program loses 2^-29 of what a float32 one
# does. The golden is such a program itself; factors 4 and 8 are for the two and for chance.
FLOAT64_FACTORS = (4 * 2.0**-29, 8 * 2.0**-29)
# Keys and queries of distances are computed for the weights file and rounded to float32 there: one
# rounding of the many that a float32 program does.
ROUNDED_FACTORS = (0.25, 0.25)

# Kernels against the numpy encoder in float32, which sums in another order than they do and here
# stands for PyTorch: the factors are wider than those of the goldens, as cases are small.
RMS_FACTOR, WORST_FACTOR = 1.5, 3.0

NUM_RANDOM_CASES = 24


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedCases:
    return ConvertedCases(tmp_path_factory.mktemp("numpy"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_numpy_agrees_with_the_golden(case: GoldenCase, converted: ConvertedCases) -> None:
    weights, golden = converted(case)
    actual = run_numpy(NumpyEncoder(weights), case)
    golden.require_within(
        actual,
        golden.torch_loss.scaled(*(ROUNDED_FACTORS if case.rounded_weights else FLOAT64_FACTORS)),
        case.name,
    )


@pytest.mark.parametrize("seed", range(NUM_RANDOM_CASES))
def test_kernels_agree_with_numpy(seed: int, tmp_path: Path) -> None:
    case = draw_case(seed)
    weights = tmp_path / "weights.bin"
    vlt.convert(case.write_folder(tmp_path / "folder"), weights)
    exact = run_numpy(NumpyEncoder(weights), case)
    bound = measure(run_numpy(NumpyEncoder(weights, np.float32), case), exact)
    ids, types = case.inputs()
    for name in INSTRUCTION_SETS:
        encoder = open_encoder(weights, name, num_threads=1 + seed % 2)
        require_within(
            encoder.run(ids, token_types=types).values,
            exact,
            bound.scaled(RMS_FACTOR, WORST_FACTOR),
            f"seed {seed} on {name}: {case}",
        )


def draw_case(seed: int) -> GoldenCase:
    """A small model of any shape: what the golden cases did not think of."""
    rng = np.random.default_rng([2024, seed])
    head_size = int(rng.choice([16, 18, 23, 24, 32, 40, 56, 64, 72, 96, 127, 128]))
    num_heads = int(rng.integers(1, max(2, 192 // head_size) + 1))
    hidden_size = head_size * num_heads
    lengths = rng.choice([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100], 6)
    return GoldenCase(
        name=f"random-{seed}",
        seed=1000 + seed,
        lengths=tuple(lengths.tolist()),
        num_layers=int(rng.integers(1, 4)),
        num_heads=num_heads,
        head_size=head_size,
        intermediate_size=int(rng.integers(1, 4 * hidden_size)),
        activation=str(rng.choice(["gelu", "gelu_new", "relu", "silu"])),
        vocab_size=int(rng.integers(150, 400)),
        max_positions=128,
        token_types=True,
    )


def run_numpy(encoder: NumpyEncoder, case: GoldenCase) -> npt.NDArray[np.float64]:
    """What `converted_cases.run_case` gives, as float64."""
    ids, types = case.inputs()
    starts = np.cumsum([0, *case.lengths]).astype(np.int32)
    states = encoder.states(np.concatenate(ids), starts, np.concatenate(types))
    results = {
        "hidden": lambda: states,
        "embedding": lambda: encoder.embed(states, starts, case.pooling_starts),
        "logits": lambda: encoder.logits(states, starts),
        "token_logits": lambda: encoder.token_logits(states),
        "vocabulary": lambda: encoder.vocabulary(states[case.chosen]),
        "sparse": lambda: encoder.sparse(states, starts),
    }
    return results[case.output]().astype(np.float64)
