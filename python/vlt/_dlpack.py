"""DLPack: how libraries hand each other arrays in capsules.

Beside `_native.py` the only module that knows ctypes: the structs of dlpack.h and the functions of
Python's own C interface that make and open capsules. libvlt has no part in it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from ctypes import (
    CFUNCTYPE,
    POINTER,
    PYFUNCTYPE,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)

from . import errors


class DLDevice(ctypes.Structure):
    """Kind of device, and which of them."""

    _fields_ = [("device_type", c_int32), ("device_id", c_int32)]


class DLDataType(ctypes.Structure):
    """Type of the elements: one of DL_CODES, and its width."""

    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class DLTensor(ctypes.Structure):
    """An array that somebody else owns."""

    _fields_ = [
        ("data", c_void_p),
        ("device", DLDevice),
        ("ndim", c_int32),
        ("dtype", DLDataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),  # in elements; NULL: row-major
        ("byte_offset", c_uint64),
    ]


class DLManagedTensor(ctypes.Structure):
    """A tensor, and how to give it back."""

    _fields_ = [("dl_tensor", DLTensor), ("manager_ctx", c_void_p), ("deleter", c_void_p)]


class DLManagedTensorVersioned(ctypes.Structure):
    """The same since version 1.0, which added flags."""

    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager_ctx", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("dl_tensor", DLTensor),
    ]


DL_CPU, DL_CUDA, DL_CUDA_HOST = 1, 2, 3  # kinds of devices
DL_MAJOR = 1  # of the versioned struct
DL_READ_ONLY = 1  # among its flags
DL_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "complex": 5, "bool": 6}

# A capsule holds the bare pointer to its name, so these objects must stay.
DLTENSOR, DLTENSOR_VERSIONED = b"dltensor", b"dltensor_versioned"
USED = {DLTENSOR: b"used_dltensor", DLTENSOR_VERSIONED: b"used_dltensor_versioned"}

# Functions of our own: argument types set on ctypes.pythonapi would be everybody's.
CAPSULE_NEW = PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
CAPSULE_NAME = PYFUNCTYPE(c_char_p, py_object)(("PyCapsule_GetName", ctypes.pythonapi))
CAPSULE_RENAME = PYFUNCTYPE(c_int, py_object, c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
CAPSULE_POINTER = PYFUNCTYPE(c_void_p, py_object, c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

# Address of a tensor -> the struct itself and whose memory it is, until its deleter is called.
EXPORTED: dict[int, tuple[DLManagedTensor, object]] = {}
# Address of a tensor -> its capsule, until it is seen that a consumer took it. Nobody but this
# table holds the first entry, so that a count of references to another has something to compare to.
OFFERED: dict[int, object] = {0: object()}
SWEEPING = threading.Lock()


def forget_export(place: int) -> None:
    """Let go of a tensor and its capsule."""
    OFFERED.pop(place, None)
    EXPORTED.pop(place, None)


# The deleter of our tensors; a consumer calls it on any thread, with the GIL or without.
DELETER = CFUNCTYPE(None, c_void_p)(forget_export)


def dlpack_offer(
    address: int, shape: tuple[int, ...], dtype: str, device: tuple[int, int], owner: object
) -> object:
    """A capsule with a dense array; `owner` lives until the consumer is done with it."""
    reclaim_untaken()
    kind = dtype.rstrip("0123456789")
    bits = int(dtype.removeprefix(kind))
    tensor = DLTensor(
        data=address,
        device=DLDevice(*device),
        ndim=len(shape),
        dtype=DLDataType(DL_CODES[kind], bits, 1),
        shape=(c_int64 * len(shape))(*shape),
        strides=(c_int64 * len(shape))(*row_major(shape)),
    )
    managed = DLManagedTensor(tensor, None, ctypes.cast(DELETER, c_void_p))
    place = ctypes.addressof(managed)
    EXPORTED[place] = managed, owner
    capsule = CAPSULE_NEW(place, DLTENSOR, None)
    OFFERED[place] = capsule
    return capsule


def reclaim_untaken() -> None:
    """Let go of what capsules held that nobody took and nobody holds any more.

    A capsule's destructor would be the place for it, but it can run while an exception is being
    raised, where Python code must not.
    """
    if not SWEEPING.acquire(blocking=False):
        return  # references that another thread's sweep holds would spoil the count
    try:
        alone = 0
        for place, capsule in list(OFFERED.items()):
            holders = sys.getrefcount(capsule)
            if place == 0:
                alone = holders
            elif CAPSULE_NAME(capsule) != DLTENSOR:  # its consumer will call the deleter
                OFFERED.pop(place, None)
            elif holders <= alone:
                forget_export(place)
    finally:
        SWEEPING.release()


def row_major(shape: tuple[int, ...], step: int = 1) -> tuple[int, ...]:
    """The strides of a dense array whose elements are `step` apart."""
    strides = []
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class TakenTensor:
    """The array of somebody's capsule; goes back to its producer when collected."""

    def __init__(self, capsule: object) -> None:
        name = CAPSULE_NAME(capsule)
        if name not in USED:
            raise errors.InvalidArgumentError(f"a capsule named {name!r} holds no unused tensor")
        place = CAPSULE_POINTER(capsule, name)
        CAPSULE_RENAME(capsule, USED[name])
        struct = DLManagedTensor if name == DLTENSOR else DLManagedTensorVersioned
        managed = struct.from_address(place)
        if managed.deleter:
            deleter = PYFUNCTYPE(None, c_void_p)(managed.deleter)
            weakref.finalize(self, deleter, place).atexit = False
        self.read_only = False
        if isinstance(managed, DLManagedTensorVersioned):
            if managed.major != DL_MAJOR:
                raise errors.UnsupportedError(
                    f"a tensor of DLPack {managed.major}.{managed.minor}; vlt knows {DL_MAJOR}.x"
                )
            self.read_only = bool(managed.flags & DL_READ_ONLY)
        tensor = managed.dl_tensor
        axes = range(tensor.ndim)
        self.address = (tensor.data or 0) + tensor.byte_offset
        self.device = tensor.device.device_type, tensor.device.device_id
        self.shape = tuple(tensor.shape[axis] for axis in axes)
        self.strides = (
            tuple(tensor.strides[axis] for axis in axes)
            if tensor.strides
            else row_major(self.shape)
        )
        self.dtype, self.itemsize = describe(tensor.dtype)


def describe(dtype: DLDataType) -> tuple[str, int]:
    """("int32", 4) and the like."""
    kind = next((name for name, code in DL_CODES.items() if code == dtype.code), f"{dtype.code}:")
    lanes = "" if dtype.lanes == 1 else f"x{dtype.lanes}"
    return f"{kind}{dtype.bits}{lanes}", dtype.bits * dtype.lanes // 8
