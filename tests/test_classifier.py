"""Labels of texts and of tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headed_models import TAGS

import vlt
from vlt import blocks, entities, scores
from vlt.entities import Token

TEXTS = ["a man is running", "the red dog", "", "banana"]


# ---- Texts ---------------------------------------------------------------------------------------


def test_best_label(headed: Callable[..., Path]) -> None:
    with vlt.Classifier(headed("moods")) as classifier:
        assert classifier.labels == ["sad", "calm", "glad"]
        logits = classifier.run(classifier.tokenize(TEXTS), output="logits")
        shares = scores.softmax(logits)
        found = classifier.predict(TEXTS)
        assert found == [
            {"label": classifier.labels[row.argmax()], "score": float(row.max())} for row in shares
        ]
        assert classifier.predict(TEXTS[1]) == [found[1]]
        assert classifier.predict([]) == []


def test_all_labels(headed: Callable[..., Path]) -> None:
    with vlt.Classifier(headed("moods")) as classifier:
        best, every = classifier.predict(TEXTS), classifier.predict(TEXTS, top_k=None)
        assert [row[0] for row in every] == best
        for row in every:
            assert {each["label"] for each in row} == {"sad", "calm", "glad"}
            assert sum(each["score"] for each in row) == pytest.approx(1, rel=1e-6)
            assert row == sorted(row, key=lambda each: each["score"], reverse=True)
        assert classifier.predict(TEXTS, top_k=2) == [row[:2] for row in every]
        assert classifier.predict(TEXTS, top_k=9) == every
        assert classifier.predict(TEXTS[0], top_k=None) == every[0]


def test_pairs_and_dicts(headed: Callable[..., Path]) -> None:
    pair = {"text": "a man", "text_pair": "the red dog"}
    with vlt.Classifier(headed("moods")) as classifier:
        expected = classifier.predict([("a man", "the red dog")])
        assert expected != classifier.predict(["a man"])
        assert classifier.predict([pair, {"text": "banana"}]) == [
            *expected,
            *classifier.predict("banana"),
        ]
        assert classifier.predict(pair) == expected
        assert classifier.predict(pair, top_k=1) == expected
        assert len(classifier.predict(pair, top_k=3)) == 3
        assert isinstance(classifier.predict(pair, top_k=3)[0], dict)
        with pytest.raises(TypeError, match="'texts'"):
            classifier.predict({"texts": "a"})


@pytest.mark.parametrize(
    ("name", "metadata", "function"),
    [
        ("moods", {}, "softmax"),
        ("moods", {"problem": "multi_label"}, "sigmoid"),
        ("moods", {"problem": "regression"}, "none"),
        ("topics", {}, "sigmoid"),
        ("rerank", {}, "sigmoid"),
        ("rerank", {"problem": "single_label"}, "sigmoid"),
        ("regression", {}, "none"),
    ],
)
def test_function_follows_the_problem(
    headed: Callable[..., Path], name: str, metadata: dict[str, str], function: Any
) -> None:
    with vlt.Classifier(headed(name, **metadata)) as classifier:
        logits = classifier.run(classifier.tokenize(TEXTS), output="logits")
        expected = scores.FUNCTIONS[function](logits).max(axis=1).tolist()
        assert [each["score"] for each in classifier.predict(TEXTS)] == expected
        told = classifier.predict(TEXTS, function_to_apply=function)
        assert [each["score"] for each in told] == expected


def test_labels_without_names(headed: Callable[..., Path]) -> None:
    with vlt.Classifier(headed("topics")) as classifier:
        assert classifier.labels == ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]
        assert classifier.problem == "multi_label"


@pytest.mark.parametrize(
    ("texts", "options", "error", "words"),
    [
        (["a", 3], {}, TypeError, "number 1 is 3"),
        (7, {}, TypeError, "int"),
        ("a", {"top_k": 0}, ValueError, "top_k"),
        ("a", {"function_to_apply": "relu"}, ValueError, "'relu'"),
    ],
)
def test_bad_calls_are_refused(
    headed: Callable[..., Path],
    texts: Any,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with vlt.Classifier(headed("moods")) as classifier, pytest.raises(error, match=words):
        classifier.predict(texts, **options)


def test_kinds_that_the_file_lacks(headed: Callable[..., Path], tiny_weights: Path) -> None:
    with pytest.raises(vlt.UnsupportedError, match="Classifier needs .* has neither"):
        vlt.Classifier(tiny_weights)
    with (
        vlt.Classifier(headed("moods")) as classifier,
        pytest.raises(vlt.UnsupportedError, match=r"classify_tokens\(\) needs .*token head"),
    ):
        classifier.classify_tokens("a")
    with vlt.Classifier(headed("tags")) as classifier:
        assert classifier.labels == list(TAGS)
        with pytest.raises(vlt.UnsupportedError, match=r"predict\(\) needs .*sequence head"):
            classifier.predict("a")


# ---- Tokens --------------------------------------------------------------------------------------


def test_each_token(headed: Callable[..., Path]) -> None:
    with vlt.Classifier(headed("tags")) as classifier:
        text = "a man  Running"
        found = classifier.classify_tokens(text, ignore_labels=())
        words = [each["word"] for each in found]
        assert words == ["a", "man", "run", "##n", "##i", "##n", "##g"]
        assert [each["index"] for each in found] == list(range(1, 8))
        spans = [text[each["start"] : each["end"]] for each in found]
        assert spans == ["a", "man", "Run", "n", "i", "n", "g"]
        shares = scores.softmax(
            classifier.run([classifier.tokenize(text)], output="token_logits")[0]
        )
        assert [each["entity"] for each in found] == [TAGS[row.argmax()] for row in shares[1:-1]]
        assert [each["score"] for each in found] == shares[1:-1].max(axis=1).tolist()
        fewer = classifier.classify_tokens(text, ignore_labels=["I-PER", "B-PER"])
        assert fewer == [each for each in found if each["entity"] not in ("I-PER", "B-PER")]


def test_tokens_of_many_texts(headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with vlt.Classifier(headed("tags")) as classifier:
        alone = [classifier.classify_tokens(text, "simple") for text in TEXTS]
        assert classifier.classify_tokens(TEXTS, "simple") == alone
        monkeypatch.setitem(blocks.BLOCK_CHARACTERS, "cpu", 20)
        assert classifier.classify_tokens(TEXTS, "simple") == alone
        assert classifier.classify_tokens([]) == []
        long = classifier.classify_tokens("banana " * 100, ignore_labels=())
        assert len(long) == classifier.max_seq_length - 2
        with pytest.raises(ValueError, match="'best'"):
            classifier.classify_tokens("a", "best")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="single texts"):
            classifier.classify_tokens([("a", "b")])  # type: ignore[list-item]


def tokens(*parts: tuple[str, str, float]) -> list[Token]:
    """Tokens of (word, label, score) in a text where each is its word and a space between."""
    result, start = [], 0
    for index, (word, label, score) in enumerate(parts):
        row = np.full(len(TAGS), (1 - score) / (len(TAGS) - 1), np.float32)
        row[TAGS.index(label)] = score
        continues = word.startswith("##")
        start += not continues and index > 0
        end = start + len(word.removeprefix("##"))
        result.append(Token(word, row, start, end, index + 1, continues))
        start = end
    return result


def join(words: list[str]) -> str:
    return " ".join(words).replace(" ##", "")


def merged(strategy: str, *parts: tuple[str, str, float]) -> list[tuple[str, str, int, int]]:
    """(kind, word, start, end) of each entity that is not "O"."""
    found = entities.without(entities.merge(tokens(*parts), TAGS, strategy, join), ["O"])
    return [(each["entity_group"], each["word"], each["start"], each["end"]) for each in found]


def test_neighbours_of_one_kind_are_one_entity() -> None:
    parts = [
        ("ada", "B-PER", 0.9),
        ("king", "I-PER", 0.8),
        ("in", "O", 0.9),
        ("new", "B-LOC", 0.9),
        ("york", "I-LOC", 0.9),
        ("london", "B-LOC", 0.9),
        ("bob", "I-PER", 0.9),
    ]
    assert merged("simple", *parts) == [
        ("PER", "ada king", 0, 8),
        ("LOC", "new york", 12, 20),
        ("LOC", "london", 21, 27),
        ("PER", "bob", 28, 31),
    ]
    found = entities.merge(tokens(*parts), TAGS, "simple", join)
    assert found[0]["score"] == pytest.approx(0.85, rel=1e-6)


def test_words_get_one_label() -> None:
    parts = [("mi", "B-PER", 0.5), ("##cro", "I-LOC", 0.8), ("##soft", "I-PER", 0.6)]
    assert [kind for kind, *_ in merged("simple", *parts)] == ["PER", "LOC", "PER"]
    assert merged("first", *parts) == [("PER", "microsoft", 0, 9)]
    assert merged("max", *parts) == [("LOC", "microsoft", 0, 9)]
    # averages: B-PER (.5 + .05 + .1) / 3, I-LOC (.125 + .8 + .1) / 3, I-PER (.125 + .05 + .6) / 3
    assert merged("average", *parts) == [("LOC", "microsoft", 0, 9)]


def test_no_tokens_no_entities() -> None:
    for strategy in entities.STRATEGIES:
        assert entities.merge([], TAGS, strategy, join) == []
