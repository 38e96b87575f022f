"""Reads safetensors files: 8 bytes of header length, a JSON header, tensors end to end."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import dtypes

MAX_HEADER_BYTES = 100 * 1024 * 1024
LENGTH_BYTES = 8


class SafetensorsError(ValueError):
    """A file that is not valid safetensors, or tensors that cannot be written as such."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as a file stores it.

    Attributes
    ----------
    dtype : str
        The name safetensors gives the format: ``"F32"``, ``"F16"``, ``"BF16"``, ``"I64"``, ...
    array : ndarray
        The stored numbers, of numpy type ``dtypes.STORAGE[dtype]``; a bfloat16 is its 16 bits.
        A tensor of a file is a read-only view of the mapped file: its pages are read when used.
    """

    dtype: str
    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def to_float32(self) -> NDArray[np.float32]:
        """The values as float32, for ``F32``, ``F16`` and ``BF16``; otherwise a `ValueError`."""
        return dtypes.to_float32(self.array, self.dtype)


class SafetensorsFile(Mapping[str, Tensor]):
    """A safetensors file, mapped into memory: name -> `Tensor`.

    Every offset is checked before anything is mapped. The mapping lives as long as this object or
    any tensor taken from it.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    path : pathlib.Path
    metadata : dict of str to str
        The header's ``__metadata__``; empty where there is none.

    Raises
    ------
    SafetensorsError
        If the file breaks a rule of the format; the message names the file, tensor and value.
    OSError
        If the file cannot be opened or read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                header, data_start, data_bytes = _read_header(file)
                self.metadata = _check_metadata(header.pop("__metadata__", {}))
                self._entries = {name: _parse_entry(name, entry) for name, entry in header.items()}
                _check_layout(self._entries, data_bytes)
                self._data: NDArray[np.uint8] = np.memmap(file, np.uint8, mode="r")[data_start:]
        except SafetensorsError as error:
            raise SafetensorsError(
                f"{self.path} is not a valid safetensors file: {error}"
            ) from None

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        raw = self._data[entry.begin : entry.end]
        array = np.asarray(raw).view(dtypes.STORAGE[entry.dtype]).reshape(entry.shape)
        return Tensor(entry.dtype, array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the data section
    end: int


def _read_header(file: BinaryIO) -> tuple[dict[str, Any], int, int]:
    """The parsed header, where the data section starts, and how many bytes it has."""
    file_bytes = os.fstat(file.fileno()).st_size
    if file_bytes < LENGTH_BYTES:
        raise SafetensorsError(
            f"it has {file_bytes} bytes, fewer than the {LENGTH_BYTES} of the header's length"
        )
    header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise SafetensorsError(
            f"the header's length is {header_bytes} bytes; at most {MAX_HEADER_BYTES} are allowed"
        )
    data_start = LENGTH_BYTES + header_bytes
    if data_start > file_bytes:
        raise SafetensorsError(
            f"the file is cut short: its header ends at byte {data_start}, the file at {file_bytes}"
        )
    return _parse_json(file.read(header_bytes)), data_start, file_bytes - data_start


def _parse_json(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_keys)
    except SafetensorsError:
        raise
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"the header is not JSON in UTF-8: {error}") from None
    if not isinstance(header, dict):
        raise SafetensorsError(f"the header is a JSON {type(header).__name__}, not an object")
    return header


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise SafetensorsError(f"the header names the key {key!r} twice")
        result[key] = value
    return result


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise SafetensorsError("__metadata__ must be an object whose values are all strings")
    return metadata


def _parse_entry(name: str, entry: Any) -> _Entry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"tensor {name!r} must have dtype, shape and data_offsets, only")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes.STORAGE:
        raise SafetensorsError(
            f"tensor {name!r} has dtype {dtype!r}; known are {', '.join(dtypes.STORAGE)}"
        )
    if not _are_sizes(shape):
        raise SafetensorsError(f"tensor {name!r} has shape {shape!r}, not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise SafetensorsError(f"tensor {name!r} has data_offsets {offsets!r}, not [begin, end]")
    begin, end = offsets
    expected = math.prod(shape) * dtypes.STORAGE[dtype].itemsize
    if end - begin != expected:
        raise SafetensorsError(
            f"tensor {name!r} of shape {shape} and dtype {dtype} needs {expected} bytes, "
            f"its data_offsets {offsets} hold {end - begin}"
        )
    return _Entry(dtype, tuple(shape), begin, end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_layout(entries: Mapping[str, _Entry], data_bytes: int) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            kind = "overlaps the one before it" if entry.begin < position else "follows a gap"
            raise SafetensorsError(
                f"tensor {name!r} {kind}: it starts at byte {entry.begin} of the data, "
                f"not at {position}"
            )
        position = entry.end
    if position != data_bytes:
        state = "the file is cut short" if position > data_bytes else "bytes follow the last tensor"
        raise SafetensorsError(
            f"{state}: the tensors need {position} bytes of data, the file has {data_bytes}"
        )
