"""Texts as weights of words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import VOCABULARY
from tiny_model import PROMPTS

import vlt
from vlt import sparse_encoder, sparse_vectors
from vlt.sparse_vectors import SparseVectors

TEXTS = ["a man is running", "the red dog", "", "banana"]
WORDS = len(VOCABULARY)


def draw(rows: int, seed: int = 0) -> Any:
    """[rows, 30] numbers, about two thirds of them zero, and one row all zero."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(0, 1, (rows, 30)) * (rng.random((rows, 30)) < 0.35)
    dense[rows // 2] = 0
    return dense.astype(np.float32)


# ---- Vectors -------------------------------------------------------------------------------------


def test_vectors_hold_what_is_not_zero() -> None:
    dense = draw(5)
    vectors = SparseVectors.from_dense(dense)
    assert vectors.shape == (5, 30)
    assert len(vectors) == 5
    assert len(vectors.values) == np.count_nonzero(dense)
    dtypes = [each.dtype.name for each in (vectors.indptr, vectors.indices, vectors.values)]
    assert dtypes == ["int64", "int32", "float32"]
    np.testing.assert_array_equal(vectors.to_dense(), dense)
    for index in (0, 2, -1):
        np.testing.assert_array_equal(vectors[index].to_dense(), dense[index])
    np.testing.assert_array_equal(vectors[1:4].to_dense(), dense[1:4])
    np.testing.assert_array_equal(vectors[::-2].to_dense(), dense[::-2])
    np.testing.assert_array_equal([row.to_dense() for row in vectors], dense)
    assert vectors[5:].shape == (0, 30)
    with pytest.raises(IndexError, match="no vector 5"):
        vectors[5]
    with pytest.raises(IndexError, match="single vector"):
        vectors[0][0]


def test_only_the_largest_are_kept() -> None:
    dense = draw(6)
    few = SparseVectors.from_dense(dense, 3).to_dense()
    for kept, row in zip(few, dense, strict=True):
        expected = np.sort(np.abs(row))[::-1][:3]
        np.testing.assert_array_equal(np.sort(np.abs(kept))[::-1][:3], expected)
        assert (kept[kept != 0] == row[kept != 0]).all()
    level = np.ones((1, 5), np.float32)
    assert SparseVectors.from_dense(level, 2).indices.tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclidean", "manhattan"])
def test_similarity_is_that_of_dense_vectors(kind: str) -> None:
    first, second = draw(4, 1), draw(7, 2)
    expected = vlt.vectors.similarity(first, second, kind)
    sparse = [SparseVectors.from_dense(each) for each in (first, second)]
    found = sparse_vectors.similarity(sparse[0], sparse[1], kind)
    assert found.shape == (4, 7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    row = sparse_vectors.similarity(sparse[0][1], sparse[1], kind)
    assert row.tobytes() == found[1:2].tobytes()
    assert sparse_vectors.similarity(sparse[0][:0], sparse[1], kind).shape == (0, 7)


def test_vectors_of_different_lengths() -> None:
    short = SparseVectors.from_dense(np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match="30 and 3"):
        sparse_vectors.similarity(SparseVectors.from_dense(draw(2)), short, "dot")
    with pytest.raises(ValueError, match="not those of vectors"):
        SparseVectors(short.indptr, short.indices, short.values, (2, 3))


def test_scipy_is_asked_for_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = SparseVectors.from_dense(draw(3))
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="scipy"):
        vectors.to_scipy()


# ---- The encoder ---------------------------------------------------------------------------------


def test_encode_is_run_on_the_tokens(headed: Callable[..., Path]) -> None:
    with vlt.SparseEncoder(headed("splade")) as encoder:
        expected = encoder.run(encoder.tokenize(TEXTS), output="sparse")
        vectors = encoder.encode(TEXTS)
        assert vectors.shape == (4, WORDS)
        assert vectors.to_dense().tobytes() == expected.tobytes()
        assert (vectors.values > 0).all()
        one = encoder.encode(TEXTS[1])
        assert one.shape == (WORDS,)
        assert one.to_dense().tobytes() == expected[1].tobytes()
        assert encoder.encode([]).shape == (0, WORDS)
        assert encoder.get_sentence_embedding_dimension() == WORDS


def test_parts_change_no_bit(headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with vlt.SparseEncoder(headed("splade")) as encoder:
        whole = encoder.encode(TEXTS * 3)
        monkeypatch.setattr(sparse_encoder, "MOST_NUMBERS", 2 * WORDS)
        parts = encoder.encode(TEXTS * 3)
        assert parts.to_dense().tobytes() == whole.to_dense().tobytes()


def test_decode(headed: Callable[..., Path]) -> None:
    with vlt.SparseEncoder(headed("splade")) as encoder:
        vectors = encoder.encode(TEXTS)
        decoded: Any = encoder.decode(vectors)
        for words, row in zip(decoded, vectors.to_dense(), strict=True):
            weights = [row[VOCABULARY.index(word)] for word, _ in words]
            assert weights == [weight for _, weight in words]
            assert weights == sorted(weights, reverse=True)
            assert len(words) == np.count_nonzero(row)
        assert encoder.decode(vectors, top_k=3) == [words[:3] for words in decoded]
        assert encoder.decode(vectors[1]) == decoded[1]
        assert encoder.decode(vectors.to_dense()) == decoded
        assert encoder.decode(np.zeros(WORDS)) == []
        with pytest.raises(ValueError, match="top_k"):
            encoder.decode(vectors, top_k=0)


def test_prompts_and_similarity(headed: Callable[..., Path]) -> None:
    with vlt.SparseEncoder(headed("splade", similarity="dot")) as encoder:
        query = encoder.encode_query(TEXTS[0])
        expected = encoder.encode(PROMPTS["query"] + TEXTS[0])
        assert query.to_dense().tobytes() == expected.to_dense().tobytes()
        documents = encoder.encode_document(TEXTS, max_active_dims=9)
        assert np.diff(documents.indptr).max() <= 9
        dense = query.to_dense(), documents.to_dense()
        np.testing.assert_allclose(
            encoder.similarity(query, documents), [dense[0] @ dense[1].T], rtol=1e-5
        )
        np.testing.assert_array_equal(
            encoder.similarity(*dense), encoder.similarity(query, documents)
        )
        encoder.similarity_fn_name = "cosine"
        np.testing.assert_allclose(encoder.similarity(query, query), [[1]], rtol=1e-5)


def test_bad_calls_are_refused(headed: Callable[..., Path], tiny_weights: Path) -> None:
    with vlt.SparseEncoder(headed("splade")) as encoder:
        with pytest.raises(TypeError, match="number 1"):
            encoder.encode(["a", 3])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="max_active_dims"):
            encoder.encode("a", max_active_dims=0)
    for path in (tiny_weights, headed("words")):
        with pytest.raises(vlt.UnsupportedError, match="SparseEncoder needs .*sparse"):
            vlt.SparseEncoder(path)
