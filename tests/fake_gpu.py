"""The CPU passing for a GPU: what the Python package does with one, tested where there is none.

"Device memory" is host memory. The functions of the library that know devices are replaced by ones
that keep count and hand the work to the real library on the CPU.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vlt import _dlpack, _native

Array = npt.NDArray[Any]


class FakeGpu:
    """In place from construction until the monkeypatch is undone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.streams: list[int | None] = []  # of each run
        self.waits = 0  # calls to synchronise
        self.memory: dict[int, Any] = {}  # address -> buffer, of what is allocated
        self._problem: bytes | None = None  # what a run that returned early found wrong
        library = _native.LIBRARY
        self._real = {
            name: getattr(library, name) for name in ("vlt_run", "vlt_last_error", "vlt_model_load")
        }
        for name in (
            "vlt_run",
            "vlt_last_error",
            "vlt_model_load",
            "vlt_session_synchronize",
            "vlt_device_allocate",
            "vlt_device_free",
            "vlt_device_copy",
        ):
            monkeypatch.setattr(library, name, getattr(self, name))
        real_info = _native.model_info
        on_gpu = {"device_type": "cuda", "device_index": 0}
        monkeypatch.setattr(_native, "model_info", lambda model: real_info(model) | on_gpu)

    def vlt_model_load(self, path: bytes, options: Any, out_model: Any) -> int:
        options._obj.device_type = _native.DEVICES["cpu"]
        return self._status("vlt_model_load", path, options, out_model)

    def vlt_run(self, session: Any, batch: Any, output: Any, count: int) -> int:
        assert count == 1
        stream, early = batch.stream, output.memory == _native.MEMORY["device"]
        self.streams.append(stream)
        batch.stream = None
        batch.memory = output.memory = _native.MEMORY["host"]
        status = self._status("vlt_run", session, batch, output, count)
        if status == _native.OK or stream is None or not early:
            return status
        self._problem = self._real["vlt_last_error"]()
        return _native.OK

    def vlt_session_synchronize(self, session: Any) -> int:
        self.waits += 1
        return _native.OK if self._problem is None else 1

    def vlt_last_error(self) -> bytes:
        problem, self._problem = self._problem, None
        return self._real["vlt_last_error"]() if problem is None else problem

    def vlt_device_allocate(self, model: Any, num_bytes: int, out_memory: Any) -> int:
        buffer = ctypes.create_string_buffer(num_bytes)
        address = ctypes.addressof(buffer) if num_bytes else None
        if address:
            self.memory[address] = buffer
        out_memory._obj.value = address
        return _native.OK

    def vlt_device_free(self, model: Any, memory: Any) -> None:
        if memory.value:
            del self.memory[memory.value]

    def vlt_device_copy(self, model: Any, to: int, source: int, num_bytes: int) -> int:
        ctypes.memmove(to, source, num_bytes)
        return _native.OK

    def _status(self, name: str, *arguments: Any) -> int:
        return int(self._real[name](*arguments))


class CudaArray:
    """An array with the CUDA array interface alone, such as Numba's."""

    def __init__(self, array: Array, version: int = 3, **fields: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, not array.flags.writeable),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": version,
            **fields,
        }


class DlpackArray:
    """An array with DLPack alone."""

    def __init__(self, array: Array, device: tuple[int, int] = (2, 0)) -> None:
        self.array = array
        self.streams: list[int | None] = []  # that consumers asked for
        self._device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, *, stream: int | None = None) -> object:
        self.streams.append(stream)
        array = self.array
        return _dlpack.dlpack_offer(
            array.ctypes.data, array.shape, array.dtype.name, self._device, array
        )


class TorchArray(DlpackArray):
    """An array with both, whose interface is of a version that says nothing of streams."""

    def __init__(self, array: Array) -> None:
        super().__init__(array)
        self.__cuda_array_interface__ = CudaArray(array, version=2).__cuda_array_interface__


def view_of(exporter: Any) -> Array:
    """The memory of an array that exports itself through DLPack, seen by numpy."""
    tensor = _dlpack.TakenTensor(exporter.__dlpack__(stream=-1))
    size = int(np.prod(tensor.shape)) * tensor.itemsize
    buffer: Any = (ctypes.c_char * size).from_address(tensor.address)
    buffer.tensor = tensor  # goes back to its producer with the last view
    array: Array = np.frombuffer(buffer, tensor.dtype).reshape(tensor.shape)
    return array
