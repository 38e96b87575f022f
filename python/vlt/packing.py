"""Token ids in whatever form callers hold them -> packed arrays, and packed states back."""

from __future__ import annotations

from array import array as numbers
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Int32Array = NDArray[np.int32]

INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, eq=False)
class PackedIds:
    """S sequences of token ids laid end to end.

    Attributes
    ----------
    values
        [T] int32: the ids of all sequences.
    starts
        [S + 1] int32: sequence i is `values[starts[i]:starts[i + 1]]`.
    """

    values: Int32Array
    starts: Int32Array

    def __post_init__(self) -> None:
        # The library reads both through bare pointers.
        for name in ("values", "starts"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
                raise TypeError(f"PackedIds.{name} must be a 1-D int32 array, not {array!r:.80}")
            if not array.flags.c_contiguous:
                object.__setattr__(self, name, np.ascontiguousarray(array))
        if len(self.starts) == 0:
            raise InvalidArgumentError("PackedIds.starts must hold S + 1 entries, so at least one")

    @property
    def lengths(self) -> Int32Array:
        """[S] int32: tokens of each sequence."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


def pack(ids: Any, lengths: ArrayLike | None = None, mask: ArrayLike | None = None) -> PackedIds:
    """Lay token ids end to end.

    Parameters
    ----------
    ids
        One of

        - a list of sequences, each a list or a 1-D array of integers;
        - one sequence: a list or a 1-D array of integers;
        - packed ids: the same, with `lengths`;
        - a padded batch [S, L]: a 2-D array or equally long lists, with `mask` or with `lengths`
          (the first tokens of each row count); a 2-D array with neither counts in full.

        An empty list or array holds no sequences.
    lengths
        [S] integers: tokens of each sequence.
    mask
        [S, L] of 0 and 1 (or bool): which tokens of a padded batch count. Padding may stand on
        either side, but not between tokens: the tokens' positions would be ambiguous.

    Returns
    -------
    PackedIds
        int32 arrays of the ids and of the sequences' starts.

    Raises
    ------
    TypeError
        `ids` nests otherwise, or holds something that is not an integer; bool counts as such.
    InvalidArgumentError
        An id does not fit int32, or `lengths` or `mask` do not fit `ids`.
    """
    if lengths is not None and mask is not None:
        raise InvalidArgumentError("give lengths or mask, not both: each says which tokens count")
    nested = _is_nested(ids)
    if nested and lengths is None and mask is None:
        return _pack_sequences(ids)
    array = _rectangle(_pack_sequences(ids)) if nested else _integers(ids, "ids")
    if array.ndim not in (1, 2):
        raise TypeError(f"an array of ids must have 1 or 2 dimensions, not shape {array.shape}")
    if mask is not None:
        return _pack_masked(array, np.asarray(mask))
    if lengths is not None:
        return _pack_lengths(array, _integers(np.asarray(lengths), "lengths").astype(np.int64))
    if array.ndim == 1:
        return _packed(array, np.array([array.size] if array.size else [], np.int64))
    return _packed(array.reshape(-1), np.full(len(array), array.shape[1], np.int64))


def _is_nested(ids: Any) -> bool:
    """Is it a list of sequences? Otherwise it is an array or a list of integers."""
    if hasattr(ids, "__array__"):
        return False
    if not _is_list(ids):
        raise TypeError(f"ids must be lists or arrays of token ids, not {_shown(ids)}")
    return len(ids) > 0 and hasattr(ids[0], "__len__")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _pack_sequences(sequences: Sequence[Any]) -> PackedIds:
    """[S] lists or arrays of any lengths."""
    if all(type(sequence) in (list, tuple) for sequence in sequences):
        values = _from_lists(sequences)
        _check_size(values)
        return PackedIds(values, _int32s(accumulate(map(len, sequences), initial=0)))
    parts = [_sequence(sequence, index) for index, sequence in enumerate(sequences)]
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    return _packed(np.concatenate(parts), lengths)


def _sequence(sequence: Any, index: int) -> NDArray[Any]:
    """One sequence as an array; `index` is for the errors."""
    if _is_list(sequence):
        return _from_lists([sequence], index)
    if hasattr(sequence, "__array__"):
        array = _integers(sequence, f"sequence {index}")
        if array.dtype == np.uint64:  # numpy would join it with int64 to float64
            array = _packed(array, np.array([array.size]), index).values
        if array.ndim == 1:
            return array
    raise TypeError(
        "each sequence must be a list or a 1-D array of token ids; "
        f"sequence {index} is {_shown(sequence)}"
    )


def _from_lists(sequences: Sequence[Sequence[Any]], first: int = 0) -> Int32Array:
    """All ids of lists of Python integers; the first list is sequence `first`."""
    _check_types(sequences, first)
    # Not by numpy: whether it notices what does not fit depends on its version.
    ids = numbers("i")
    try:
        for sequence in sequences:
            ids.fromlist(sequence if isinstance(sequence, list) else list(sequence))
    except OverflowError:
        _check_int32s(sequences, first)
        raise
    return np.asarray(ids)


def _int32s(values: Iterable[int]) -> Int32Array:
    return np.asarray(numbers("i", values))


def _check_types(sequences: Sequence[Sequence[Any]], first: int = 0) -> None:
    kinds = set(map(type, chain.from_iterable(sequences)))
    wrong = tuple(kind for kind in kinds if not _is_integer_type(kind))
    if wrong:
        raise TypeError(f"token ids must be integers; {_locate(sequences, first, wrong)}")


def _is_integer_type(kind: type) -> bool:
    return issubclass(kind, (int, np.integer)) and kind is not bool


def _locate(sequences: Sequence[Sequence[Any]], first: int, kinds: tuple[type, ...]) -> str:
    """Where the first item of one of these types stands."""
    return next(
        f"sequence {first + index}, position {position} holds {_shown(item)}"
        for index, sequence in enumerate(sequences)
        for position, item in enumerate(sequence)
        if type(item) in kinds
    )


def _integers(values: Any, what: str) -> NDArray[Any]:
    """An integer array of a flat list or of anything that turns into an array."""
    if not hasattr(values, "__array__"):
        _check_types([values])
        try:
            return np.fromiter(values, np.int64)  # the sequence of what int32 cannot hold: later
        except OverflowError:
            _check_int32s([values])
            raise
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)  # numpy makes an empty array float64 by default
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, not an array of {array.dtype}")
    return array


def _rectangle(packed: PackedIds) -> NDArray[Any]:
    """[S, L] of equally long sequences."""
    lengths = packed.lengths
    uneven = np.flatnonzero(lengths != lengths[0])
    if uneven.size:
        row = uneven[0]
        raise InvalidArgumentError(
            "with lengths or a mask, rows of ids must be equally long (padded); "
            f"row 0 has {lengths[0]} ids and row {row} has {lengths[row]}"
        )
    return packed.values.reshape(len(packed), lengths[0])


def _pack_masked(array: NDArray[Any], mask: NDArray[Any]) -> PackedIds:
    """The tokens of a padded batch [S, L] that a mask [S, L] keeps."""
    if array.ndim != 2 or mask.shape != array.shape:
        raise InvalidArgumentError(
            f"a mask goes with ids of the same shape [S, L]; ids are {array.shape} and the mask "
            f"is {mask.shape}"
        )
    if mask.dtype.kind not in "biu":
        raise TypeError(f"the mask must be integers or bool, not {mask.dtype}")
    odd = np.argwhere((mask != 0) & (mask != 1))
    if odd.size:
        row, column = odd[0]
        raise InvalidArgumentError(
            f"the mask must hold 0 and 1 only; row {row}, column {column} holds {mask[row, column]}"
        )
    keep = mask.astype(bool)
    beginnings = keep.copy()
    beginnings[:, 1:] &= ~keep[:, :-1]
    holed = np.flatnonzero(beginnings.sum(axis=1) > 1)
    if holed.size:
        raise InvalidArgumentError(
            f"row {holed[0]} of the mask has padding between tokens, which leaves the tokens' "
            "positions open; padding must stand before or after them"
        )
    return _packed(array[keep], keep.sum(axis=1))


def _pack_lengths(array: NDArray[Any], lengths: NDArray[Any]) -> PackedIds:
    """Packed ids [T] or a padded batch [S, L], with the tokens of each sequence."""
    if lengths.ndim != 1:
        raise InvalidArgumentError(f"lengths must have one dimension, not shape {lengths.shape}")
    longest = array.size if array.ndim == 1 else array.shape[1]
    wrong = np.flatnonzero((lengths < 0) | (lengths > longest))
    if wrong.size:
        index = wrong[0]
        raise InvalidArgumentError(
            f"lengths must be 0 ... {longest}; the length of sequence {index} is {lengths[index]}"
        )
    if array.ndim == 1:
        if lengths.sum() != array.size:
            raise InvalidArgumentError(
                f"lengths must add up to the {array.size} packed ids, not to {lengths.sum()}"
            )
        return _packed(array, lengths)
    if len(lengths) != len(array):
        raise InvalidArgumentError(
            f"one length for each row of ids: {len(array)} rows, but {len(lengths)} lengths"
        )
    return _packed(array[np.arange(longest) < lengths[:, None]], lengths)


def _packed(values: NDArray[Any], lengths: NDArray[Any], first: int = 0) -> PackedIds:
    """int32 arrays of ids [T] and lengths [S], or an error naming the id that does not fit."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    _check_size(values)
    if values.dtype != np.int32 and values.size:
        for at in (values.argmin(), values.argmax()):
            index = int(np.searchsorted(starts, at, side="right")) - 1
            _check_int32(int(values[at]), first + index, int(at - starts[index]))
    return PackedIds(
        np.ascontiguousarray(values, dtype=np.int32), starts.astype(np.int32, copy=False)
    )


def _check_size(values: NDArray[Any]) -> None:
    if values.size > INT32.max:
        raise InvalidArgumentError(
            f"a batch holds at most {INT32.max} tokens, not {values.size}; run it in parts"
        )


def _check_int32(value: int, sequence: int, position: int) -> None:
    if not INT32.min <= value <= INT32.max:
        raise InvalidArgumentError(
            f"token ids must fit 32 bits; sequence {sequence}, position {position} holds {value}"
        )


def _check_int32s(sequences: Sequence[Sequence[Any]], first: int = 0) -> None:
    for index, sequence in enumerate(sequences, first):
        for position, value in enumerate(sequence):
            _check_int32(int(value), index, position)


def _shown(value: Any) -> str:
    """A value and its type, short enough for a message."""
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} of type {type(value).__name__}"
