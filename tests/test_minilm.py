"""The real all-MiniLM-L6-v2 on real texts, against sentence-transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fidelity import RMS_FACTOR, WORST_FACTOR, Loss, require_within
from golden_cases import GOLDEN
from instruction_sets import FAST, open_encoder
from texts import TEXTS

import vlt

LEAST_COSINE = 0.999999


@dataclass(frozen=True)
class MiniLmGolden:
    """What sentence-transformers made of the texts."""

    embeddings: npt.NDArray[np.float64]  # [60, 384]
    torch_embeddings: npt.NDArray[np.float32]  # [60, 384], of `encode` in float32
    torch_loss: Loss
    token_ids: list[list[int]]


@pytest.fixture(scope="module")
def golden() -> MiniLmGolden:
    with np.load(GOLDEN / "minilm.npz") as file:
        assert len(file["lengths"]) == len(TEXTS), "texts.py has changed: run tools/make_golden.py"
        ends = np.cumsum(file["lengths"])
        return MiniLmGolden(
            file["embeddings"],
            file["torch_embeddings"],
            Loss(float(file["torch_rms"]), float(file["torch_worst"])),
            [part.tolist() for part in np.split(file["token_ids"], ends[:-1])],
        )


@pytest.fixture(scope="module", params=FAST)
def encoder(request: pytest.FixtureRequest, minilm_weights: Path) -> vlt.Encoder:
    return open_encoder(minilm_weights, request.param, num_threads=2)


@pytest.fixture(scope="module")
def embeddings(encoder: vlt.Encoder) -> npt.NDArray[Any]:
    result: npt.NDArray[Any] = encoder.encode(list(TEXTS))
    return result


def test_embeddings_point_where_those_of_sentence_transformers_do(
    embeddings: npt.NDArray[Any], golden: MiniLmGolden
) -> None:
    theirs = golden.torch_embeddings.astype(np.float64)
    products = (embeddings.astype(np.float64) * theirs).sum(axis=1)
    cosines = products / np.linalg.norm(embeddings, axis=1) / np.linalg.norm(theirs, axis=1)
    least = int(cosines.argmin())
    assert cosines[least] >= LEAST_COSINE, f"text {least}, {TEXTS[least]!r}: {cosines[least]:.9f}"


def test_embeddings_lose_no_more_than_pytorch(
    embeddings: npt.NDArray[Any], golden: MiniLmGolden
) -> None:
    bound = golden.torch_loss.scaled(RMS_FACTOR, WORST_FACTOR)
    require_within(embeddings, golden.embeddings, bound, "minilm, a row a text")


def test_embeddings_are_the_same_bits_alone_and_in_any_batch(
    encoder: vlt.Encoder, embeddings: npt.NDArray[Any]
) -> None:
    alone = np.array([encoder.encode(text) for text in TEXTS])
    np.testing.assert_array_equal(alone.view(np.uint32), embeddings.view(np.uint32))
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = encoder.encode([TEXTS[i] for i in order], batch_size=7)
    np.testing.assert_array_equal(shuffled.view(np.uint32), embeddings[order].view(np.uint32))


def test_token_ids_are_those_of_sentence_transformers(
    minilm_encoder: vlt.Encoder, golden: MiniLmGolden
) -> None:
    ids = minilm_encoder.tokenize(list(TEXTS))
    for text, ours, theirs in zip(TEXTS, ids, golden.token_ids, strict=True):
        assert list(ours) == theirs, f"{text[:60]!r}"
