"""Values from callers, checked before they reach the library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import _native
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

# CUDA's number for the stream that calls without one use; 0 would mean "no stream" to the library.
LEGACY_STREAM = 1


def parse_device(device: str) -> tuple[int, int]:
    """(type, index) of "auto", "cpu", "cuda" or "cuda:1"."""
    name, colon, index = str(device).partition(":")
    if name not in _native.DEVICES or (colon and not index.isdecimal()):
        raise InvalidArgumentError(
            f'device must be "auto", "cpu", "cuda" or "cuda:" and an index, not {device!r}'
        )
    number = checked("the device's index", int(index), 0) if colon else 0
    return _native.DEVICES[name], number


def parse_stream(stream: Any) -> int | None:
    """The handle of a CUDA stream: an integer, or what PyTorch and CuPy wrap one in."""
    if stream is None:
        return None
    if type(stream) is not int:
        for attribute in ("cuda_stream", "ptr"):
            stream = getattr(stream, attribute, stream)
        if isinstance(stream, bool) or not hasattr(stream, "__index__"):
            raise TypeError(
                "stream must be a cudaStream_t as an integer, or an object with .cuda_stream "
                f"(PyTorch) or .ptr (CuPy), not {stream!r}"
            )
    return checked("stream", stream, 0, _native.INT64_MAX) or LEGACY_STREAM


def lookup(what: str, name: str, names: Mapping[str, int] = _native.DTYPES) -> int:
    """The number of a name, or an error that lists the names."""
    if name not in names:
        raise InvalidArgumentError(f"{what} must be {', '.join(map(repr, names))}, not {name!r}")
    return names[name]


def checked(name: str, value: int, low: int, high: int = _native.INT32_MAX) -> int:
    """`value` as an int within bounds: ctypes would drop the bits that do not fit."""
    number = value
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer, not {value!r}")
        number = value.__index__()
    if not low <= number <= high:
        raise InvalidArgumentError(f"{name} must be {low} ... {high}, not {number}")
    return number


def batch_bound(num_tokens: int, num_sequences: int, max_length: int) -> tuple[int, int, int]:
    """The size of the largest batch, checked."""
    return (
        checked("num_tokens", num_tokens, 0),
        checked("num_sequences", num_sequences, 0),
        checked("max_length", max_length, 0),
    )


def checked_seconds(name: str, value: float, *, positive: bool = False) -> float:
    """`value` as a finite float that is not negative, or above 0."""
    number = as_time(name, value)
    if number < 0 or (positive and number == 0):
        raise InvalidArgumentError(
            f"{name} must be {'above 0' if positive else '0 or more'} seconds, not {number}"
        )
    return number


def as_time(name: str, value: float) -> float:
    """`value` as a finite float: a point on some clock, in seconds."""
    number = float(value)
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name} must be a finite number of seconds, not {number}")
    return number
