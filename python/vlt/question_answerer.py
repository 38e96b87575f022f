"""Answers found in texts: what transformers' question-answering pipeline does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import outputs, spans
from .arguments import checked
from .blocks import prefetch
from .errors import InvalidArgumentError, UnsupportedError
from .sentences import require_texts
from .text_encoder import TextEncoder
from .tokenizer import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Answer = dict[str, Any]

USUAL_WINDOW = 384  # tokens of a question and a part of its context
USUAL_OVERLAP = 128


class QuestionAnswerer(TextEncoder):
    """Finds the words of a text that answer a question.

    Texts of any length are read in overlapping windows. See `vlt.text_encoder.TextEncoder` for the
    parameters, the errors and the attributes.

    Raises
    ------
    UnsupportedError
        The weights file has no token head of two outputs, for an answer's beginning and end.

    Examples
    --------
    >>> answerer = vlt.QuestionAnswerer("squad.bin")
    >>> answerer.answer("Where do I live?", "My name is Ada and I live in London")
    {'score': 0.98, 'start': 29, 'end': 35, 'answer': 'London'}
    """

    def __init__(
        self,
        path: Source,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        disable_graphs: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__(
            path, device, dtype, num_threads, workspace_limit, disable_graphs, max_length
        )
        self._window: tuple[tuple[int, int], TextTokenizer] | None = None
        outputs.require(self._info, "token_logits", "QuestionAnswerer")
        if self._info["num_token_labels"] != 2:
            raise UnsupportedError(
                "QuestionAnswerer needs a token head of 2 outputs, an answer's beginning and end, "
                f"and this one has {self._info['num_token_labels']}"
            )

    def answer(
        self,
        question: str | Sequence[str],
        context: str | Sequence[str],
        top_k: int = 1,
        max_answer_len: int = 15,
        doc_stride: int | None = None,
        handle_impossible_answer: bool = False,
        max_seq_len: int | None = None,
    ) -> Any:
        """Answer questions, each from its own context.

        Parameters
        ----------
        question, context : str, or lists of as many str
        top_k : int
            Answers to give at most.
        max_answer_len : int
            Tokens of the longest answer.
        doc_stride : int, optional
            Tokens that windows overlap by; 128 if left out, or half a window where that is less.
        handle_impossible_answer : bool
            May "" be among the answers, with the score of there being none?
        max_seq_len : int, optional
            Tokens of a window, question and special ones included; 384 if left out, or
            `max_seq_length` where that is less.

        Returns
        -------
        dict, or list of dict for `top_k` above 1; a list of either for lists of questions
            "score", "start" and "end" (characters of the context), "answer". Answers that differ
            in case or place alone are one, with their scores added up. The best first. Where no
            word can be an answer there is one answer, "".

        Raises
        ------
        TypeError, InvalidArgumentError
            Something that is no text, an empty question or context, lists of different lengths, a
            window without room for new tokens beside the question.
        UnsupportedError
            The weights file has no tokenizer.
        """
        checked("top_k", top_k, 1)
        checked("max_answer_len", max_answer_len, 1)
        pairs, single = questions_of(question, context)
        tokenizer = self._window_tokenizer(max_seq_len, doc_stride)
        results: list[Any] = []
        for (_, text), encodings, logits in self._windows(pairs, tokenizer):
            found: list[Answer] = []
            no_answer = 1.0
            for encoding, rows in zip(encodings, logits, strict=True):
                null = bool(encoding.special_tokens_mask[0])
                allowed = np.array([index == 1 for index in encoding.sequence_ids])
                # some become one answer, so that more are needed
                best, none = spans.best_spans(rows, allowed, null, 2 * top_k + 10, max_answer_len)
                no_answer = min(no_answer, none)
                for span in best:
                    add_answer(found, text, *spans.characters_of(encoding, span), span.score)
            if handle_impossible_answer or not found:
                found.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
            found.sort(key=lambda answer: answer["score"], reverse=True)
            results.append(found[0] if top_k == 1 else found[:top_k])
        return results[0] if single else results

    def _window_tokenizer(self, max_seq_len: int | None, doc_stride: int | None) -> TextTokenizer:
        most = self.max_seq_length
        window = min(most, USUAL_WINDOW)
        if max_seq_len is not None:
            window = checked("max_seq_len", max_seq_len, 1, self.max_length)
        overlap = min(window // 2, USUAL_OVERLAP)
        if doc_stride is not None:
            overlap = checked("doc_stride", doc_stride, 0, window)
        cached = self._window
        if cached is None or cached[0] != (window, overlap):
            tokenizer = TextTokenizer(
                self._tokenizer_json(),
                window,
                self._text.lower_case,
                "only_second",
                overlap,
                has_types=self._info["num_token_types"] > 0,
            )
            cached = self._window = (window, overlap), tokenizer
        return cached[1]

    def _windows(
        self, pairs: list[tuple[str, str]], tokenizer: TextTokenizer
    ) -> Iterator[tuple[tuple[str, str], list[Any], list[Float32Array]]]:
        """Each pair with the encodings of its windows, and their logits, [L, 2] each."""

        def tokenize(block: slice) -> Any:
            windows = [tokenizer.windows(*pair) for pair in pairs[block]]
            encodings = [encoding for each in windows for encoding in each]
            return block, windows, *tokenizer.packed(encodings, pairs[block])

        for block, windows, ids, types in prefetch(tokenize, self._text_blocks(pairs)):
            logits = self._compute(ids, "token_logits", types)
            rows = iter(np.split(logits, ids.starts[1:-1]))
            for pair, encodings in zip(pairs[block], windows, strict=True):
                yield pair, encodings, [next(rows) for _ in encodings]


def questions_of(question: Any, context: Any) -> tuple[list[tuple[str, str]], bool]:
    """(question, context) pairs, checked, and whether it was a single one."""
    single = isinstance(question, str) and isinstance(context, str)
    if single:
        question, context = [question], [context]
    if isinstance(question, str) or isinstance(context, str):
        raise TypeError("question and context must both be str, or both lists of str")
    pairs = list(zip(question, context, strict=False))
    if not len(pairs) == len(question) == len(context):
        raise InvalidArgumentError(
            f"each question needs a context: there are {len(question)} and {len(context)}"
        )
    require_texts(pairs)
    for index, pair in enumerate(pairs):
        if not all(pair):
            raise InvalidArgumentError(f"question and context {index} must not be empty")
    return pairs, single


def add_answer(found: list[Answer], text: str, start: int, end: int, score: float) -> None:
    """Add an answer, or its score to that of an equal one."""
    answer = text[start:end]
    for other in found:
        if other["answer"].lower() == answer.lower():
            other["score"] += score
            return
    found.append({"score": score, "start": start, "end": end, "answer": answer})
