"""What was handed to the engine in one call: sequences, their results, and when they came."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vlt.packing import PackedIds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from vlt.outputs import OutputName

    Int32Array = NDArray[np.int32]


@dataclass(frozen=True)
class Inputs:
    """Sequences that are ready to run.

    Attributes
    ----------
    ids
        Their token ids.
    types : [T] int32 or None
        Their tokens' types; None: all zero.
    skipped : int
        Tokens at the head of every sequence that pooling leaves out.
    """

    ids: PackedIds
    types: Int32Array | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        lengths: list[int] = self.ids.lengths.tolist()
        return lengths

    def only(self, chosen: Sequence[int]) -> Inputs:
        """Some of the sequences."""
        return concatenate([(self, index) for index in chosen])

    def key(self, index: int) -> bytes:
        """The same for two sequences only if their results are."""
        begin, end = self.ids.starts[index], self.ids.starts[index + 1]
        types = b"" if self.types is None else self.types[begin:end].tobytes()
        return b"%d,%d:" % (self.skipped, len(types)) + types + self.ids.values[begin:end].tobytes()


def concatenate(parts: Sequence[tuple[Inputs, int]]) -> Inputs:
    """Single sequences of several inputs as one; the tokens to skip are the first one's."""
    slices = [
        slice(int(of.ids.starts[index]), int(of.ids.starts[index + 1])) for of, index in parts
    ]
    starts = np.zeros(len(parts) + 1, np.int32)
    np.cumsum([part.stop - part.start for part in slices], out=starts[1:])
    values = [of.ids.values[part] for (of, _), part in zip(parts, slices, strict=True)]
    types = None
    if any(of.types is not None for of, _ in parts):
        types = np.zeros(starts[-1], np.int32)
        for (of, _), part, begin, end in zip(parts, slices, starts, starts[1:], strict=False):
            if of.types is not None:
                types[begin:end] = of.types[part]
    empty = np.zeros(0, np.int32)
    return Inputs(PackedIds(np.concatenate([empty, *values]), starts), types, parts[0][0].skipped)


class Ticket:
    """A call's place in the engine.

    Attributes
    ----------
    rows : list
        A result for each sequence, once `done` is called.
    error : Exception or None
        Why there are none.
    submitted : float
        When it came.
    queue_seconds, run_seconds : float
        What its slowest sequence waited, and the longest of the batches that it was run in.
    """

    __slots__ = (
        "_done",
        "_left",
        "error",
        "inputs",
        "numbers",
        "output",
        "queue_seconds",
        "rows",
        "run_seconds",
        "submitted",
    )

    def __init__(
        self, inputs: Inputs, output: OutputName, done: Callable[[Ticket], None] | None
    ) -> None:
        self.inputs = inputs
        self.output = output
        self.numbers = range(0)  # of its sequences in the engine
        self.rows: list[Any] = [None] * len(inputs)
        self.error: Exception | None = None
        self.submitted = time.monotonic()
        self.queue_seconds = 0.0
        self.run_seconds = 0.0
        self._left = len(inputs)
        self._done = done

    def settle(self, index: int, row: Any) -> None:
        """A sequence's result; the last one calls `done`, once."""
        self.rows[index] = row
        self._left -= 1
        if self._left == 0:
            self._finish()

    def fail(self, error: Exception) -> None:
        """It gets no results, whatever else is run of it."""
        self.error = error
        self._finish()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._done = None

    @property
    def wanted(self) -> bool:
        """Does somebody still wait?"""
        return self._done is not None

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self)


class Place(NamedTuple):
    """One sequence of a ticket."""

    ticket: Ticket
    position: int
