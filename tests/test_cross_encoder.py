"""Pairs of texts scored and ranked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import PROMPTS

import vlt
from vlt import blocks, scores

PAIRS = [
    ("a man", "the red dog"),
    ("what can one dog do?", "banana"),
    ("", ""),
    ("a man", "the red dog"),
]
DOCUMENTS = ["the red dog", "banana", "blue water", "banana", "the river"]


def test_scores_are_the_sigmoid_of_logits(headed: Callable[..., Path]) -> None:
    with vlt.CrossEncoder(headed("rerank")) as encoder:
        assert encoder.num_labels == 1
        first, second = (encoder.tokenize(text) for text in PAIRS[0])
        ids = [*first, *second[1:]]
        types = [[0] * len(first) + [1] * (len(second) - 1)]
        logits = encoder.run([ids], token_types=types, output="logits")[0]
        found = encoder.predict(PAIRS)
        assert (found.dtype, found.shape) == (np.float32, (4,))
        assert found[0] == scores.sigmoid(logits)[0]
        assert found[0] == found[3]
        raw = encoder.predict(PAIRS, activation_fn=lambda rows: rows)
        assert raw[0] == logits[0]


def test_pairs_for_a_model_without_token_types(headed: Callable[..., Path]) -> None:
    """Its tokenizer gives the second text a type all the same, as DistilBERT's does."""
    with vlt.CrossEncoder(headed("rerank", num_token_types="0")) as encoder:
        first, second = (encoder.tokenize(text) for text in PAIRS[0])
        logits = encoder.run([[*first, *second[1:]]], output="logits")[0]
        assert encoder.predict(PAIRS)[0] == scores.sigmoid(logits)[0]


def test_forms_of_pairs(headed: Callable[..., Path]) -> None:
    with vlt.CrossEncoder(headed("rerank")) as encoder:
        expected = encoder.predict(PAIRS)
        lists = [list(pair) for pair in PAIRS]
        for pairs in (lists, tuple(PAIRS), np.array(PAIRS), np.array(PAIRS, object), iter(PAIRS)):
            assert encoder.predict(pairs).tobytes() == expected.tobytes()  # type: ignore[arg-type]
        for pair in (PAIRS[1], list(PAIRS[1]), np.array(PAIRS[1])):
            one = encoder.predict(pair)
            assert (one, np.ndim(one)) == (expected[1], 0)
        assert encoder.predict([]).shape == (0,)
        assert encoder.predict(PAIRS, batch_size=1).tobytes() == expected.tobytes()


def test_several_scores(headed: Callable[..., Path]) -> None:
    with vlt.CrossEncoder(headed("moods")) as encoder:
        logits = encoder.predict(PAIRS)
        assert logits.shape == (4, 3)
        assert (logits < 0).any()  # no activation
        shares = encoder.predict(PAIRS, apply_softmax=True)
        np.testing.assert_array_equal(shares, scores.softmax(logits))
        assert encoder.predict(PAIRS[0]).tobytes() == logits[0].tobytes()
        assert encoder.predict([]).shape == (0, 3)
        with pytest.raises(vlt.UnsupportedError, match="one score, and this one has 3"):
            encoder.rank("a", DOCUMENTS)


def test_activation_of_the_file_and_of_the_caller(headed: Callable[..., Path]) -> None:
    with vlt.CrossEncoder(headed("regression")) as encoder:
        raw = encoder.predict(PAIRS)
    with vlt.CrossEncoder(headed("rerank"), activation_fn=np.tanh) as encoder:
        np.testing.assert_array_equal(encoder.predict(PAIRS), np.tanh(raw))
        encoder.activation_fn = lambda rows: rows * 2
        np.testing.assert_array_equal(encoder.predict(PAIRS), raw * 2)
    with vlt.CrossEncoder(headed("topics")) as encoder:  # several labels, each by itself
        raw = encoder.predict(PAIRS, activation_fn=scores.identity)
        np.testing.assert_array_equal(encoder.predict(PAIRS), scores.sigmoid(raw))


def test_rank(headed: Callable[..., Path]) -> None:
    with vlt.CrossEncoder(headed("rerank")) as encoder:
        expected = encoder.predict([("a man", text) for text in DOCUMENTS]).tolist()
        ranked = encoder.rank("a man", DOCUMENTS)
        assert [each["score"] for each in ranked] == sorted(expected, reverse=True)
        assert all(each["score"] == expected[each["corpus_id"]] for each in ranked)
        order = [each["corpus_id"] for each in ranked]
        assert order.index(1) + 1 == order.index(3)  # equal ones stay in order
        assert set(ranked[0]) == {"corpus_id", "score"}
        best = encoder.rank("a man", DOCUMENTS, top_k=2, return_documents=True)
        assert best == [{**each, "text": DOCUMENTS[each["corpus_id"]]} for each in ranked[:2]]
        assert encoder.rank("a man", []) == []
        with pytest.raises(ValueError, match="top_k"):
            encoder.rank("a man", DOCUMENTS, top_k=0)


def test_prompts_go_before_the_first_text(headed: Callable[..., Path]) -> None:
    with vlt.CrossEncoder(headed("rerank")) as encoder:
        expected = encoder.predict([(PROMPTS["query"] + a, b) for a, b in PAIRS])
        found = encoder.predict(PAIRS, prompt_name="query")
        assert found.tobytes() == expected.tobytes()


def test_long_pairs_lose_the_end_of_the_longer(headed: Callable[..., Path]) -> None:
    pair = ("a man can", "the " * 50)
    with vlt.CrossEncoder(headed("rerank"), max_length=10) as encoder:
        assert encoder.max_seq_length == 10
        (ids,) = encoder.tokenize([pair])
        assert ids == [*encoder.tokenize("a man can"), *encoder.tokenize("the " * 4)[1:]]
        encoder.max_seq_length = 3
        with pytest.raises(ValueError, match="3 special tokens of a pair of texts, not 3"):
            encoder.predict(pair)


def test_blocks_change_no_bit(headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with vlt.CrossEncoder(headed("rerank")) as encoder:
        whole = encoder.predict(PAIRS * 9)
        monkeypatch.setitem(blocks.BLOCK_CHARACTERS, "cpu", 60)
        assert encoder.predict(PAIRS * 9).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("pairs", "options", "error", "words"),
    [
        ("text", {}, TypeError, "not str"),
        (7, {}, TypeError, "not int"),
        (["a", "b", "c"], {}, TypeError, "number 0"),
        ([("a", "b"), ("a",)], {}, TypeError, "number 1"),
        ([("a", "b"), "ab"], {}, TypeError, "number 1 is 'ab'"),
        ([("a", 3)], {}, TypeError, "number 0"),
        ([("a", "b\ud800")], {}, ValueError, "sentence 0"),
        (PAIRS, {"batch_size": 0}, ValueError, "batch_size"),
        (PAIRS, {"device": "cuda:7"}, vlt.UnsupportedError, "cuda:7"),
        (PAIRS, {"prompt_name": "poem"}, ValueError, "'poem'"),
    ],
)
def test_bad_calls_are_refused(
    headed: Callable[..., Path],
    pairs: Any,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with vlt.CrossEncoder(headed("rerank")) as encoder, pytest.raises(error, match=words):
        encoder.predict(pairs, **options)


def test_file_without_a_sequence_head(tiny_weights: Path) -> None:
    with pytest.raises(vlt.UnsupportedError, match="CrossEncoder needs .*sequence head"):
        vlt.CrossEncoder(tiny_weights)
