"""Owners of the library's handles: freed once, one thread at a time, stopped by Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _native
from .arguments import batch_bound, checked, lookup, parse_device
from .errors import InvalidArgumentError, UnsupportedError
from .interrupt import run_interruptibly
from .outputs import ModelOutputs

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from .packing import PackedIds

# Python's signal handlers wait while the main thread is inside the library. A run of more than
# this many floating-point operations (0.05 s at 100 GFLOP/s, on a GPU at 100 TFLOP/s) therefore
# moves to a thread of its own, which costs about 0.1 ms; the main thread stays ready for Ctrl-C.
INTERRUPTIBLE_FLOPS = {"cpu": 5e9, "cuda": 5e12}

WEIGHT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

# Runs that may be under way in their caller's stream before the next one waits for them: what they
# read has to be held until then.
MOST_PENDING = 64


class Resource:
    """A handle of the library, freed when the last reference to this object goes.

    CUDA does not survive a fork: what belongs to a device is neither used nor freed in the child.
    """

    def __init__(self, pointer: Any, free: Callable[..., None], device: str | None = None) -> None:
        self._pointer = pointer
        self._device = device
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, self._free, free, pointer, device, self._process)
        # At exit the system takes the memory; a daemon thread may still be running on it.
        self._finalizer.atexit = False

    @property
    def pointer(self) -> Any:
        if self._device is not None and self._process != os.getpid():
            raise UnsupportedError(
                f"this model was loaded on {self._device} before this process was forked, and "
                "CUDA does not survive a fork; load the model after the fork, or start processes "
                "by multiprocessing's method 'spawn'"
            )
        return self._pointer

    @staticmethod
    def _free(free: Callable[..., None], pointer: Any, device: str | None, process: int) -> None:
        if device is None or process == os.getpid():
            free(pointer)


class Handle:
    """Owns a resource until `close`, or until collected."""

    def __init__(self, resource: Resource) -> None:
        self._resource: Resource | None = resource
        self._lock = threading.Lock()  # one call at a time, and none while the handle is freed

    @property
    def closed(self) -> bool:
        return self._resource is None

    @property
    def resource(self) -> Resource:
        if self._resource is None:
            raise InvalidArgumentError(f"this {type(self).__name__.lower()} is closed")
        return self._resource

    @property
    def pointer(self) -> Any:
        return self.resource.pointer

    def close(self) -> None:
        """Let go of the handle, after the call in progress. Closing twice is harmless."""
        with self._lock:
            self._resource = None


class Model(Handle):
    """Weights prepared for one device; any number of threads may share them.

    Parameters
    ----------
    source : str or [bytes] uint8
        Path of a weights file, or the bytes of one.
    device : str
        "auto", "cpu", "cuda" or "cuda:1".
    dtype : str
        Type of the weights: "auto", "float32", "float16", "bfloat16", "int8".
    """

    def __init__(
        self, source: str | NDArray[np.uint8], device: str = "auto", dtype: str = "auto"
    ) -> None:
        pointer = _native.model_load(source, parse_device(device), lookup("dtype", dtype))
        self.info = _native.model_info(pointer)
        self.metadata = _native.model_metadata(pointer)
        kind, index = self.info["device_type"], self.info["device_index"]
        self.gpu = None if kind == "cpu" else f"{kind}:{index}"  # the CUDA device
        self.index: int | None = None if kind == "cpu" else index  # its number
        self.outputs = ModelOutputs(self.info)
        super().__init__(Resource(pointer, _native.LIBRARY.vlt_model_free, self.gpu))

    @property
    def device(self) -> str:
        """Where the weights are: `gpu`, or "cpu"."""
        return self.gpu or "cpu"

    def tokenizer(self) -> bytes | None:
        """The tokenizer.json inside the weights file; None where the file has none."""
        with self._lock:
            return _native.model_tokenizer(self.pointer)


class DeviceMemory:
    """Memory on a model's device, given back when collected; keeps the model until then."""

    def __init__(self, model: Model, nbytes: int) -> None:
        self._model = model.resource
        self.nbytes = nbytes
        memory = _native.device_allocate(self._model.pointer, nbytes)
        # The finalizer holds on to the model's resource: freeing needs it.
        free = partial(free_device_memory, _native.LIBRARY.vlt_device_free, self._model)
        self._resource = Resource(memory, free, model.gpu)

    @property
    def address(self) -> int:
        return self._resource.pointer.value or 0

    def copy_to_host(self, array: NDArray[Any]) -> None:
        """Fill a contiguous array of the same size."""
        _native.device_copy(self._model.pointer, array.ctypes.data, self.address, array.nbytes)


