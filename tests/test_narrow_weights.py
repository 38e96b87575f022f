"""Narrow weights on the CPU: close to float32, less memory, the same bits in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from instruction_sets import NARROW, open_encoder
from texts import many_texts

import vlt

# Of cosines with float32: the mean and the least; and the least of the largest difference.
BOUNDS = {"bfloat16": (0.9999, 0.9995, 1e-5), "int8": (0.999, 0.99, 1e-3)}
LENGTHS = (1, 2, 17, 64, 5, 128, 33, 256, 0, 90)


@pytest.fixture(scope="module", params=[(d, n) for d, names in NARROW.items() for n in names])
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A dtype and an instruction set for it."""
    return request.param


@pytest.fixture(scope="module")
def encoder(case: tuple[str, str], minilm_weights: Path) -> Iterator[vlt.Encoder]:
    dtype, name = case
    with open_encoder(minilm_weights, name, dtype=dtype, device="cpu") as opened:
        yield opened


def token_ids(seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(5, 30000, size).astype(np.int32) for size in LENGTHS]


def test_close_to_float32(
    case: tuple[str, str], encoder: vlt.Encoder, minilm_encoder: vlt.Encoder
) -> None:
    texts = many_texts(240)
    expected = minilm_encoder.encode(texts, normalize_embeddings=True)
    actual = encoder.encode(texts, normalize_embeddings=True)
    cosines = (expected * actual).sum(axis=1)
    mean, least, off = BOUNDS[case[0]]
    assert cosines.mean() >= mean
    assert cosines.min() >= least
    # What fewer bits lose shows: it is no float32 in disguise.
    assert np.abs(expected - actual).max() > off


def test_neighbours_stay(encoder: vlt.Encoder, minilm_encoder: vlt.Encoder) -> None:
    texts = many_texts(240)

    def nearest(vectors: np.ndarray) -> np.ndarray:
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -2)
        return np.argsort(-scores, axis=1)[:, :10]

    expected = nearest(minilm_encoder.encode(texts, normalize_embeddings=True))
    actual = nearest(encoder.encode(texts, normalize_embeddings=True))
    shared = [len(set(a) & set(b)) for a, b in zip(expected, actual, strict=True)]
    assert np.mean(shared) / 10 >= 0.95


def test_same_bits_alone_and_together(encoder: vlt.Encoder) -> None:
    ids = token_ids(1)
    together = encoder.run(ids)
    backwards = encoder.run(ids[::-1])
    for i, sequence in enumerate(ids):
        alone = encoder.run([sequence])[0].tobytes()
        assert alone == together[i].tobytes() == backwards[len(ids) - 1 - i].tobytes()


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_same_bits_on_any_threads(
    case: tuple[str, str], encoder: vlt.Encoder, minilm_weights: Path, num_threads: int
) -> None:
    ids = token_ids(2)
    options = {"dtype": case[0], "device": "cpu", "num_threads": num_threads}
    with open_encoder(minilm_weights, encoder.kernels, **options) as other:
        assert other.run(ids).values.tobytes() == encoder.run(ids).values.tobytes()


def test_poisoned_workspace(
    case: tuple[str, str],
    encoder: vlt.Encoder,
    minilm_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLT_POISON_WORKSPACE", "1")
    ids = token_ids(3)
    with open_encoder(minilm_weights, encoder.kernels, dtype=case[0], device="cpu") as poisoned:
        assert poisoned.run(ids).values.tobytes() == encoder.run(ids).values.tobytes()


# Whole slabs are counted; biases and norms stay float32. Tables of words, half of this model, are
# bfloat16 beside layers of int8 too.
@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.6), ("int8", 0.5)])
def test_less_memory(
    minilm_encoder: vlt.Encoder, minilm_weights: Path, dtype: str, share: float
) -> None:
    wide = minilm_encoder._model.info
    with vlt.Encoder(minilm_weights, dtype=dtype, device="cpu") as encoder:
        narrow = encoder._model.info
    assert (wide["compute_type"], narrow["compute_type"]) == ("float32", dtype)
    assert narrow["weight_bytes"] < share * wide["weight_bytes"]


@pytest.mark.parametrize("dtype", NARROW)
def test_states_are_float32(tiny_weights: Path, dtype: str) -> None:
    with vlt.Encoder(tiny_weights, dtype=dtype, device="cpu") as encoder:
        assert encoder.run([[1, 2]]).values.dtype == np.float32


def test_float16_is_refused(tiny_weights: Path) -> None:
    with pytest.raises(vlt.UnsupportedError, match="float32, bfloat16 or int8"):
        vlt.Encoder(tiny_weights, dtype="float16", device="cpu")


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_states_are_refused(tiny_weights: Path, dtype: str) -> None:
    with vlt.Encoder(tiny_weights, dtype=dtype, device="cpu") as encoder:
        ids, starts = np.array([1, 2], np.int32), np.array([0, 2], np.int32)
        with pytest.raises(vlt.InvalidArgumentError, match=f"can be float32, not {dtype}"):
            encoder.run_packed(ids, starts, output="hidden", dtype=dtype)


@pytest.mark.parametrize("dtype", NARROW)
def test_the_reference_has_none(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setenv("VLT_CPU_ISA", "reference")
    with pytest.raises(vlt.UnsupportedError, match=f"float32 alone; the compute type is {dtype}"):
        vlt.Encoder(tiny_weights, dtype=dtype, device="cpu")
