"""Owners of the library's handles: freed once, one thread at a time, stopped by Ctrl-C."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from . import _native
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from .packing import PackedIds

# Python's signal handlers wait while the main thread is inside the library. A run of more than
# this many floating-point operations (0.05 s at 100 GFLOP/s) therefore moves to a thread of its
# own, which costs about 0.1 ms, and the main thread stays ready for Ctrl-C.
INTERRUPTIBLE_FLOPS = 5e9

# How long to wait before cancelling again: a cancel that comes before the run starts is lost.
CANCEL_SECONDS = 0.02


class Handle:
    """Owns one handle of the library and frees it once: on `close` or when collected."""

    def __init__(self, pointer: Any, free: Callable[[Any], None]) -> None:
        self._pointer = pointer
        self._lock = threading.Lock()  # one call at a time, and none while the handle is freed
        self._finalizer = weakref.finalize(self, free, pointer)
        # At exit the system takes the memory; a daemon thread may still be running on it.
        self._finalizer.atexit = False

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    @property
    def pointer(self) -> Any:
        if self.closed:
            raise InvalidArgumentError(f"this {type(self).__name__.lower()} is closed")
        return self._pointer

    def close(self) -> None:
        """Free the handle, after the call in progress. Closing twice is harmless."""
        with self._lock:
            self._finalizer()


class Model(Handle):
    """Weights prepared for one device; any number of threads may share them.

    Parameters
    ----------
    source : str or [bytes] uint8
        Path of a weights file, or the bytes of one.
    device : str
        "auto", "cpu", "cuda" or "cuda:1".
    dtype : str
        Type of the matrix products: "auto", "float32", "float16", "bfloat16".
    """

    def __init__(
        self, source: str | NDArray[np.uint8], device: str = "auto", dtype: str = "auto"
    ) -> None:
        pointer = _native.model_load(source, parse_device(device), lookup("dtype", dtype))
        super().__init__(pointer, _native.LIBRARY.vlt_model_free)
        self.info = _native.model_info(pointer)
        self.metadata = _native.model_metadata(pointer)

    def tokenizer(self) -> bytes | None:
        """The tokenizer.json inside the weights file; None where the file has none."""
        with self._lock:
            return _native.model_tokenizer(self.pointer)


class Session(Handle):
    """One stream of work and its workspace. Calls from several threads take turns.

    Parameters
    ----------
    model : Model
        The weights; they stay alive as long as the session does.
    num_threads : int, optional
        None: every core this process may use.
    workspace_limit : int, optional
        Bytes; a batch that needs more is run in parts. None: no limit.
    profile : bool
        Measure every operation, see `profile`.
    """

    def __init__(
        self,
        model: Model,
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        profile: bool = False,
    ) -> None:
        threads = 0 if num_threads is None else checked("num_threads", num_threads, 1)
        limit = 0
        if workspace_limit is not None:
            limit = checked("workspace_limit", workspace_limit, 1, _native.INT64_MAX)
        pointer = _native.session_create(model.pointer, threads, limit, profile)
        super().__init__(pointer, _native.LIBRARY.vlt_session_free)
        self._cancel_lock = threading.Lock()  # no cancel while the handle is being freed
        self._flops_per_token = model.info["weight_bytes"] / 2  # 4 bytes: a product and a sum

    def run(
        self,
        ids: PackedIds,
        output: str,
        out: NDArray[np.float32],
        token_types: NDArray[np.int32] | None = None,
        pooling_starts: NDArray[np.int32] | None = None,
    ) -> None:
        """Run one batch and write `out`: [T, H] for "hidden", [S, D] for "embedding".

        On the main thread Ctrl-C stops a long run and raises KeyboardInterrupt.
        """

        def call() -> None:
            with self._lock:
                _native.run(
                    self.pointer,
                    ids.values,
                    ids.starts,
                    token_types,
                    pooling_starts,
                    _native.OUTPUTS[output],
                    out,
                )

        long = len(ids.values) * self._flops_per_token > INTERRUPTIBLE_FLOPS
        if long and threading.current_thread() is threading.main_thread():
            run_interruptibly(call, self.cancel)
        else:
            call()

    def cancel(self) -> None:
        """Make the run in progress raise CancelledError soon. From any thread."""
        with self._cancel_lock:
            if not self.closed:
                _native.check(_native.LIBRARY.vlt_session_cancel(self._pointer))

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
        """Free the session, after the run in progress."""
        with self._lock, self._cancel_lock:
            self._finalizer()


def run_interruptibly(call: Callable[[], None], cancel: Callable[[], None]) -> None:
    """Run `call` on another thread; an exception in this one, Ctrl-C above all, cancels it."""
    worker = ThreadPoolExecutor(1, thread_name_prefix="vlt-run")
    try:
        run = worker.submit(call)
    except RuntimeError:  # no room for a thread; better a run that Ctrl-C has to wait for
        call()
        return
    try:
        run.result()
    except BaseException:
        while not run.done():
            cancel()
            wait([run], CANCEL_SECONDS)
        raise
    finally:
        worker.shutdown(wait=False)


def parse_device(device: str) -> tuple[int, int]:
    """(type, index) of "auto", "cpu", "cuda" or "cuda:1"."""
    name, colon, index = str(device).partition(":")
    if name not in _native.DEVICES or (colon and not index.isdecimal()):
        raise InvalidArgumentError(
            f'device must be "auto", "cpu", "cuda" or "cuda:" and an index, not {device!r}'
        )
    number = checked("the device's index", int(index), 0) if colon else 0
    return _native.DEVICES[name], number


def lookup(what: str, name: str, names: Mapping[str, int] = _native.DTYPES) -> int:
    """The number of a name, or an error that lists the names."""
    if name not in names:
        raise InvalidArgumentError(f"{what} must be {', '.join(map(repr, names))}, not {name!r}")
    return names[name]


def checked(name: str, value: int, low: int, high: int = _native.INT32_MAX) -> int:
    """`value` as an int within bounds: ctypes would drop the bits that do not fit."""
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
