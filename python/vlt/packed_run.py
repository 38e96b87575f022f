"""Runs on packed arrays where they are, host or GPU: nothing is copied or converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import outputs
from .borrowed import Borrowed, borrow, borrow_tensor, cuda_index
from .device_array import DeviceArray
from .errors import InvalidArgumentError, UnsupportedError
from .handles import WEIGHT_BYTES, Batch, DeviceMemory
from .run_inputs import chosen_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._native import DeviceSpan
    from .handles import Model, Session


class HostArray(NamedTuple):
    """An array of the caller's on the host; see Borrowed for the others."""

    data: NDArray[Any]
    shape: tuple[int, ...]
    dtype: str


class Borrower:
    """Takes a call's arrays one by one, and finds out in which stream the call has to run.

    Parameters
    ----------
    model
        Where it will run.
    stream : int or None
        The caller's. None: the arrays say in what order they are ready.
    """

    def __init__(self, model: Model, stream: int | None) -> None:
        self._model = model
        self._stream = stream
        self._named: dict[int, str] = {}  # stream -> an array that is ready in its order
        self._tensor: Borrowed | None = None  # the array looked at last, where that was enough
        self.holders: list[object] = []  # keep what was borrowed

    def is_on_device(self, value: Any, name: str) -> bool:
        """Or on the host? Refuses arrays on devices other than the model's."""
        own: int = self._model.info["device_index"]
        tensor = None if self._stream is None else borrow_tensor(value)
        index, self._tensor = tensor or (cuda_index(value, name, own), None)
        if index is None:
            return False
        if self._model.gpu is None:
            raise UnsupportedError(f"{name} is on a CUDA device, but this encoder is on the CPU")
        if index != own:
            raise InvalidArgumentError(
                f"{name} is on cuda:{index}, but this encoder is on {self._model.gpu}"
            )
        return True

    def host_array(self, value: Any, name: str, writable: bool = False) -> HostArray:
        """A view of an array on the host."""
        if not hasattr(value, "__array__"):
            raise TypeError(
                f"{name} must be an array, not {type(value).__name__}; run() takes lists"
            )
        array = np.asarray(value)
        if not array.flags.c_contiguous:
            raise InvalidArgumentError(f"{name} must be contiguous")
        copied = array.size > 0 and not np.shares_memory(array, np.asarray(value))
        if writable and (copied or not array.flags.writeable):
            raise InvalidArgumentError(f"{name} must be writable, and is read-only")
        self.holders.append(array)
        swapped = "" if array.dtype.isnative else "byte-swapped "
        return HostArray(array, array.shape, swapped + array.dtype.name)

    def device_array(self, value: Any, name: str, writable: bool = False) -> Borrowed:
        """An array that is_on_device() has just found there."""
        borrowed = self._tensor or borrow(value, name, self._stream)
        if writable and borrowed.read_only:
            raise InvalidArgumentError(f"{name} must be writable, and is read-only")
        self.holders.append(borrowed.holder)
        if borrowed.stream is not None:
            self._named.setdefault(borrowed.stream, name)
        return borrowed

    def order(self) -> int | None:
        """The stream to run in; None: all is ready."""
        if self._stream is not None:
            return self._stream
        if len(self._named) > 1:
            told = " and ".join(f"{name} in {stream:#x}" for stream, name in self._named.items())
            raise InvalidArgumentError(
                f"the arrays are ready in different streams, {told}; say with stream= in which of "
                "them to run, once the others are done"
            )
        return next(iter(self._named), None)


