"""Weights files of int8: the vectors of the float32 file loaded in int8, in fewer bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from family_folders import FAMILIES, Sizes, write_family_folder
from fidelity import measure
from numpy_reference import NumpyEncoder
from texts import many_texts

import vlt
from vlt.converter.int8 import smoothing_factors
from vlt.safetensors_file import SafetensorsFile

SIZES = Sizes(num_layers=3, hidden_size=24, num_heads=3, intermediate_size=40)
IDS = [[1, 7, 9, 4, 2], [3], [8] * 30]


@pytest.fixture(scope="module")
def stored(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlt.convert(minilm_folder, tmp_path_factory.mktemp("int8") / "w.bin", dtype="int8")


@pytest.fixture(scope="module")
def encoder(stored: Path) -> Iterator[vlt.Encoder]:
    with vlt.Encoder(stored, device="cpu", dtype="int8") as opened:
        yield opened


def test_the_vectors_of_the_float32_file(encoder: vlt.Encoder, minilm_weights: Path) -> None:
    texts = many_texts(70)
    with vlt.Encoder(minilm_weights, device="cpu", dtype="int8") as other:
        assert other.encode(texts).tobytes() == encoder.encode(texts).tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, tmp_path: Path) -> None:
    write_family_folder(tmp_path / "model", family, SIZES, seed=5)
    wide = vlt.convert(tmp_path / "model", tmp_path / "wide.bin")
    narrow = vlt.convert(tmp_path / "model", tmp_path / "narrow.bin", dtype="int8")
    with (
        vlt.Encoder(wide, device="cpu", dtype="int8") as expected,
        vlt.Encoder(narrow, device="cpu", dtype="int8") as actual,
    ):
        assert expected.run(IDS).values.tobytes() == actual.run(IDS).values.tobytes()


def test_other_types_run_the_same_weights(stored: Path, encoder: vlt.Encoder) -> None:
    ids = [list(range(100, 164)), [101, 102]]
    expected = NumpyEncoder(stored).states(
        np.concatenate(ids).astype(np.int32), np.array([0, 64, 66], np.int32)
    )
    size = float(np.sqrt(np.mean(expected**2)))
    with vlt.Encoder(stored, device="cpu", dtype="float32") as wide:
        assert measure(wide.run(ids).values, expected).rms < 1e-5 * size
    # What is left are the inputs of 8 bits.
    assert 1e-4 * size < measure(encoder.run(ids).values, expected).rms < 0.1 * size


def test_a_third_of_the_bytes(stored: Path, minilm_weights: Path) -> None:
    # Half of this model are tables of words, which take two bytes instead of four.
    assert stored.stat().st_size < 0.4 * minilm_weights.stat().st_size
    dtypes = {tensor.dtype for _, tensor in SafetensorsFile(stored).items()}
    assert dtypes == {"I8", "BF16", "F32", "U8"}


def test_no_factors_without_sizes() -> None:
    ones, zeros = np.ones((2, 3), np.float32), np.zeros(3, np.float32)
    assert smoothing_factors(ones, zeros) is None
    assert smoothing_factors(0 * ones, zeros + 1) is None
    # A size of 4 meets weights of 1 half way.
    factors = smoothing_factors(ones, np.array([1, 4, 1], np.float32))
    assert factors is not None
    assert factors.tolist() == [1, 0.5, 1]
