"""What counts as a sentence, or as several: checks and prompts before the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Text = str | tuple[str, str]


def list_of(sentences: Any) -> tuple[list[Any], bool]:
    """The sentences as a list, checked, and whether it was a single one."""
    if isinstance(sentences, str):
        require_texts([sentences])
        return [sentences], True
    if isinstance(sentences, np.ndarray):
        sentences = sentences.tolist()
    if not hasattr(sentences, "__iter__") or isinstance(sentences, (bytes, dict)):
        raise TypeError(f"sentences must be a str or a list of str, not {type(sentences).__name__}")
    texts = list(sentences)
    require_texts(texts)
    return texts, False


def prepend(prompt: str, text: Text) -> Text:
    """The prompt goes before a text, or before the first of a pair."""
    if not prompt:
        return text
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])


def require_texts(texts: Sequence[Any]) -> None:
    """Name the first item that is not a text, or a pair of texts, in valid Unicode."""
    for index, text in enumerate(texts):
        pair = type(text) in (tuple, list) and len(text) == 2
        for part in text if pair else (text,):
            if not isinstance(part, str):
                raise TypeError(
                    f"sentences must be str or pairs of str; number {index} is {text!r:.60} of "
                    f"type {type(text).__name__}"
                )
            if not part.isascii():
                _require_unicode(part, index)


def _require_unicode(text: str, index: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"sentence {index} is not valid Unicode: {error.reason} at character {error.start}"
        ) from None
