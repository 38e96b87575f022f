"""The states of sequences of different lengths, without padding."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


class PackedArray:
    """S arrays [L_i, H] laid end to end: a sequence of arrays over one block of memory.

    `states[i]` is the [L_i, H] array of sequence i and shares its memory, as does a slice with
    step 1, which is a `PackedArray` again; a slice with another step copies.

    Attributes
    ----------
    values
        [T, H] float32: the rows of all sequences.
    offsets
        [S + 1] integers: sequence i is `values[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(self, values: Float32Array, offsets: NDArray[np.integer[Any]]) -> None:
        if offsets[-1] - offsets[0] != len(values):
            raise InvalidArgumentError(
                f"offsets span {offsets[-1] - offsets[0]} rows, but there are {len(values)}"
            )
        self.values = values
        self.offsets = offsets - offsets[0]

    @property
    def lengths(self) -> list[int]:
        """[S] rows of each sequence."""
        lengths: list[int] = np.diff(self.offsets).tolist()
        return lengths

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Float32Array]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Float32Array: ...
    @overload
    def __getitem__(self, index: slice) -> PackedArray: ...
    def __getitem__(self, index: int | slice) -> Float32Array | PackedArray:
        if isinstance(index, slice):
            return self._slice(range(*index.indices(len(self))))
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"there are {len(self)} sequences, and no sequence {at}")
        at %= len(self)
        return self.values[self.offsets[at] : self.offsets[at + 1]]

    def _slice(self, chosen: range) -> PackedArray:
        if chosen.step == 1 and len(chosen):
            offsets = self.offsets[chosen.start : chosen.stop + 1]
            return PackedArray(self.values[offsets[0] : offsets[-1]], offsets)
        parts = [self[index] for index in chosen]
        offsets = np.cumsum([0, *map(len, parts)])
        return PackedArray(np.concatenate([self.values[:0], *parts]), offsets)

    def to_padded(self, value: float = 0.0) -> tuple[Float32Array, NDArray[np.bool_]]:
        """Copy into a padded array.

        Parameters
        ----------
        value
            What fills the rows after a sequence's end.

        Returns
        -------
        array : [S, L, H] float32
            L is the longest sequence.
        mask : [S, L] bool
            Which rows are a sequence's own.
        """
        lengths = np.diff(self.offsets)
        longest = int(lengths.max(initial=0))
        mask = np.arange(longest) < lengths[:, None]
        padded = np.full((*mask.shape, *self.values.shape[1:]), value, self.values.dtype)
        padded[mask] = self.values
        return padded, mask

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(
            "a PackedArray holds sequences of different lengths; take .values (packed), "
            ".to_padded() or one sequence, such as states[0]"
        )

    def __repr__(self) -> str:
        lengths = self.lengths
        shown = ", ".join(map(str, lengths[:8])) + (", ..." if len(lengths) > 8 else "")
        return (
            f"PackedArray({len(self)} sequences, lengths [{shown}], "
            f"values {list(self.values.shape)} {self.values.dtype})"
        )
