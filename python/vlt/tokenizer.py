"""Texts -> packed token ids, by the tokenizer.json that the weights file carries."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import FileError, InvalidArgumentError
from .packing import PackedIds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Text = str | tuple[str, str]


class TextTokenizer:
    """Tokenizes without padding, truncates to a longest input. Safe from many threads.

    Parameters
    ----------
    source : bytes
        A tokenizer.json.
    max_length : int
        Most tokens of one text, special ones included.
    lower_case : bool
        Lower-case texts first.

    Raises
    ------
    ImportError
        The package tokenizers is missing.
    FileError
        `source` is not a tokenizer.
    InvalidArgumentError
        `max_length` leaves no room beside the special tokens.
    """

    def __init__(self, source: bytes, max_length: int, lower_case: bool = False) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise ImportError(
                f"texts need the package tokenizers: pip install tokenizers ({error})"
            ) from error
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(source)
        except Exception as error:  # the binding raises no narrower class
            raise FileError(f"the weights file's tokenizer.json is not valid: {error}") from error
        special = tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_length <= special:
            raise InvalidArgumentError(
                f"the longest input must be more than the {special} special tokens of a text, "
                f"not {max_length}"
            )
        direction = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.enable_truncation(max_length, direction=direction)
        tokenizer.no_padding()
        if lower_case:
            first = [tokenizers.normalizers.Lowercase()]
            rest = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = tokenizers.normalizers.Sequence(first + rest)
        self.max_length = max_length
        self._tokenizer = tokenizer
        # Computes no offsets into the text; versions before 0.20 lack it.
        self._encode_batch = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
        self._types_single_texts = any(tokenizer.encode("a").type_ids)

    def ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Token ids of each text, special ones included."""
        return [encoding.ids for encoding in self._encode(texts)]

    def pack(self, texts: Sequence[Text]) -> tuple[PackedIds, NDArray[np.int32] | None]:
        """Packed ids of all texts, and their token types: None stands for all zero."""
        encodings = self._encode(texts)
        starts = np.zeros(len(encodings) + 1, np.int32)
        np.cumsum([len(encoding) for encoding in encodings], out=starts[1:])
        ids = PackedIds(_flatten(encoding.ids for encoding in encodings), starts)
        typed = self._types_single_texts or not all(isinstance(text, str) for text in texts)
        return ids, _flatten(encoding.type_ids for encoding in encodings) if typed else None

    def prompt_length(self, prompt: str) -> int:
        """Tokens that a prompt puts at the head of every text: leading special ones included."""
        mask = self._tokenizer.encode(prompt).special_tokens_mask
        return len(mask) - (1 if mask and mask[-1] else 0)

    def _encode(self, texts: Sequence[Text]) -> list[Any]:
        encodings: list[Any] = self._encode_batch(texts)
        return encodings


def _flatten(lists: Iterable[list[int]]) -> NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(lists), np.int32)
