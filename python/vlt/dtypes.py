"""Number formats of weights: how numpy stores each, and conversion through float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The safetensors name of a format -> the little-endian numpy type its bits are kept in. numpy has
# neither bfloat16 nor the 8-bit floats, so theirs are unsigned integers of the same width.
STORAGE: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}

WEIGHT_DTYPES = ("F32", "F16", "BF16")


def to_float32(array: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Widen weights to float32; exact for each of the three formats.

    Parameters
    ----------
    array : ndarray, any shape
        The weights as ``STORAGE[dtype]`` keeps them.
    dtype : {"F32", "F16", "BF16"}

    Returns
    -------
    ndarray, float32, the same shape
        `array` itself where it is float32 already.

    Raises
    ------
    ValueError
        If `dtype` is none of the three.
    """
    if dtype == "F32":
        return array
    if dtype == "F16":
        return array.astype(np.float32)
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        return (array.astype(np.uint32) << 16).view(np.float32)
    raise ValueError(
        f"weights of dtype {dtype} cannot be read as float32; right are F32, F16, BF16"
    )


def from_float32(array: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Round float32 weights to `dtype`, to nearest and ties to even.

    Parameters
    ----------
    array : ndarray, float32, any shape
    dtype : {"F32", "F16", "BF16"}

    Returns
    -------
    ndarray, ``STORAGE[dtype]``, the same shape
        `array` itself for float32. Infinities and NaN stay what they are.

    Raises
    ------
    OverflowError
        If a finite value becomes infinite in `dtype`; the message holds the value.
    ValueError
        If `dtype` is none of the three.
    """
    if dtype == "F32":
        return array
    if dtype == "F16":
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        _check_overflow(array, np.isinf(half), "float16, whose largest value is 65504")
        return half
    if dtype == "BF16":
        upper = _round_to_bfloat16(array)
        infinite = (upper & 0x7FFF) == 0x7F80
        _check_overflow(array, infinite, "bfloat16, whose largest value is 3.3895e38")
        return upper
    raise ValueError(f"weights cannot be stored with dtype {dtype}; right are F32, F16, BF16")


def _round_to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(array).view(np.uint32)
    # Half a unit of the last kept bit, less one where that bit is even: ties go to even.
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    # The addition could carry a NaN into another number; a NaN keeps its upper half, made quiet.
    return np.where(np.isnan(array), (bits >> 16) | 0x0040, rounded).astype(np.uint16)


def _check_overflow(array: NDArray[np.float32], infinite: NDArray[np.bool_], target: str) -> None:
    overflowed = infinite & np.isfinite(array)
    if overflowed.any():
        raise OverflowError(f"the value {array[overflowed][0]:g} does not fit {target}")
