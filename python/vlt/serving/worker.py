"""A thread that runs batches on an encoder, and goes on whatever a batch does."""

from __future__ import annotations

import logging
import threading
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from vlt.blocks import MOST_NUMBERS, parts_of
from vlt.sparse_vectors import SparseVectors

from .ticket import Inputs, Place, concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlt.outputs import OutputName
    from vlt.token_encoder import TokenEncoder

    from .engine import Engine


logger = logging.getLogger("vlt.serving")


class Worker(threading.Thread):
    """Takes batches until the engine is closed and empty. Several may share an encoder."""

    def __init__(self, engine: Engine, encoder: TokenEncoder, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._engine = engine
        self._encoder = encoder

    def run(self) -> None:
        """The thread's own loop. Only a scheduler at fault ends it, and then nobody may wait."""
        try:
            while (places := self._engine.take()) is not None:
                wanted = sorted((p for p in places if p.ticket.wanted), key=_kind)
                for _, same in groupby(wanted, key=_kind):
                    self._run(list(same))
        except Exception as error:
            logger.exception("a worker failed, so the encoder takes no more work")
            self._engine.abort(error)

    def _run(self, places: Sequence[Place]) -> None:
        """Run one batch. If it fails, run its tickets one by one: the fault may be one's alone."""
        begin = time.monotonic()
        error: Exception | None = None
        try:
            inputs = concatenate([(place.ticket.inputs, place.position) for place in places])
            rows = rows_of(self._encoder, inputs, places[0].ticket.output)
        except Exception as caught:
            error = caught
        self._engine.record(places, begin, error)
        if error is None:
            self._engine.settle(places, rows)
            return
        tickets = [list(same) for _, same in groupby(places, key=lambda place: id(place.ticket))]
        if len(tickets) == 1:
            self._engine.fail(places, error)
            return
        for one in tickets:
            self._run(one)


def _kind(place: Place) -> tuple[str, int]:
    """Sequences of one kind may run together."""
    return place.ticket.output, place.ticket.inputs.skipped


def rows_of(encoder: TokenEncoder, inputs: Inputs, output: OutputName) -> list[Any]:
    """A result for each sequence.

    Returns
    -------
    list
        [D] or [N] float32 for "embedding" and "logits", [L, H] or [L, N] for "hidden" and
        "token_logits", a `SparseVectors` of shape (V,) for "sparse".
    """
    if output == "sparse":
        return _sparse_rows(encoder, inputs)
    skipped = None
    if inputs.skipped:
        skipped = np.minimum(inputs.ids.lengths, inputs.skipped).astype(np.int32)
    result = encoder._compute(inputs.ids, output, inputs.types, skipped)
    if output in ("hidden", "token_logits"):
        return np.split(result, inputs.ids.starts[1:-1])
    return list(result)


def _sparse_rows(encoder: TokenEncoder, inputs: Inputs) -> list[SparseVectors]:
    """In parts, since there is a number for every word of the vocabulary first."""
    size = int(encoder._info["sparse_size"])
    rows: list[SparseVectors] = []
    for _, ids, types in parts_of(inputs.ids, inputs.types, [size] * len(inputs), MOST_NUMBERS):
        rows.extend(SparseVectors.from_dense(encoder._compute(ids, "sparse", types)))
    return rows
