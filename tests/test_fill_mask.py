"""Words for gaps in texts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headed_models import MASK
from model_folders import VOCABULARY

import vlt
from vlt import fill_mask, scores

TEXT = "the [MASK] dog"


def test_best_words(headed: Callable[..., Path]) -> None:
    with vlt.FillMask(headed("words")) as filler:
        assert filler.mask_token == "[MASK]"
        ids = filler.tokenize(TEXT)
        place = ids.index(MASK)
        (logits,) = filler.run([ids], output="vocabulary", chosen=[place])
        shares = scores.softmax(logits)
        found = filler.fill(TEXT)
        assert [each["token"] for each in found] == np.argsort(-shares, kind="stable")[:5].tolist()
        assert [each["score"] for each in found] == [float(shares[each["token"]]) for each in found]
        for each in found:
            word = VOCABULARY[each["token"]]
            assert each["token_str"] == word
            gap = "" if word.startswith("##") else " "
            filled = f"the{gap}{word.removeprefix('##')} dog"
            assert each["sequence"] == filled or word in ".,!?'" or word.startswith("[")
        assert len(filler.fill(TEXT, top_k=999)) == len(VOCABULARY)


def test_targets(headed: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    with vlt.FillMask(headed("words")) as filler:
        every = {each["token_str"]: each for each in filler.fill(TEXT, top_k=999)}
        found = filler.fill(TEXT, targets=["red", "blue", "red"])
        expected = sorted((every["red"], every["blue"]), key=lambda each: -each["score"])
        assert found == expected
        assert filler.fill(TEXT, targets="red") == [every["red"]]
        with caplog.at_level(logging.WARNING, "vlt"):
            assert filler.fill(TEXT, targets="running") == [every["run"]]
            assert "'run' takes its place" in caplog.text
            with pytest.raises(ValueError, match="at least one word"):
                filler.fill(TEXT, targets=[" "])


def test_several_gaps_and_texts(
    headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT, "[MASK] [MASK] a", "a man", "[MASK]"]
    with vlt.FillMask(headed("words")) as filler:
        with pytest.raises(ValueError, match=r"text 2 has no '\[MASK\]'"):
            filler.fill(texts)
        del texts[2]
        found = filler.fill(texts, top_k=2)
        assert [len(each) for each in found] == [2, 2, 2]
        assert isinstance(found[1][0], list)  # a list for each gap
        assert "[MASK]" in found[1][0][0]["sequence"]
        assert "[CLS]" not in found[0][0]["sequence"]
        assert [filler.fill(text, top_k=2) for text in texts] == found
        monkeypatch.setattr(fill_mask, "MOST_NUMBERS", 1)  # every text by itself
        assert filler.fill(texts, top_k=2) == found
        assert filler.fill([]) == []


def test_gap_past_the_end_is_missed(headed: Callable[..., Path]) -> None:
    with (
        vlt.FillMask(headed("words"), max_length=8) as filler,
        pytest.raises(ValueError, match="first 8 tokens"),
    ):
        filler.fill("a " * 10 + "[MASK]")


@pytest.mark.parametrize(
    ("texts", "options", "error", "words"),
    [
        (3, {}, TypeError, "int"),
        ([TEXT, 3], {}, TypeError, "number 1"),
        (TEXT, {"top_k": 0}, ValueError, "top_k"),
    ],
)
def test_bad_calls_are_refused(
    headed: Callable[..., Path],
    texts: Any,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with vlt.FillMask(headed("words")) as filler, pytest.raises(error, match=words):
        filler.fill(texts, **options)


def test_file_without_a_vocabulary_head(tiny_weights: Path) -> None:
    with pytest.raises(vlt.UnsupportedError, match="FillMask needs .*vocabulary head"):
        vlt.FillMask(tiny_weights)
