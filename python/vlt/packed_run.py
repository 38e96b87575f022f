"""Runs on packed arrays where they are, host or GPU: nothing is copied or converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _native, outputs
from .borrowed import Borrowed, borrow, borrow_tensor, cuda_index
from .device_array import DeviceArray
from .errors import InvalidArgumentError, UnsupportedError
from .handles import WEIGHT_BYTES, DeviceMemory
from .run_inputs import chosen_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .handles import Model, Session
    from .outputs import ModelOutput

HOST, DEVICE = _native.MEMORY["host"], _native.MEMORY["device"]


class PackedRun:
    """One call of `Encoder.run_packed`, checked and ready to run; see there for the parameters."""

    __slots__ = (
        "_batch",
        "_dtype",
        "_early",
        "_holders",
        "_model",
        "_named",
        "_on_device",
        "_output",
        "_result",
        "_shape",
        "_stream",
        "_target",
    )

    _result: Any

    def __init__(
        self, model: Model, output: ModelOutput, dtype: str | None, stream: int | None
    ) -> None:
        self._model = model
        self._output = output
        self._dtype = dtype
        self._stream = stream  # the caller's, never 0; None: the arrays say when they are ready
        self._named: dict[int, str] = {}  # stream -> an array that is ready in its order
        self._holders: list[object] = []  # keep what was borrowed

    def take_inputs(
        self,
        token_ids: Any,
        sequence_starts: Any,
        token_types: Any,
        pooling_starts: Any,
        chosen: ArrayLike | None = None,
    ) -> None:
        """The batch: int32 arrays, all on the host or all on the device; `chosen` on the host."""
        ids = self._input(token_ids, "token_ids")
        starts = self._input(sequence_starts, "sequence_starts", ids)
        num_tokens, num_sequences = ids.shape[0], starts.shape[0] - 1
        if num_sequences < 0:
            raise InvalidArgumentError("sequence_starts must hold S + 1 entries, so at least one")
        types = skipped = None
        if token_types is not None:
            types = self._input(token_types, "token_types", ids, num_tokens)
        if pooling_starts is not None:
            skipped = self._input(pooling_starts, "pooling_starts", ids, num_sequences)
        places = chosen_array(num_tokens, chosen, self._output.name)
        num_chosen = places_address = 0
        if places is not None:
            num_chosen, places_address = len(places), _native.int32_address(places)
            self._holders.append(places)
        self._on_device = ids.device is not None
        self._shape = self._output.shape(num_tokens, num_sequences, num_chosen)
        self._batch = _native.packed_batch(
            num_sequences,
            num_tokens,
            ids.address,
            starts.address,
            0 if types is None else types.address,
            0 if skipped is None else skipped.address,
            DEVICE if self._on_device else HOST,
            0,  # the stream: known when all arrays are
            num_chosen,
            places_address,
        )

    def _input(
        self, value: Any, name: str, beside: Borrowed | None = None, length: int | None = None
    ) -> Borrowed:
        array = self._take(value, name, beside)
        if array.dtype != "int32":
            raise TypeError(
                f"{name} must be int32, not {array.dtype}; convert it first, in PyTorch with "
                ".to(torch.int32)"
            )
        shape = array.shape
        if len(shape) != 1 or (length is not None and length != shape[0]):
            wanted = "one dimension" if length is None else f"shape ({length},)"
            raise InvalidArgumentError(f"{name} must have {wanted}, not shape {tuple(shape)}")
        return array

    def _take(
        self, value: Any, name: str, beside: Borrowed | None = None, writable: bool = False
    ) -> Borrowed:
        """An array, on the host or on the model's device.

        Parameters
        ----------
        beside
            The token ids, where the array must be on the same side.
        writable
            Will it be written?
        """
        own = self._model.index
        array = None if self._stream is None else borrow_tensor(value)
        device = cuda_index(value, name, own or 0) if array is None else array.device
        if device != own and device is not None:
            raise self._elsewhere(device, name)
        if beside is None:
            if device is not None and not self._output.on_device:
                raise self._not_on_device(name)
        elif device != beside.device:
            here, there = ("device", "host") if beside.device is None else ("host", "device")
            raise InvalidArgumentError(f"{name} is on the {here}, but token_ids is on the {there}")
        if array is None:
            array = (
                host_array(value, name)
                if device is None
                else borrow(value, name, device, self._stream)
            )
        if writable and array.read_only:
            raise InvalidArgumentError(f"{name} must be writable, and is read-only")
        self._holders.append(array.holder)
        if array.stream is not None:
            self._named.setdefault(int(array.stream), name)
        return array

    def _elsewhere(self, device: int, name: str) -> Exception:
        """What to say of an array on a device that is not the model's."""
        gpu = self._model.gpu
        if gpu is None:
            return UnsupportedError(f"{name} is on a CUDA device, but this encoder is on the CPU")
        return InvalidArgumentError(f"{name} is on cuda:{device}, but this encoder is on {gpu}")

    def _not_on_device(self, name: str) -> Exception:
        """What to say of an array on a device that the output cannot be made on."""
        right = [each for each, output in outputs.OUTPUTS.items() if output.on_device]
        return UnsupportedError(
            f"{name} is on a CUDA device, and output {self._output.name!r} takes arrays on the "
            f"host only; on a device are {', '.join(map(repr, right))}"
        )

    def take_output(self, out: Any) -> None:
        """The caller's array for the result; None: make one where the inputs are."""
        address, dtype, on_device = self._new() if out is None else self._given(out)
        self._target = _native.run_output(
            _native.OUTPUTS[self._output.name],
            _native.DTYPES[dtype],
            address,
            self._size(dtype),
            DEVICE if on_device else HOST,
        )
        self._early = on_device and self._stream is not None

    def _new(self) -> tuple[int, str, bool]:
        """(address, dtype, on a device?) of the result, as _given() has it."""
        dtype = self._dtype or "float32"
        self._require_dtype(dtype)
        if self._on_device:
            memory = DeviceMemory(self._model, self._size(dtype))
            self._result = DeviceArray(memory, self._shape, dtype, self._model.index or 0)
            return memory.address, dtype, True
        if dtype == "bfloat16":
            raise UnsupportedError(
                "numpy has no bfloat16; ask for float32, or keep the arrays on the device"
            )
        self._result = np.empty(self._shape, dtype)
        self._holders.append(self._result)
        return _native.address_of(self._result), dtype, False

    def _given(self, out: Any) -> tuple[int, str, bool]:
        array = self._take(out, "out", writable=True)
        shape, dtype = array.shape, array.dtype
        if shape != self._shape:
            raise InvalidArgumentError(f"out must have shape {self._shape}, not {tuple(shape)}")
        if self._dtype is not None and self._dtype != dtype:
            raise InvalidArgumentError(f"dtype asks for {self._dtype}, but out is {dtype}")
        self._require_dtype(dtype)
        self._result = out
        return array.address, dtype, array.device is not None

    def _require_dtype(self, dtype: str) -> None:
        right = self._output.dtypes
        if dtype not in right:
            raise InvalidArgumentError(
                f"output {self._output.name!r} of this encoder can be {' or '.join(right)}, not "
                f"{dtype}"
            )

    def _size(self, dtype: str) -> int:
        """Bytes of the result."""
        rows, columns = self._shape
        return rows * columns * WEIGHT_BYTES[dtype]

    def run(self, session: Session) -> Any:
        """Run, and give the result; with the caller's stream and a result on the device, early."""
        self._batch.stream = self._stream or self._order()
        pending = session.run_batch(self._batch, self._target, self._holders, self._early)
        if isinstance(self._result, DeviceArray):
            self._result.written_by(pending)
        return self._result

    def _order(self) -> int | None:
        """The stream in whose order the arrays are ready; None: all are."""
        if len(self._named) > 1:
            told = " and ".join(f"{name} in {stream:#x}" for stream, name in self._named.items())
            raise InvalidArgumentError(
                f"the arrays are ready in different streams, {told}; say with stream= in which of "
                "them to run, once the others are done"
            )
        return next(iter(self._named), None)


def host_array(value: Any, name: str) -> Borrowed:
    """A view of an array on the host."""
    if not hasattr(value, "__array__"):
        raise TypeError(f"{name} must be an array, not {type(value).__name__}; run() takes lists")
    array = np.asarray(value)
    if not array.flags.c_contiguous:
        raise InvalidArgumentError(f"{name} must be contiguous")
    copied = array.size > 0 and not np.shares_memory(array, np.asarray(value))
    return Borrowed(
        _native.address_of(array),
        array.shape,
        ("" if array.dtype.isnative else "byte-swapped ") + array.dtype.name,
        device=None,
        read_only=copied or not array.flags.writeable,
        stream=None,
        holder=array,
    )
