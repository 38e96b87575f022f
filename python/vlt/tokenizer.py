"""Texts -> packed token ids and back, by the tokenizer.json that the weights file carries."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import FileError, InvalidArgumentError
from .packing import PackedIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Text = str | tuple[str, str]
    Int32Array = NDArray[np.int32]


class TextTokenizer:
    """Tokenizes without padding, truncates to a longest input. Safe from many threads.

    Parameters
    ----------
    source : bytes
        A tokenizer.json.
    max_length : int
        Most tokens of one text or pair, special ones included.
    lower_case : bool
        Lower-case texts first.
    strategy : str
        What is cut off a pair: tokens of whichever text is the longer ("longest_first"), or of the
        second ("only_second").
    stride : int
        Tokens that what was cut off repeats, see `windows`.
    has_types : bool
        Does the model have token types? If not, those that a tokenizer gives the second text of a
        pair say nothing, and transformers leaves them out.
    direction : str, optional
        The side that is cut off; what `source` says, or the right one, if left out.

    Raises
    ------
    ImportError
        The package tokenizers is missing.
    FileError
        `source` is not a tokenizer.
    InvalidArgumentError
        `max_length` leaves no room beside the special tokens, or `stride` none for new ones.
    """

    def __init__(
        self,
        source: bytes,
        max_length: int,
        lower_case: bool = False,
        strategy: Literal["longest_first", "only_second"] = "longest_first",
        stride: int = 0,
        has_types: bool = True,
        direction: Literal["left", "right"] | None = None,
    ) -> None:
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
        pair_special = tokenizer.num_special_tokens_to_add(is_pair=True)
        if stride and stride >= max_length - pair_special:
            raise InvalidArgumentError(
                f"parts of {max_length} tokens, {pair_special} of them special, must overlap by "
                f"fewer than {max_length - pair_special}, not by {stride}"
            )
        side = direction or (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.enable_truncation(max_length, stride=stride, strategy=strategy, direction=side)
        tokenizer.no_padding()
        if lower_case:
            first = [tokenizers.normalizers.Lowercase()]
            rest = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = tokenizers.normalizers.Sequence(first + rest)
        self.max_length = max_length
        self._stride = stride
        self._tokenizer = tokenizer
        # Computes no offsets into the text; versions before 0.20 lack it.
        self._encode_fast = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
        self._pair_special = pair_special
        self._has_types = has_types
        self._types_single_texts = any(tokenizer.encode("a").type_ids)

    # ---- Texts to ids ------------------------------------------------------------------------

    def ids(self, texts: Sequence[Text]) -> list[list[int]]:
        """Token ids of each text, special ones included."""
        return [encoding.ids for encoding in self._encode(self._encode_fast, texts)]

    def pack(self, texts: Sequence[Text]) -> tuple[PackedIds, Int32Array | None]:
        """Packed ids of all texts, and their token types: None stands for all zero."""
        return self.packed(self._encode(self._encode_fast, texts), texts)

    def encodings(self, texts: Sequence[Text], special: bool = True) -> list[Any]:
        """A `tokenizers.Encoding` of each text, with offsets into it in characters.

        `special` is whether it has the special tokens.
        """
        encode = partial(self._tokenizer.encode_batch, add_special_tokens=special)
        return self._encode(encode, texts)

    def windows(self, first: str, second: str) -> list[Any]:
        """Encodings of a pair, the second text in overlapping parts where the pair is too long."""
        room = self._room_beside(first)
        if room <= self._stride and self._count("", second) > room:
            raise InvalidArgumentError(
                f"beside {first!r:.60} an input of {self.max_length} tokens has room for {room} "
                f"more, which must be above the {self._stride} that parts repeat; shorten it, or "
                "ask for longer inputs or less overlap"
            )
        (encoding,) = self.encodings([(first, second)])
        return [encoding, *encoding.overflowing]

    def packed(
        self, encodings: Sequence[Any], texts: Sequence[Text]
    ) -> tuple[PackedIds, Int32Array | None]:
        """What `pack` gives, of encodings; `texts` say whether any is a pair."""
        starts = np.zeros(len(encodings) + 1, np.int32)
        np.cumsum([len(encoding) for encoding in encodings], out=starts[1:])
        ids = PackedIds(_flatten(encoding.ids for encoding in encodings), starts)
        typed = self._types_single_texts or not all(isinstance(text, str) for text in texts)
        if not (typed and self._has_types):
            return ids, None
        return ids, _flatten(encoding.type_ids for encoding in encodings)

    def prompt_length(self, prompt: str) -> int:
        """Tokens that a prompt puts at the head of every text: leading special ones included."""
        mask = self._tokenizer.encode(prompt).special_tokens_mask
        return len(mask) - (1 if mask and mask[-1] else 0)

    def _room_beside(self, first: str) -> int:
        """Tokens of a second text that fit beside a first one, which is never cut."""
        try:
            used = self._count(first, "")
        except Exception:  # it alone is too long; the binding raises no narrower class
            return 0
        return max(self.max_length - self._pair_special - used, 0)

    def _count(self, first: str, second: str) -> int:
        """Tokens of a pair but the special ones, `max_length` at most."""
        return len(self._tokenizer.encode(first, second, add_special_tokens=False))

    def _encode(self, encode: Callable[..., list[Any]], texts: Sequence[Text]) -> list[Any]:
        if self.max_length <= self._pair_special and not all(map(_is_text, texts)):
            raise InvalidArgumentError(
                f"the longest input must be more than the {self._pair_special} special tokens of "
                f"a pair of texts, not {self.max_length}"
            )
        return encode(texts)

    # ---- Ids to texts ------------------------------------------------------------------------

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """The text that token ids stand for."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=skip_special)
        return text

    def token(self, index: int) -> str:
        """A token as the vocabulary spells it, such as "##ing"; empty past the vocabulary."""
        return self._tokenizer.id_to_token(index) or ""

    def find(self, token: str) -> int | None:
        """Id of a token spelt so, or None."""
        index: int | None = self._tokenizer.token_to_id(token)
        return index

    def plain_ids(self, text: str) -> list[int]:
        """Token ids of a text without the special ones."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def join(self, tokens: list[str]) -> str:
        """The text that tokens, spelt as in the vocabulary, stand for together."""
        decoder = self._tokenizer.decoder
        text: str = " ".join(tokens) if decoder is None else decoder.decode(tokens)
        return text

    @property
    def unknown_id(self) -> int | None:
        """Id of the token for what the vocabulary lacks; None where there is none."""
        # A model of kind Unigram does not say; every published one calls it so.
        return self.find(getattr(self._tokenizer.model, "unk_token", None) or "<unk>")

    @property
    def marks_continuations(self) -> bool:
        """Is a token within a word spelt differently from one at a word's beginning ("##ing")?"""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))


def _is_text(text: Text) -> bool:
    return isinstance(text, str)


def _flatten(lists: Iterable[list[int]]) -> Int32Array:
    return np.fromiter(chain.from_iterable(lists), np.int32)
