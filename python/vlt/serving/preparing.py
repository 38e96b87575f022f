"""Texts and token ids as clients send them -> sequences that are ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vlt.errors import InvalidArgumentError
from vlt.packing import INT32, PackedIds, pack
from vlt.sentences import prepend

from .ticket import Inputs, concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vlt.text_encoder import TextEncoder
    from vlt.tokenizer import TextTokenizer

    Text = str | tuple[str, str]
    Item = Text | list[int]

Direction = Literal["left", "right"]


@dataclass(frozen=True)
class Truncation:
    """What to do with inputs that are too long.

    Attributes
    ----------
    allowed : bool
        Cut them; otherwise they are refused.
    direction : str or None
        The side that is cut off; the tokenizer's own if None.
    """

    allowed: bool = True
    direction: Direction | None = None


class Preparer:
    """Makes sequences for an encoder. May be used from many threads."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._tokenizers: dict[tuple[int, Direction | None], TextTokenizer] = {}

    @property
    def max_length(self) -> int:
        """Tokens of the longest input, special ones included."""
        return self._encoder.max_seq_length

    def prepare(
        self, items: Sequence[Item], prompt: str = "", truncation: Truncation | None = None
    ) -> Inputs:
        """Tokenize texts, take token ids as they are.

        Parameters
        ----------
        items : list of str, (str, str) or lists of int
            Ids are the whole input, special ones included, and are given no prompt.

        Raises
        ------
        InvalidArgumentError
            An input that is too long or holds an id outside the vocabulary.
        """
        how = truncation or Truncation()
        texts = [item for item in items if not isinstance(item, list)]
        if len(texts) == len(items):
            return self._tokenize(texts, prompt, how)
        ids = [item for item in items if isinstance(item, list)]
        given = self._take_ids(ids, how)
        if not texts:
            return given
        tokenized = self._tokenize(texts, prompt, how)
        if tokenized.skipped:
            raise InvalidArgumentError(
                "this model's pooling leaves the prompt out, so inputs with a prompt must be all "
                "texts or all token ids"
            )
        return _merge(items, tokenized, given)

    def tokenizer(self, how: Truncation) -> TextTokenizer:
        """Made once for each side and length."""
        if how == Truncation():
            return self._encoder._text_tokenizer()
        key = self.max_length if how.allowed else int(INT32.max), how.direction
        if key not in self._tokenizers:
            self._tokenizers[key] = self._encoder._new_tokenizer(*key)
        return self._tokenizers[key]

    def _tokenize(self, texts: list[Text], prompt: str, how: Truncation) -> Inputs:
        ids, types = self.tokenizer(how).pack([prepend(prompt, text) for text in texts])
        _require_lengths(ids, self.max_length)
        return Inputs(ids, types, self._encoder._skipped(prompt))

    def _take_ids(self, items: list[list[int]], how: Truncation) -> Inputs:
        if how.allowed:
            longest = self.max_length
            cut = slice(-longest, None) if how.direction == "left" else slice(longest)
            items = [item[cut] for item in items]
        return self.check(pack(items), self.max_length)

    def check(self, ids: PackedIds, longest: int) -> Inputs:
        """Sequences of ids: in the vocabulary, and none longer than that."""
        _require_lengths(ids, longest)
        self.require_known(ids.values)
        return Inputs(ids)

    def require_known(self, ids: NDArray[Any]) -> None:
        """Refuse ids outside the vocabulary."""
        size = self._encoder.vocab_size
        wrong = np.flatnonzero((ids < 0) | (ids >= size))
        if wrong.size:
            raise InvalidArgumentError(f"token ids must be 0 ... {size - 1}, not {ids[wrong[0]]}")


def _require_lengths(ids: PackedIds, longest: int) -> None:
    found = int(ids.lengths.max(initial=0))
    if found > longest:
        raise InvalidArgumentError(
            f"inputs must have at most {longest} tokens, not {found}; shorten them or ask for "
            "truncation"
        )


def _merge(items: Sequence[Item], tokenized: Inputs, given: Inputs) -> Inputs:
    """Sequences of both in the order of the items."""
    counts = {True: 0, False: 0}
    parts: list[tuple[Inputs, int]] = []
    for item in items:
        is_ids = isinstance(item, list)
        parts.append((given if is_ids else tokenized, counts[is_ids]))
        counts[is_ids] += 1
    return concatenate(parts)
