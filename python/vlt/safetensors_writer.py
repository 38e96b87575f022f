"""Writes safetensors files, streaming tensor by tensor, each aligned to 64 bytes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .safetensors_file import LENGTH_BYTES, MAX_HEADER_BYTES, SafetensorsError, Tensor

ALIGNMENT = 64
# Weights are converted in blocks of this many elements, so that a large table is never doubled.
_BLOCK_ELEMENTS = 1 << 18


class Part(Protocol):
    """What a tensor is written from: a `Tensor`, or one that is computed when it is asked for."""

    @property
    def dtype(self) -> str:
        """As `Tensor.dtype`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As `Tensor.shape`; known without computing anything."""

    @property
    def array(self) -> NDArray[Any]:
        """As `Tensor.array`; asked for once, while the part is written."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor to be written: its parts end to end, each converted to `dtype` on the way."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * dtypes.STORAGE[self.dtype].itemsize


class SafetensorsWriter:
    """Lays tensors out and writes them one after another, a block at a time.

    Parameters
    ----------
    tensors : mapping of str to StoredTensor
        Written in the order of the mapping.
    metadata : mapping of str to str
        The header's ``__metadata__``; left out when empty.
    align_tensors : bool
        True makes every tensor start at a multiple of 64 bytes from the start of the file, with
        ``U8`` tensors named ``_pad.N`` between them. False lays them end to end.

    Attributes
    ----------
    num_bytes : int
        The size of the whole file.

    Raises
    ------
    SafetensorsError
        If a tensor's parts do not add up to its shape, a string is not valid Unicode, or the
        header would be longer than the format allows.
    """

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        metadata: Mapping[str, str],
        *,
        align_tensors: bool = True,
    ) -> None:
        for name, tensor in tensors.items():
            _check_parts(name, tensor)
        self._tensors = _with_padding(tensors) if align_tensors else dict(tensors)
        self._header = _encode_header(self._tensors, metadata)
        data_bytes = sum(tensor.num_bytes for tensor in self._tensors.values())
        self.num_bytes = len(self._header) + data_bytes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; `path` holds the whole new file or stays what it was.

        Memory: a few MiB, whatever the size of the tensors.
        """
        with _replace_when_complete(Path(path)) as file:
            for block in self._blocks():
                file.write(block)

    def to_memory(self) -> NDArray[np.uint8]:
        """The file's bytes as an array, uint8 [num_bytes]. Memory: that array and a few MiB."""
        result = np.empty(self.num_bytes, np.uint8)
        position = 0
        for block in self._blocks():
            result[position : position + len(block)] = np.frombuffer(block, np.uint8)
            position += len(block)
        return result

    def _blocks(self) -> Iterator[memoryview]:
        yield memoryview(self._header)
        for name, tensor in self._tensors.items():
            for part in tensor.parts:
                flat = part.array.reshape(-1)
                for start in range(0, flat.size, _BLOCK_ELEMENTS):
                    block = flat[start : start + _BLOCK_ELEMENTS]
                    yield _to_bytes(name, block, part.dtype, tensor.dtype)


def _check_parts(name: str, tensor: StoredTensor) -> None:
    elements = sum(math.prod(part.shape) for part in tensor.parts)
    if elements != math.prod(tensor.shape):
        raise SafetensorsError(
            f"tensor {name!r} of shape {tensor.shape} has parts with {elements} elements in all"
        )


def _with_padding(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    padded: dict[str, StoredTensor] = {}
    position = 0  # from the start of the data section, which is itself aligned
    num_pads = 0
    for name, tensor in tensors.items():
        gap = -position % ALIGNMENT
        if gap:
            zeros = Tensor("U8", np.zeros(gap, np.uint8))
            padded[f"_pad.{num_pads}"] = StoredTensor("U8", (gap,), (zeros,))
            num_pads += 1
        padded[name] = tensor
        position += gap + tensor.num_bytes
    return padded


def _encode_header(tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.num_bytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 40) : error.start]
        raise SafetensorsError(f"a string is not valid Unicode, after {near!r}: {error}") from None
    encoded += b" " * (-(LENGTH_BYTES + len(encoded)) % ALIGNMENT)
    if len(encoded) > MAX_HEADER_BYTES:
        raise SafetensorsError(
            f"the header has {len(encoded)} bytes; at most {MAX_HEADER_BYTES} are allowed"
        )
    return len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded


def _to_bytes(name: str, block: NDArray[Any], source: str, target: str) -> memoryview:
    if source != target:
        try:
            block = dtypes.from_float32(dtypes.to_float32(block, source), target)
        except (OverflowError, ValueError) as error:
            raise SafetensorsError(f"tensor {name!r}: {error}") from error
    storage = dtypes.STORAGE[target]
    return np.ascontiguousarray(block, storage).view(np.uint8).data


@contextlib.contextmanager
def _replace_when_complete(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place at the end, or is removed on any exception."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
