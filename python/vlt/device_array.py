"""Results that stay in the GPU's memory, for PyTorch, CuPy and others to use where they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import _dlpack, dtypes
from .arguments import LEGACY_STREAM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .handles import DeviceMemory, PendingRun

BFLOAT16_BITS = np.dtype(np.uint16)  # numpy has no bfloat16


class DeviceArray:
    """A dense array in a GPU's memory.

    `torch.from_dlpack(array)`, `cupy.from_dlpack(array)` and everything else that speaks DLPack or
    `__cuda_array_interface__` use it without a copy; `numpy()` copies it to the host. The memory
    is given back when nobody uses it any more, which may be after the encoder was closed.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        "float32", "float16" or "bfloat16".
    device : str
        "cuda:0" and the like.
    """

    def __init__(
        self, memory: DeviceMemory, shape: tuple[int, ...], dtype: str, device_index: int
    ) -> None:
        self._memory = memory
        self._device_index = device_index
        self._pending: PendingRun | None = None
        self.shape = shape
        self.dtype = dtype

    @property
    def device(self) -> str:
        return f"cuda:{self._device_index}"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self._stored_dtype.itemsize

    @property
    def address(self) -> int:
        """Of the memory, for the library."""
        return self._memory.address

    def written_by(self, run: PendingRun | None) -> None:
        """For the run: the values are there once it is done; None: they are."""
        self._pending = run

    def numpy(self) -> NDArray[Any]:
        """A copy on the host, after the work that writes it; bfloat16 becomes float32, exactly."""
        self._wait()
        array = np.empty(self.shape, self._stored_dtype)
        self._memory.copy_to_host(array)
        return dtypes.to_float32(array, "BF16") if self.dtype == "bfloat16" else array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16; DLPack has")
        return {
            "shape": self.shape,
            "typestr": self._stored_dtype.str,
            "data": (self._memory.address, False),
            "strides": None,
            "stream": self._stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return _dlpack.DL_CUDA, self._device_index

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule for the consumer's stream; -1: without regard to streams."""
        if copy:
            raise BufferError("a DeviceArray shares its memory; copy what you make of it")
        if dl_device is not None and tuple(map(int, dl_device)) != self.__dlpack_device__():
            raise BufferError(f"this array is on {self.device}; numpy() copies it to the host")
        if stream != -1 and self._stream not in (None, stream or LEGACY_STREAM):
            self._wait()
        return _dlpack.dlpack_offer(
            self._memory.address, self.shape, self.dtype, self.__dlpack_device__(), self._memory
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(f"this array is on {self.device}; numpy() copies it to the host")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray({list(self.shape)} {self.dtype} on {self.device})"

    @property
    def _stored_dtype(self) -> np.dtype[Any]:
        return BFLOAT16_BITS if self.dtype == "bfloat16" else np.dtype(self.dtype)

    @property
    def _stream(self) -> int | None:
        """In whose order the values are there; None: they are."""
        return None if self._pending is None else self._pending.stream

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.wait()