class PackedRun:
    """One call of `Encoder.run_packed`, checked and ready to run; see there for the parameters."""

    _target: NDArray[Any] | DeviceSpan
    _target_dtype: str

    def __init__(self, model: Model, output: str, dtype: str | None, stream: int | None) -> None:
        self._model = model
        self._output = output
        self._dtype = dtype
        self._waits = stream is None
        self._borrower = Borrower(model, stream)

    def take_inputs(
        self,
        token_ids: Any,
        sequence_starts: Any,
        token_types: Any,
        pooling_starts: Any,
        chosen: ArrayLike | None = None,
    ) -> None:
        """The batch: int32 arrays, all on the host or all on the device; `chosen` on the host."""
        self._on_device = self._is_on_device(token_ids, "token_ids")
        ids = self._taken(token_ids, "token_ids")
        starts = self._input(sequence_starts, "sequence_starts")
        if len(starts) == 0:
            raise InvalidArgumentError("sequence_starts must hold S + 1 entries, so at least one")
        types = skipped = None
        if token_types is not None:
            types = self._input(token_types, "token_types", len(ids))
        if pooling_starts is not None:
            skipped = self._input(pooling_starts, "pooling_starts", len(starts) - 1)
        places = chosen_array(len(ids), chosen, self._output)
        self._batch = Batch(ids, starts, types, skipped, places)

    def _is_on_device(self, value: Any, name: str) -> bool:
        """Or on the host? Refuses a device that the output cannot be made on."""
        on_device = self._borrower.is_on_device(value, name)
        if on_device and not outputs.OUTPUTS[self._output].on_device:
            right = [each for each, output in outputs.OUTPUTS.items() if output.on_device]
            raise UnsupportedError(
                f"{name} is on a CUDA device, and output {self._output!r} takes arrays on the host "
                f"only; on a device are {', '.join(map(repr, right))}"
            )
        return on_device

    def _input(self, value: Any, name: str, length: int | None = None) -> Any:
        if self._borrower.is_on_device(value, name) != self._on_device:
            here, there = ("host", "device") if self._on_device else ("device", "host")
            raise InvalidArgumentError(f"{name} is on the {here}, but token_ids is on the {there}")
        return self._taken(value, name, length)

    def _taken(self, value: Any, name: str, length: int | None = None) -> Any:
        borrower = self._borrower
        take = borrower.device_array if self._on_device else borrower.host_array
        array = take(value, name)
        if array.dtype != "int32":
            raise TypeError(
                f"{name} must be int32, not {array.dtype}; convert it first, in PyTorch with "
                ".to(torch.int32)"
            )
        if len(array.shape) != 1 or length not in (None, array.shape[0]):
            wanted = "one dimension" if length is None else f"shape ({length},)"
            raise InvalidArgumentError(f"{name} must have {wanted}, not shape {array.shape}")
        return array.data

    def take_output(self, out: Any) -> None:
        """The caller's array for the result; None: make one where the inputs are."""
        batch = self._batch
        shape = outputs.shape(
            self._model.info,
            self._output,
            len(batch.token_ids),
            len(batch.starts) - 1,
            0 if batch.chosen is None else len(batch.chosen),
        )
        self._result = self._new(shape) if out is None else self._given(out, shape)

    def _new(self, shape: tuple[int, int]) -> Any:
        dtype = self._dtype or "float32"
        self._require_dtype(dtype)
        if self._on_device:
            memory = DeviceMemory(self._model, shape[0] * shape[1] * WEIGHT_BYTES[dtype])
            result = DeviceArray(memory, shape, dtype, self._model.info["device_index"])
            self._target, self._target_dtype = result.span, dtype
            return result
        if dtype == "bfloat16":
            raise UnsupportedError(
                "numpy has no bfloat16; ask for float32, or keep the arrays on the device"
            )
        array = np.empty(shape, dtype)
        self._target, self._target_dtype = array, dtype
        return array

    def _given(self, out: Any, shape: tuple[int, int]) -> Any:
        on_device = self._is_on_device(out, "out")
        take = self._borrower.device_array if on_device else self._borrower.host_array
        array = take(out, "out", writable=True)
        if array.shape != shape:
            raise InvalidArgumentError(f"out must have shape {shape}, not {array.shape}")
        if self._dtype not in (None, array.dtype):
            raise InvalidArgumentError(f"dtype asks for {self._dtype}, but out is {array.dtype}")
        self._require_dtype(array.dtype)
        self._target, self._target_dtype = array.data, array.dtype
        return out

    def _require_dtype(self, dtype: str) -> None:
        right = ["float32"]
        info = self._model.info
        # The CPU's states are float32, whatever its weights are.
        if self._output == "hidden" and info["device_type"] == "cuda":
            right += {info["compute_type"]} - {"float32"}
        if dtype not in right:
            raise InvalidArgumentError(
                f"output {self._output!r} of this encoder can be {' or '.join(right)}, not {dtype}"
            )

    def run(self, session: Session) -> Any:
        """Run, and give the result; with the caller's stream and a result on the device, early."""
        waits = self._waits or isinstance(self._target, np.ndarray)
        pending = session.run_batch(
            self._batch,
            self._output,
            self._target,
            self._target_dtype,
            self._borrower.order(),
            held=None if waits else self._borrower.holders,
        )
        if isinstance(self._result, DeviceArray):
            self._result.written_by(pending)
        return self._result