def free_device_memory(free: Callable[..., None], model: Resource, memory: Any) -> None:
    """Give memory back to the model's device."""
    free(model.pointer, memory)


class PendingRun:
    """A run in its caller's stream that returned before the work was done."""

    __slots__ = "_error", "_held", "_session", "stream"

    def __init__(self, session: Session, stream: int, held: object) -> None:
        self._session = session
        self._held: object = held  # what the work reads and writes
        self._error: InvalidArgumentError | None = None
        self.stream: int | None = stream  # None once the work is done

    def wait(self) -> None:
        """Until the work is done; raises what it found wrong, each time."""
        if self.stream is not None:
            self._session.synchronize()
        if self._error is not None:
            raise InvalidArgumentError(str(self._error))

    def finish(self, error: InvalidArgumentError | None) -> None:
        """For the session: the work is done, and this or another pending run was wrong."""
        self._error = error
        self.stream = self._held = None


class Session(Handle):
    """One stream of work and its workspace. Calls from several threads take turns.

    Parameters
    ----------
    model : Model
        The weights; they stay alive as long as the session does.
    num_threads : int, optional
        None: every core this process may use. On a GPU: the most that bring a large result to the
        host at once.
    workspace_limit : int, optional
        Bytes; a batch that needs more is run in parts. None: no limit.
    profile : bool
        Measure every operation, see `profile`.
    disable_graphs : bool
        On a GPU: launch every kernel of a small batch anew.
    """

    def __init__(
        self,
        model: Model,
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        profile: bool = False,
        disable_graphs: bool = False,
    ) -> None:
        threads = 0 if num_threads is None else checked("num_threads", num_threads, 1)
        limit = 0
        if workspace_limit is not None:
            limit = checked("workspace_limit", workspace_limit, 1, _native.INT64_MAX)
        pointer = _native.session_create(model.pointer, threads, limit, profile, disable_graphs)
        super().__init__(Resource(pointer, _native.LIBRARY.vlt_session_free, model.gpu))
        self._cancel_lock = threading.Lock()  # no cancel while the handle is being freed
        # A product and a sum for each weight.
        weights = model.info["weight_bytes"] / WEIGHT_BYTES[model.info["compute_type"]]
        self._long = INTERRUPTIBLE_FLOPS[model.info["device_type"]] / (2 * weights)  # tokens
        self._pending: list[PendingRun] = []
        self._late: InvalidArgumentError | None = None  # what a pending run found wrong

    def run(
        self,
        ids: PackedIds,
        output: str,
        out: NDArray[np.float32],
        token_types: NDArray[np.int32] | None = None,
        pooling_starts: NDArray[np.int32] | None = None,
        chosen: NDArray[np.int32] | None = None,
    ) -> None:
        """Run one batch and write `out`, of the shape that `ModelOutput.shape` says."""
        batch = _native.host_batch(ids.values, ids.starts, token_types, pooling_starts, chosen)
        target = _native.host_output(_native.OUTPUTS[output], out)
        self.run_batch(batch, target, (ids, out, token_types, pooling_starts, chosen))

    def run_batch(
        self,
        batch: _native.VltPackedBatch,
        output: _native.VltOutput,
        held: object,
        early: bool = False,
    ) -> PendingRun | None:
        """Run one batch in the order of its stream, and write one output.

        On the main thread Ctrl-C stops a long run and raises KeyboardInterrupt.

        Parameters
        ----------
        held
            The arrays that the batch and the output point to; they live until the work is done.
        early
            The call may return before the work is done, which needs a stream and the output on the
            device.

        Returns
        -------
        PendingRun or None
            None: the work is done.
        """
        long = batch.num_tokens > self._long
        if long and threading.current_thread() is threading.main_thread():
            return run_interruptibly(partial(self._run, batch, output, held, early), self.cancel)
        return self._run(batch, output, held, early)

    def _run(
        self,
        batch: _native.VltPackedBatch,
        output: _native.VltOutput,
        held: object,
        early: bool,
    ) -> PendingRun | None:
        stream = batch.stream
        with self._lock:
            pending = PendingRun(self, stream, held) if early else None
            if pending is None or len(self._pending) >= MOST_PENDING:
                self._settle()
            if pending is not None:
                self._raise_late()
                self._pending.append(pending)  # first: a run that fails may have begun
            try:
                _native.run(self.pointer, batch, output)
            except InvalidArgumentError as error:
                # The library may report what an earlier run found wrong: then it is theirs too.
                if len(self._pending) > 1:
                    with contextlib.suppress(InvalidArgumentError):
                        _native.session_synchronize(self.pointer)
                    self._finish_pending(InvalidArgumentError(f"in a run with a stream: {error}"))
                raise
            finally:
                # Whatever happened: the arrays are the caller's again when the call ends.
                if pending is None and stream is not None:
                    _native.session_synchronize(self.pointer)
        return pending

    def synchronize(self) -> None:
        """Wait for pending runs; raises what they found wrong in device arrays."""
        with self._lock:
            self._settle()
            self._raise_late()

    def _settle(self) -> None:
        """Wait for pending runs; what they found wrong is kept, since it is not this call's."""
        if not self._pending:
            return
        error = None
        try:
            _native.session_synchronize(self.pointer)
        except InvalidArgumentError as caught:
            error = InvalidArgumentError(f"in a run with a stream: {caught}")
            self._late = self._late or error
        self._finish_pending(error)

    def _finish_pending(self, error: InvalidArgumentError | None = None) -> None:
        for run in self._pending:
            run.finish(error)
        self._pending.clear()

    def _raise_late(self) -> None:
        error, self._late = self._late, None
        if error is not None:
            raise error

    def cancel(self) -> None:
        """Make the run in progress raise CancelledError soon. From any thread."""
        with self._cancel_lock:
            if not self.closed:
                _native.check(_native.LIBRARY.vlt_session_cancel(self.pointer))

    def workspace_bytes(self, num_tokens: int, num_sequences: int, max_length: int) -> int:
        """Bytes of workspace that batches up to this size need."""
        bound = batch_bound(num_tokens, num_sequences, max_length)
        with self._lock:
            return _native.session_workspace_bytes(self.pointer, *bound)

    def reserve(self, num_tokens: int, num_sequences: int, max_length: int) -> None:
        """Grow the workspace once, so that batches up to this size never allocate."""
        bound = batch_bound(num_tokens, num_sequences, max_length)
        with self._lock:
            _native.session_reserve(self.pointer, *bound)

    def memory_stats(self) -> dict[str, Any]:
        """The fields of vlt_memory_stats; waits for the run in progress."""
        with self._lock:
            return _native.session_memory_stats(self.pointer)

    def profile(self) -> list[dict[str, Any]]:
        """name, calls, seconds and flops of each operation; zeros unless asked for."""
        with self._lock:
            return _native.session_profile(self.pointer)

    def close(self) -> None:
        """Free the session, after the run in progress and pending ones."""
        with self._lock, self._cancel_lock:
            self._resource = None  # waits for pending runs
            self._finish_pending()
