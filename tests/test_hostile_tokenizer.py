"""A weights file whose tokenizer is none: texts are refused with the reason, and ids run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hostile.build import good_file, parts, text, tiny_tensors

import vlt
from vlt.errors import FileError, UnsupportedError

MODEL = {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1}}
BROKEN = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe{}",
    "not JSON": b"vocab: a b c",
    "cut short": json.dumps({"version": "1.0", "model": MODEL}).encode()[:-10],
    "no object": b"[1, 2]",
    "no model": b"{}",
    "unknown model": json.dumps({"version": "1.0", "model": {"type": "Oracle"}}).encode(),
    "vocab of lists": json.dumps({"version": "1.0", "model": MODEL | {"vocab": [1]}}).encode(),
    "nested without end": b"[" * 100_000,
    "NULs": bytes(64),
}


def file_with(tokenizer: bytes) -> bytes:
    return parts(tensors=tiny_tensors() | {"tokenizer.json": text(tokenizer)}).encode()


@pytest.mark.parametrize("tokenizer", BROKEN.values(), ids=BROKEN)
def test_texts_are_refused_and_ids_run(tokenizer: bytes) -> None:
    with vlt.Encoder(file_with(tokenizer)) as encoder, vlt.Encoder(good_file()) as good:
        for _ in range(2):
            with pytest.raises((FileError, UnsupportedError), match="tokenizer"):
                encoder.encode(["a"])
        ids = [[1, 2], [3]]
        np.testing.assert_array_equal(encoder.run(ids).values, good.run(ids).values)


def test_a_tokenizer_of_more_words_than_the_model() -> None:
    """Its ids are checked like any others."""
    words = {"[UNK]": 0} | {f"w{i}": i for i in range(1, 12)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": MODEL | {"vocab": words},
    }
    with vlt.Encoder(file_with(json.dumps(tokenizer).encode())) as encoder:
        assert encoder.encode(["w3 w9"]).shape == (1, 3)
        with pytest.raises(vlt.InvalidArgumentError, match="token id 11 .* 0 … 9"):
            encoder.encode(["w11"])
