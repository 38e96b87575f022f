"""Scores of beginnings and ends of answers -> spans of a text, by transformers' rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from . import scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    BoolArray = NDArray[np.bool_]

# The logit of a token that cannot be in an answer: none of its probability is left.
IMPOSSIBLE = np.float32(-10000.0)


class Span(NamedTuple):
    """Tokens from `start` to `end`, inclusive."""

    start: int
    end: int
    score: float


def best_spans(
    logits: Float32Array, allowed: BoolArray, null: bool, count: int, longest: int
) -> tuple[list[Span], float]:
    """The most likely answers of one window.

    Parameters
    ----------
    logits : [L, 2] float32
        How each token does as an answer's beginning and as its end.
    allowed : [L] bool
        Which tokens can be in an answer.
    null : bool
        Is the first token what the model points to where there is no answer?
    count : int
        Spans to give at most, best first.
    longest : int
        Tokens of the longest answer.

    Returns
    -------
    list of Span
        The score is the product of the two probabilities.
    float
        The score of no answer.
    """
    counted = allowed.copy()
    counted[0] = null
    shares = scores.softmax(np.where(counted, logits.T, IMPOSSIBLE))  # [2, L]
    no_answer = float(shares[0, 0] * shares[1, 0])
    possible = allowed.copy()
    possible[0] = False
    width = min(longest, len(logits))
    # [L, W]: row i, column k is the span from token i to token i + k.
    ends = sliding_window_view(np.pad(shares[1], (0, width - 1)), width)
    fits = possible[:, None] & sliding_window_view(np.pad(possible, (0, width - 1)), width)
    products = np.where(fits, shares[0][:, None] * ends, -1).ravel()
    best = [place for place in scores.largest(products, count).tolist() if products[place] >= 0]
    return [
        Span(place // width, place // width + place % width, float(products[place]))
        for place in best
    ], no_answer


def characters_of(encoding: Any, span: Span) -> tuple[int, int]:
    """Where a span begins and ends in the second text of a pair, widened to whole words."""
    first, last = (encoding.token_to_word(token) for token in span[:2])
    begin = None if first is None else encoding.word_to_chars(first, 1)
    end = None if last is None else encoding.word_to_chars(last, 1)
    if begin is None or end is None:  # not every tokenizer knows words
        return encoding.offsets[span.start][0], encoding.offsets[span.end][1]
    return begin[0], end[1]
