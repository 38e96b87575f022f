"""Sessions as C callers have them: any option of vlt.h, and workspaces from the caller's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, c_uint64, c_void_p
from typing import Any

import numpy as np
from model_folders import VOCABULARY

from vlt import _native
from vlt.handles import Model
from vlt.packing import PackedIds

CONTEXT = 0x5EED  # what an allocator's functions are passed: never followed


class CallerMemory:
    """An embedder's allocator: counts, looks after its blocks, and refuses when told to."""

    GUARD = 64  # bytes on either side of a block that nobody may touch
    FILL = 0x5C

    def __init__(self, fail_at: int = 0, fail_count: int = 0) -> None:
        self.calls = 0  # to allocate
        self.blocks: dict[int, tuple[Any, int]] = {}  # address -> buffer around it, bytes
        self.complaints: list[str] = []  # an exception would be lost in the library
        self._refused = range(fail_at, fail_at + fail_count)
        self.struct = _native.sized(
            _native.VltAllocator,
            allocate=CFUNCTYPE(c_void_p, c_void_p, c_uint64, c_uint64)(self._allocate),
            release=CFUNCTYPE(None, c_void_p, c_void_p, c_uint64)(self._release),
            context=CONTEXT,
        )

    @property
    def num_bytes(self) -> int:
        """Out now."""
        return sum(size for _, size in self.blocks.values())

    def _allocate(self, context: int, num_bytes: int, alignment: int) -> int | None:
        self.calls += 1
        if context != CONTEXT:
            self.complaints.append(f"context {context}")
        if self.calls in self._refused:
            return None
        buffer = ctypes.create_string_buffer(num_bytes + alignment + 2 * self.GUARD)
        ctypes.memset(buffer, self.FILL, len(buffer))
        first = ctypes.addressof(buffer) + self.GUARD
        address = -(-first // alignment) * alignment
        self.blocks[address] = buffer, num_bytes
        return address

    def _release(self, context: int, address: int, num_bytes: int) -> None:
        _, size = self.blocks.pop(address, (None, None))
        if (context, num_bytes) != (CONTEXT, size):
            self.complaints.append(f"release of {address}: context {context}, {num_bytes} bytes")
            return
        for guard in (address - self.GUARD, address + num_bytes):
            if set(ctypes.string_at(guard, self.GUARD)) != {self.FILL}:
                self.complaints.append(f"bytes around {address} were written")


@contextmanager
def open_session(
    model: Model, num_threads: int = 1, limit: int = 0, memory: CallerMemory | None = None
) -> Iterator[c_void_p]:
    options = _native.sized(
        _native.VltSessionOptions, num_threads=num_threads, workspace_limit=limit
    )
    if memory is not None:
        allocator = _native.VltAllocator.from_buffer_copy(memory.struct)
        options.allocator = ctypes.pointer(allocator)
    session = c_void_p()
    create = _native.LIBRARY.vlt_session_create
    _native.check(create(model.pointer, ctypes.byref(options), ctypes.byref(session)))
    if memory is not None:
        ctypes.memset(ctypes.byref(allocator), 0, ctypes.sizeof(allocator))  # it was copied
    try:
        yield session
    finally:
        _native.LIBRARY.vlt_session_free(session)


def stats_of(session: c_void_p) -> dict[str, Any]:
    return _native.session_memory_stats(session)


def embed(model: Model, session: c_void_p, ids: PackedIds) -> bytes:
    """The embeddings as bytes, to be compared to the bit."""
    out = np.empty((len(ids), model.info["embedding_size"]), np.float32)
    batch = _native.host_batch(ids.values, ids.starts)
    _native.run(session, batch, _native.host_output(_native.OUTPUTS["embedding"], out))
    return out.tobytes()


def batch_of(lengths: Sequence[int]) -> PackedIds:
    starts = np.cumsum([0, *lengths], dtype=np.int32)
    return PackedIds(np.arange(starts[-1], dtype=np.int32) % len(VOCABULARY), starts)


def size_of(ids: PackedIds) -> tuple[int, int, int]:
    """Tokens, sequences and the longest sequence, as vlt_session_workspace_bytes takes them."""
    return len(ids.values), len(ids), int(max(ids.lengths, default=0))
