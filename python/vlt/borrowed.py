"""Arrays of PyTorch, CuPy and others in device memory, borrowed without importing any of them.

They come by `__cuda_array_interface__` (a dict with a pointer) or by DLPack (a capsule).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from . import _dlpack
from .arguments import LEGACY_STREAM
from .errors import InvalidArgumentError

HOST_KINDS = (_dlpack.DL_CPU, _dlpack.DL_CUDA_HOST)
NAMES_STREAM = 3  # version of the interface from which it says in what stream the array is ready


@dataclass(slots=True)
class Borrowed:
    """Somebody's dense array."""

    address: int
    shape: tuple[int, ...]
    dtype: str
    device: int | None  # index of the CUDA device; None: it is on the host
    read_only: bool
    stream: int | None  # the array is ready in its order; None: it is ready
    holder: object  # keeps the memory


class _Strided(dict[type, Any]):
    """torch.Tensor -> the layout of dense tensors; None for every other class.

    As a table, like the next: it takes half as long as asking the module each time.
    """

    def __missing__(self, kind: type) -> Any:
        torch = sys.modules.get("torch")
        if kind is not getattr(torch, "Tensor", None):
            return None
        return self.setdefault(kind, torch.strided)  # type: ignore[union-attr]


class _Names(dict[Any, str]):
    """torch.int32 -> "int32"."""

    def __missing__(self, dtype: Any) -> str:
        return self.setdefault(dtype, sys.intern(str(dtype).removeprefix("torch.")))


_STRIDED = _Strided()
_NAMES = _Names()


def borrow_tensor(value: Any) -> Borrowed | None:
    """A tensor of PyTorch that is what it looks like, for use in a stream that the caller named.

    Its attributes say what the protocols say, in a tenth of the time: what a call takes before its
    first kernel is much of a small batch's time.

    Returns
    -------
    Borrowed or None
        None: it takes the protocols to use this value, or it is not on a CUDA device.
    """
    strided = _STRIDED[type(value)]
    if (
        strided is None
        or not value.is_cuda
        or value.layout is not strided
        or value.requires_grad
        or value.is_neg()
        or not value.is_contiguous()
    ):
        return None
    return Borrowed(
        value.data_ptr(),
        value.shape,
        _NAMES[value.dtype],
        value.get_device(),
        False,
        None,
        value,
    )


def cuda_index(value: Any, name: str, default: int) -> int | None:
    """Index of the CUDA device that an array is on; None for anything that is on none.

    `default` where the array does not say: the CUDA array interface has no word for it.
    """
    locate = getattr(value, "__dlpack_device__", None)
    if locate is None:
        return None if _interface(value, name) is None else default
    kind, index = map(int, locate())
    if kind in HOST_KINDS:
        return None
    if kind != _dlpack.DL_CUDA:
        raise TypeError(
            f"{name} is in memory of DLPack's device type {kind}; right are the host and CUDA "
            f"devices, types {_dlpack.DL_CPU} and {_dlpack.DL_CUDA}"
        )
    return index


def borrow(value: Any, name: str, device: int, stream: int | None) -> Borrowed:
    """An array on a CUDA device.

    Parameters
    ----------
    device
        What cuda_index() says of it.
    stream
        Where it will be used. None: the result says after which stream it may be.

    Raises
    ------
    InvalidArgumentError
        It is not dense, or its owner does not share it.
    """
    interface = _interface(value, name)
    # the interface calls a type that it has no name for, such as bfloat16, "V2"
    if interface is None or interface["typestr"][1:2] == "V":
        return _from_dlpack(value, name, device, stream)
    orders = stream is not None or interface["version"] >= NAMES_STREAM
    if orders or not hasattr(value, "__dlpack__"):
        return _from_interface(value, interface, name, device)
    # An older interface does not say when the array is ready; a DLPack producer sees to it.
    return _from_dlpack(value, name, device, stream)


def _interface(value: Any, name: str) -> dict[str, Any] | None:
    """The dict; None where there is none."""
    try:
        interface: dict[str, Any] = value.__cuda_array_interface__
    except AttributeError:
        return None
    except RuntimeError as error:  # PyTorch, for one that requires a gradient
        raise InvalidArgumentError(f"{name} cannot be shared: {error}") from error
    return interface


def _from_interface(value: Any, interface: dict[str, Any], name: str, device: int) -> Borrowed:
    if interface.get("mask") is not None:
        raise InvalidArgumentError(f"{name} has a mask; a dense array is needed")
    dtype, itemsize = _describe(interface["typestr"])
    shape = tuple(map(int, interface["shape"]))
    _require_dense(name, shape, interface.get("strides"), itemsize)
    address, read_only = interface["data"]
    stream = interface.get("stream", LEGACY_STREAM if interface["version"] < NAMES_STREAM else None)
    return Borrowed(address or 0, shape, dtype, device, bool(read_only), stream, value)


def _from_dlpack(value: Any, name: str, device: int, stream: int | None) -> Borrowed:
    order = LEGACY_STREAM if stream is None else stream
    try:
        try:
            capsule = value.__dlpack__(stream=order, max_version=(_dlpack.DL_MAJOR, 0))
        except TypeError:  # it may not know of versions
            capsule = value.__dlpack__(stream=order)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name} cannot be shared: {error}") from error
    tensor = _dlpack.TakenTensor(capsule)
    _require_dense(name, tensor.shape, tensor.strides, 1)
    return Borrowed(
        tensor.address,
        tensor.shape,
        tensor.dtype,
        device,
        tensor.read_only,
        order,
        tensor,
    )


@lru_cache
def _describe(typestr: str) -> tuple[str, int]:
    """("int32", 4) of "<i4"; numpy takes long for it."""
    dtype = np.dtype(typestr)
    return dtype.name if dtype.isnative else f"byte-swapped {dtype.name}", dtype.itemsize


def _require_dense(
    name: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, step: int
) -> None:
    """Row-major without gaps; strides are in units of which an element takes `step`."""
    if strides is None or 0 in shape:
        return
    dense = _dlpack.row_major(shape, step)
    if any(
        size > 1 and given != right
        for size, given, right in zip(shape, strides, dense, strict=True)
    ):
        raise InvalidArgumentError(
            f"{name} must be contiguous; its strides are {tuple(strides)} instead of {dense}"
        )
