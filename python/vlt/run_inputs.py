"""What goes with token ids into a run, checked against them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidArgumentError
from .packing import PackedIds, pack

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Int32Array = NDArray[np.int32]


def types_array(
    ids: PackedIds, types: Any, lengths: ArrayLike | None, mask: ArrayLike | None
) -> Int32Array:
    """[T] token types in the same form as the ids."""
    try:
        packed = types if isinstance(types, PackedIds) else pack(types, lengths, mask)
    except (TypeError, InvalidArgumentError) as error:
        raise type(error)(f"token_types: {error}") from None
    if len(packed) != len(ids):
        raise InvalidArgumentError(f"token_types holds {len(packed)} sequences, but ids {len(ids)}")
    uneven = np.flatnonzero(packed.lengths != ids.lengths)
    if uneven.size:
        index = uneven[0]
        raise InvalidArgumentError(
            f"sequence {index} has {ids.lengths[index]} ids, but {packed.lengths[index]} "
            "token_types"
        )
    return packed.values


def pooling_array(ids: PackedIds, pooling_starts: ArrayLike) -> Int32Array:
    """[S] int32 counts of tokens to leave out of pooling."""
    starts = np.asarray(pooling_starts)
    if starts.shape != (len(ids),) or (starts.size and starts.dtype.kind not in "iu"):
        raise InvalidArgumentError(
            f"pooling_starts must be {len(ids)} integers, one a sequence, not an array of "
            f"{starts.dtype} of shape {starts.shape}"
        )
    wrong = np.flatnonzero((starts < 0) | (starts > ids.lengths))
    if wrong.size:
        index = wrong[0]
        raise InvalidArgumentError(
            f"pooling_starts must be within the sequence, 0 ... {ids.lengths[index]} for sequence "
            f"{index}, not {starts[index]}"
        )
    return starts.astype(np.int32)


def chosen_array(num_tokens: int, chosen: ArrayLike | None, output: str) -> Int32Array | None:
    """[C] int32 places among the packed tokens, which only "vocabulary" takes and needs."""
    if (chosen is None) == (output == "vocabulary"):
        raise InvalidArgumentError(
            "chosen says which packed tokens output 'vocabulary' is computed for: give it with "
            f"that output and with no other, not with {output!r}"
            if chosen is not None
            else "output 'vocabulary' needs chosen: the places of tokens among the packed ones"
        )
    if chosen is None:
        return None
    places = np.asarray(chosen)
    if places.ndim != 1 or (places.size and places.dtype.kind not in "iu"):
        raise InvalidArgumentError(
            f"chosen must be a list of integers, not an array of {places.dtype} of shape "
            f"{places.shape}"
        )
    wrong = np.flatnonzero((places < 0) | (places >= num_tokens))
    if wrong.size:
        raise InvalidArgumentError(
            f"chosen must be places among the {num_tokens} packed tokens, 0 ... {num_tokens - 1}, "
            f"not {places[wrong[0]]}"
        )
    falling = np.flatnonzero(np.diff(places.astype(np.int64)) <= 0)
    if falling.size:
        index = falling[0]
        raise InvalidArgumentError(
            f"chosen must ascend, but {places[index + 1]} follows {places[index]}"
        )
    return places.astype(np.int32)
