"""Labels of tokens -> entities in a text, by transformers' rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from .tokenizer import TextTokenizer

    Float32Array = NDArray[np.float32]
    Entity = dict[str, Any]

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True)
class Token:
    """One token of a text, and what the model says of it.

    Attributes
    ----------
    word : str
        As the vocabulary spells it; what the text says where the vocabulary lacks it.
    scores : [N] float32
        A share for each label.
    start, end : int
        Its characters in the text.
    index : int
        Its place among the tokens of the input, special ones included.
    continues : bool
        Does it go on with the word of the token before?
    """

    word: str
    scores: Float32Array
    start: int
    end: int
    index: int
    continues: bool


def tokens_of(
    text: str, encoding: Any, scores: Float32Array, tokenizer: TextTokenizer
) -> list[Token]:
    """The tokens of a text but the special ones, with their rows of `scores`, [L, N]."""
    unknown, marks = tokenizer.unknown_id, tokenizer.marks_continuations
    tokens = []
    for index, (token_id, special) in enumerate(
        zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    ):
        if special:
            continue
        start, end = encoding.offsets[index]
        word, said = encoding.tokens[index], text[start:end]
        if token_id == unknown:
            word, continues = said, False
        elif marks:
            continues = len(word) != len(said)
        else:  # without marks a space before a token is all that tells words apart
            continues = start > 0 and " " not in text[start - 1 : start + 1]
        tokens.append(Token(word, scores[index], start, end, index, continues))
    return tokens


def merge(
    tokens: Sequence[Token], labels: Sequence[str], strategy: str, join: Callable[[list[str]], str]
) -> list[Entity]:
    """Entities of a text by one of `STRATEGIES`; `join` spells tokens as text."""
    if strategy in ("none", "simple"):
        found = [_entity_of_token(token, labels) for token in tokens]
    else:
        found = [_entity_of_word(word, labels, strategy, join) for word in _words_of(tokens)]
    return found if strategy == "none" else [_joined(group, join) for group in _groups_of(found)]


def without(found: Iterable[Entity], ignored: Collection[str]) -> list[Entity]:
    """The entities of other labels than these."""
    return [
        entity
        for entity in found
        if entity.get("entity") not in ignored and entity.get("entity_group") not in ignored
    ]


def _entity_of_token(token: Token, labels: Sequence[str]) -> Entity:
    best = int(token.scores.argmax())
    return {
        "entity": labels[best],
        "score": float(token.scores[best]),
        "index": token.index,
        "word": token.word,
        "start": token.start,
        "end": token.end,
    }


def _words_of(tokens: Iterable[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.continues:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _entity_of_word(
    word: list[Token], labels: Sequence[str], strategy: str, join: Callable[[list[str]], str]
) -> Entity:
    """One label for all tokens of a word."""
    if strategy == "first":
        scores = word[0].scores
    elif strategy == "max":
        scores = max((token.scores for token in word), key=np.max)
    else:
        scores = np.mean([token.scores for token in word], axis=0)
    best = int(scores.argmax())
    return {
        "entity": labels[best],
        "score": float(scores[best]),
        "word": join([token.word for token in word]),
        "start": word[0].start,
        "end": word[-1].end,
    }


def _groups_of(found: Iterable[Entity]) -> list[list[Entity]]:
    """Neighbours of one kind; a label that begins with "B-" begins a group."""
    groups: list[list[Entity]] = []
    for entity in found:
        begins, kind = _parsed(entity["entity"])
        if groups and not begins and kind == _parsed(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _parsed(label: str) -> tuple[bool, str]:
    """("B-PER" begins an entity?, "PER"); a label without a prefix goes on."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _joined(group: list[Entity], join: Callable[[list[str]], str]) -> Entity:
    return {
        "entity_group": group[0]["entity"].split("-", 1)[-1],
        "score": float(np.mean([entity["score"] for entity in group], dtype=np.float32)),
        "word": join([entity["word"] for entity in group]),
        "start": group[0]["start"],
        "end": group[-1]["end"],
    }
