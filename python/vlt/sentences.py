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


def pairs_of(pairs: Any) -> tuple[list[tuple[str, str]], bool]:
    """Pairs of texts as a list, checked, and whether it was a single one, such as ("a", "b")."""
    if isinstance(pairs, np.ndarray):
        pairs = pairs.tolist()
    if not hasattr(pairs, "__iter__") or isinstance(pairs, (str, bytes, dict)):
        raise TypeError(
            f"pairs must be a list of pairs of str, (str, str), not {type(pairs).__name__}"
        )
    items = list(pairs)
    single = len(items) > 0 and not isinstance(items[0], (tuple, list))
    items = [items] if single else items
    for index, pair in enumerate(items):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"pairs must be (str, str); number {index} is {pair!r:.60}")
    require_texts(items)
    return [(first, second) for first, second in items], single


def without_pair_dicts(texts: Any) -> Any:
    """The texts, with {"text": a, "text_pair": b} as (a, b) and {"text": a} as a."""
    if isinstance(texts, dict):
        return [_text_of(texts)]
    if isinstance(texts, (str, bytes, np.ndarray)) or not hasattr(texts, "__iter__"):
        return texts
    return [_text_of(text) if isinstance(text, dict) else text for text in texts]


def _text_of(parts: dict[str, Any]) -> Any:
    if "text" not in parts or not parts.keys() <= {"text", "text_pair"}:
        raise TypeError(
            "a text as a dict must have the keys 'text' and, for a pair, 'text_pair', not "
            f"{', '.join(map(repr, parts))}"
        )
    pair = parts.get("text_pair")
    return parts["text"] if pair is None else (parts["text"], pair)


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
