"""Words for gaps in texts: what transformers' fill-mask pipeline does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from . import outputs, scores
from .arguments import checked
from .blocks import MOST_NUMBERS, parts_of
from .errors import InvalidArgumentError, UnsupportedError
from .progress import ProgressBar
from .sentences import list_of
from .text_encoder import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .packing import PackedIds
    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Int32Array = NDArray[np.int32]

logger = logging.getLogger("vlt")


class FillMask(TextEncoder):
    """Says which words fit the gaps of a text, which are written as the mask token, "[MASK]".

    Only the gaps are computed to the end. Texts longer than `max_seq_length` tokens are truncated.
    See `vlt.text_encoder.TextEncoder` for the parameters, the errors and further attributes.

    Attributes
    ----------
    mask_token : str
        What stands for a gap.

    Raises
    ------
    UnsupportedError
        The weights file has no vocabulary head, or does not say which token the mask is.

    Examples
    --------
    >>> filler = vlt.FillMask("bert-base-uncased/")
    >>> filler.fill("Paris is the [MASK] of France.", top_k=1)
    [{'score': 0.997, 'token': 3007, 'token_str': 'capital',
      'sequence': 'paris is the capital of france.'}]
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
        outputs.require(self._info, "vocabulary", "FillMask")
        if "mask_token" not in self._model.metadata:
            raise UnsupportedError(
                "this weights file does not say which token stands for a gap: its metadata has no "
                "mask_token; converting a folder whose tokenizer has one puts it in"
            )
        self._mask = int(self._model.metadata["mask_token"])

    @property
    def mask_token(self) -> str:
        return self._text_tokenizer().token(self._mask)

    def fill(
        self,
        texts: str | Sequence[str] | NDArray[Any],
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        show_progress_bar: bool | None = None,
    ) -> list[Any]:
        """Words for the gaps of texts.

        Parameters
        ----------
        texts : str, or list or array of str
            Each with one mask token or more.
        top_k : int
            Words for each gap, best first.
        targets : str or list of str, optional
            Choose among these words only; their scores stay shares among all words. One that is
            no token of the vocabulary counts as its first token, and a warning says so.
        show_progress_bar : bool, optional
            If left out: only on a terminal, and only for work of more than a second.

        Returns
        -------
        list of dict for a str, list of lists for a list
            "score" (the word's share), "token" (its id), "token_str", and "sequence" (the text
            with the gap filled). For a text of several gaps a list of such lists, one a gap, each
            with the other gaps left open.

        Raises
        ------
        TypeError, InvalidArgumentError
            Something that is no text, a text without a gap, targets that are no words.
        UnsupportedError
            The weights file has no tokenizer.
        """
        checked("top_k", top_k, 1)
        items, single = list_of(texts)
        chosen = None if targets is None else self._target_ids(targets)
        results: list[Any] = []
        with ProgressBar(len(items), "texts", show_progress_bar) as bar:
            for block, ids, types in self._blocks(items, "", bar):
                for sequence, places, shares in self._gaps(ids, types, block.start):
                    rows = [
                        self._words(sequence, place, row, top_k, chosen, len(places) == 1)
                        for place, row in zip(places, shares, strict=True)
                    ]
                    results.append(rows[0] if len(rows) == 1 else rows)
        return results[0] if single else results

    def _gaps(
        self, ids: PackedIds, types: Int32Array | None, first: int
    ) -> Iterator[tuple[Int32Array, list[int], Float32Array]]:
        """The ids of each sequence, places of its G gaps, and each word's share, [G, V]."""
        gaps = np.flatnonzero(ids.values == self._mask)
        bounds = np.searchsorted(gaps, ids.starts)
        counts = np.diff(bounds)
        if (counts == 0).any():
            raise InvalidArgumentError(
                f"text {first + int(np.argmin(counts))} has no {self.mask_token!r} among its first "
                f"{self.max_seq_length} tokens, so there is nothing to fill"
            )
        weights = (counts * int(self._info["vocabulary_outputs"])).tolist()
        for block, part, part_types in parts_of(ids, types, weights, MOST_NUMBERS):
            places = np.flatnonzero(part.values == self._mask).astype(np.int32)
            logits = self._compute(part, "vocabulary", part_types, chosen=places)
            shares = np.split(scores.softmax(logits), np.cumsum(counts[block])[:-1])
            for index, rows in enumerate(shares):
                sequence = part.values[part.starts[index] : part.starts[index + 1]]
                yield sequence, np.flatnonzero(sequence == self._mask).tolist(), rows

    def _words(
        self,
        sequence: Int32Array,
        place: int,
        shares: Float32Array,
        top_k: int,
        chosen: Int32Array | None,
        alone: bool,
    ) -> list[dict[str, Any]]:
        """The best words for one gap, given each word's share, [V]."""
        tokenizer = self._text_tokenizer()
        candidates = shares if chosen is None else shares[chosen]
        words = []
        for index in scores.largest(candidates, top_k).tolist():
            token = index if chosen is None else int(chosen[index])
            filled = sequence.copy()
            filled[place] = token
            words.append(
                {
                    "score": float(candidates[index]),
                    "token": token,
                    "token_str": tokenizer.decode([token]),
                    # other gaps are special tokens, which must not vanish
                    "sequence": tokenizer.decode(filled.tolist(), skip_special=alone),
                }
            )
        return words

    def _target_ids(self, targets: str | Sequence[str]) -> Int32Array:
        """Ids of the words to choose among, each once."""
        tokenizer = self._text_tokenizer()
        ids: dict[int, None] = {}  # a set in order
        for target in [targets] if isinstance(targets, str) else targets:
            index = tokenizer.find(target)
            if index is None:
                tokens = tokenizer.plain_ids(target)
                if not tokens:
                    logger.warning("the target %r is no word; it is left out", target)
                    continue
                index = tokens[0]
                logger.warning(
                    "the target %r is no token of the vocabulary; %r takes its place",
                    target,
                    tokenizer.token(index),
                )
            ids[index] = None
        if not ids:
            raise InvalidArgumentError(f"targets must name at least one word, not {targets!r:.60}")
        return np.array(list(ids), np.int32)
