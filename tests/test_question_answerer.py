"""Answers found in texts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlt
from vlt import scores, spans

QUESTION = "what is it?"
LONG = "the quick red machine runs under water and every dog in the world can do it. " * 4


def test_spans_are_the_best_of_all() -> None:
    """Against every pair of tokens tried in turn."""
    rng = np.random.default_rng(5)
    for length in (2, 5, 17):
        logits = rng.normal(0, 2, (length, 2)).astype(np.float32)
        allowed = rng.random(length) < 0.7
        allowed[0] = False
        counted = allowed | (np.arange(length) == 0)
        shares = scores.softmax(np.where(counted, logits.T, -1e4).astype(np.float32))
        for longest in (1, 3, 40):
            every = [
                (start, end, float(shares[0, start] * shares[1, end]))
                for start in range(length)
                for end in range(start, min(start + longest, length))
                if allowed[start] and allowed[end]
            ]
            every.sort(key=lambda span: span[2], reverse=True)
            found, none = spans.best_spans(logits, allowed, True, 6, longest)
            assert [tuple(span) for span in found] == every[:6]
            assert none == float(shares[0, 0] * shares[1, 0])


def test_answer_is_a_part_of_the_context(headed: Callable[..., Path]) -> None:
    with vlt.QuestionAnswerer(headed("answers")) as answerer:
        best = answerer.answer(QUESTION, LONG)
        assert list(best) == ["score", "start", "end", "answer"]
        assert best["answer"] == LONG[best["start"] : best["end"]] != ""
        several = answerer.answer(QUESTION, LONG, top_k=3)
        assert several[0] == best
        assert len(several) == 3
        assert len({each["answer"].lower() for each in several}) == 3
        assert [each["score"] for each in several] == sorted(
            (each["score"] for each in several), reverse=True
        )
        words = answerer.answer(QUESTION, LONG, top_k=5, max_answer_len=1)
        assert all(" " not in each["answer"] for each in words)


def test_lists_of_questions(headed: Callable[..., Path]) -> None:
    with vlt.QuestionAnswerer(headed("answers")) as answerer:
        contexts = [LONG, "a man", LONG[20:]]
        alone = [answerer.answer(QUESTION, context) for context in contexts]
        assert answerer.answer([QUESTION] * 3, contexts) == alone
        assert answerer.answer([], []) == []


def test_windows_cover_the_context(headed: Callable[..., Path]) -> None:
    with vlt.QuestionAnswerer(headed("answers")) as answerer:
        answerer.max_seq_length = 24
        tokenizer = answerer._window_tokenizer(None, 5)
        windows = tokenizer.windows(QUESTION, LONG)
        assert len(windows) > 3
        assert all(len(window) <= 24 for window in windows)
        places = [
            {
                offsets
                for offsets, sequence in zip(window.offsets, window.sequence_ids, strict=True)
                if sequence == 1
            }
            for window in windows
        ]
        assert all(len(one & other) == 5 for one, other in pairwise(places))
        (whole,) = answerer._text_tokenizer().encodings([LONG])
        assert len(whole) == 24
        assert set(whole.offsets[1:-1]) <= set.union(*places)
        assert max(end for _, end in set.union(*places)) == len(LONG.rstrip())


def test_no_answer(headed: Callable[..., Path]) -> None:
    with vlt.QuestionAnswerer(headed("answers")) as answerer:
        found = answerer.answer(QUESTION, "a man", top_k=99, handle_impossible_answer=True)
        (none,) = [each for each in found if each["answer"] == ""]
        assert (none["start"], none["end"]) == (0, 0)
        assert 0 < none["score"] < 1
        assert "" not in [each["answer"] for each in answerer.answer(QUESTION, "a man", top_k=99)]
        # nothing but spaces holds no answer
        assert answerer.answer(QUESTION, "   ")["answer"] == ""


@pytest.mark.parametrize(
    ("question", "context", "options", "error", "words"),
    [
        ("", "a", {}, ValueError, "empty"),
        ("a", "", {}, ValueError, "empty"),
        (["a", "b"], ["a"], {}, ValueError, "2 and 1"),
        ("a", ["a"], {}, TypeError, "both"),
        (["a"], [3], {}, TypeError, "number 0"),
        ("a", "b", {"top_k": 0}, ValueError, "top_k"),
        ("a", "b", {"max_answer_len": 0}, ValueError, "max_answer_len"),
        ("a", "b", {"max_seq_len": 65}, ValueError, "max_seq_len"),
        ("a man " * 20, "b " * 50, {}, ValueError, "has room for 0 more"),
        ("a man " * 9, "b " * 50, {}, ValueError, "room for 3 more, .* above the 12 that parts"),
        ("a", "b " * 50, {"doc_stride": 23}, ValueError, "by fewer than 21, not by 23"),
    ],
)
def test_bad_calls_are_refused(
    headed: Callable[..., Path],
    question: Any,
    context: Any,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with vlt.QuestionAnswerer(headed("answers")) as answerer:
        with pytest.raises(error, match=words):
            answerer.answer(question, context, **options)
        assert answerer.answer("who", "a man")["answer"]


def test_other_heads_are_refused(headed: Callable[..., Path], tiny_weights: Path) -> None:
    with pytest.raises(vlt.UnsupportedError, match="QuestionAnswerer needs .*token head"):
        vlt.QuestionAnswerer(tiny_weights)
    with pytest.raises(vlt.UnsupportedError, match="2 outputs.*this one has 5"):
        vlt.QuestionAnswerer(headed("tags"))
