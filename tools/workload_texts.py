"""Texts that have given lengths in tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import vlt


def make_texts(encoder: vlt.Encoder, folder: Path, lengths: Iterable[int]) -> list[str]:
    """Texts of words that are one token each; the folder has the encoder's tokenizer.json.

    Those longer than the model's longest input are cut to it by every engine alike.
    """
    words = whole_words(folder)
    rng = np.random.default_rng(1)
    texts = []
    for length in lengths:
        texts.append(" ".join(rng.choice(words, max(length - 2, 1))))
        tokens = len(encoder.tokenize(texts[-1]))
        if tokens != min(max(length, 3), encoder.max_seq_length):
            raise RuntimeError(f"{texts[-1]!r} has {tokens} tokens, not {length}")
    return texts


def whole_words(folder: Path) -> list[str]:
    """Words of the vocabulary that the tokenizer leaves whole."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
