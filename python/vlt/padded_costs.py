"""What padded batches cost, and how to divide requests into the cheapest ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _native, _native_scheduling
from .arguments import checked
from .errors import InvalidArgumentError
from .timing import time_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .token_encoder import TokenEncoder


class PaddedCosts:
    """Measured seconds of padded batches, cost[length][batch size], for engines that pad.

    Between the measured ones costs are linear; below the smallest they are that of the smallest;
    above the largest they are unknown, and asking is an error.

    Parameters
    ----------
    lengths : [R] integers, ascending
    batch_sizes : [C] integers, ascending
    seconds : [R, C] floats
    """

    def __init__(self, lengths: ArrayLike, batch_sizes: ArrayLike, seconds: ArrayLike) -> None:
        self.lengths = as_int32("lengths", lengths)
        self.batch_sizes = as_int32("batch_sizes", batch_sizes)
        self.seconds: NDArray[np.float64] = np.array(seconds, np.float64, order="C")
        shape = len(self.lengths), len(self.batch_sizes)
        if self.seconds.shape != shape:
            raise InvalidArgumentError(
                f"seconds must have a row for each length and a column for each batch size, "
                f"{shape}, not {self.seconds.shape}"
            )
        self._struct = _native_scheduling.padded_costs(self.lengths, self.batch_sizes, self.seconds)
        self.at(1, 1)  # the library looks at every value

    @classmethod
    def measure(
        cls,
        encoder: TokenEncoder,
        lengths: Sequence[int],
        batch_sizes: Sequence[int],
        seconds: float,
    ) -> Self:
        """Time batches of equal lengths, which is what padding makes of every batch.

        `seconds` bounds the time, but every shape is timed once at least, after a first run.
        """
        shapes = [(size, length) for length in lengths for size in batch_sizes]
        times = time_batches(encoder, shapes, seconds, fewest=len(shapes))
        return cls(lengths, batch_sizes, np.reshape(times, (len(lengths), len(batch_sizes))))

    def at(self, length: int, batch_size: int) -> float:
        """Seconds of `batch_size` requests padded to `length`."""
        return _native_scheduling.padded_seconds(
            self._struct, checked("length", length, 1), checked("batch_size", batch_size, 1)
        )

    def plan(self, lengths: ArrayLike, max_requests: int | None = None) -> list[list[int]]:
        """Divide requests, sorted by length, into the padded batches of the least total cost.

        This is the dynamic programme of TurboTransformers (PPoPP 2021, algorithm 3): exact among
        all divisions of the sorted requests, in time N·max_requests.

        Parameters
        ----------
        lengths : [N] integers
            Tokens of each request.
        max_requests : int, optional
            Of a batch; the largest measured batch size if left out.

        Returns
        -------
        list of lists
            Positions in `lengths`, batch by batch, the shortest first.
        """
        if max_requests is None:
            max_requests = int(self.batch_sizes[-1])
        most = checked("max_requests", max_requests, 1)
        order, ends = _native_scheduling.plan_padded(
            self._struct, as_int32("lengths", lengths), most
        )
        return [part.tolist() for part in np.split(order, ends[:-1])] if len(ends) else []


def as_int32(name: str, values: ArrayLike) -> NDArray[np.int32]:
    """A new contiguous [N] array; refuses what is no integer or does not fit."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise InvalidArgumentError(f"{name} must be a flat list of integers, not {given.ndim}-d")
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise TypeError(f"{name} must be integers, not {given.dtype}")
    if given.size and (given.min() < 1 or given.max() > _native.INT32_MAX):
        wrong = int(given.min()) if given.min() < 1 else int(given.max())
        raise InvalidArgumentError(f"{name} must be 1 ... {_native.INT32_MAX}, not {wrong}")
    return given.astype(np.int32)
