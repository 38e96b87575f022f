"""The allocator alone, through the C functions of tests/allocator/shim.h.

`load` builds the shim from the checkout, which takes seconds and needs nothing but a C++ compiler.
The environment variable VLT_ALLOCATOR_SHIM names a library built elsewhere, with sanitizers say.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_int32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
TARGET = "vlt_allocator_shim"
SOURCES = {"host": 0, "callbacks": 1}  # SHIM_HOST, SHIM_CALLBACKS


class Batch(NamedTuple):
    """The two numbers that sizes depend on."""

    tokens: int
    sequences: int


class Record(NamedTuple):
    """One buffer: alive from first_op to last_op, of constant + b·T + c·S bytes."""

    first_op: int
    last_op: int
    constant_bytes: int
    bytes_per_token: int
    bytes_per_sequence: int

    def bytes(self, batch: Batch) -> int:
        return (
            self.constant_bytes
            + self.bytes_per_token * batch.tokens
            + self.bytes_per_sequence * batch.sequences
        )

    def meets(self, other: Record) -> bool:
        """Is there an operation at which both are alive?"""
        return self.first_op <= other.last_op and other.first_op <= self.last_op


@dataclass(frozen=True)
class Plan:
    """One plan evaluated for B batches."""

    offsets: NDArray[np.uint64]  # [B, records]
    peaks: NDArray[np.uint64]  # [B]
    bounds: NDArray[np.uint64]  # [B] the most bytes alive at once
    planning_seconds: float
    evaluation_seconds: float  # of all batches together


class ArenaStats(ctypes.Structure):
    """shim_stats."""

    held_bytes: int
    peak_held_bytes: int
    system_allocations: int
    releases: int
    source_bytes: int
    source_calls: int

    _fields_ = [
        ("held_bytes", c_uint64),
        ("peak_held_bytes", c_uint64),
        ("system_allocations", c_uint64),
        ("releases", c_uint64),
        ("source_bytes", c_uint64),
        ("source_calls", c_uint64),
    ]


_RECORDS = [c_int32, POINTER(c_int32), POINTER(c_int32), *[POINTER(c_uint64)] * 3]

# name -> (result, arguments)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "shim_plan": (
        None,
        [
            *_RECORDS,
            *[c_uint64] * 3,  # alignment, typical batch
            c_int32,
            *[POINTER(c_uint64)] * 5,  # batches in; offsets, peaks, bounds out
            POINTER(c_double),
        ],
    ),
    "shim_most_tokens": (c_uint64, [*_RECORDS, *[c_uint64] * 3]),
    "shim_arena_create": (c_void_p, [c_int32, *[c_uint64] * 3]),
    "shim_arena_acquire": (c_void_p, [c_void_p, c_uint64]),
    "shim_arena_reserve": (c_int32, [c_void_p, c_uint64]),
    "shim_arena_stats": (None, [c_void_p, POINTER(ArenaStats)]),
    "shim_arena_granularity": (c_uint64, [c_void_p]),
    "shim_arena_free": (c_uint64, [c_void_p]),
}


class Arena:
    """One arena over a source that counts its bytes and refuses when told to.

    Parameters
    ----------
    source : {"host", "callbacks"}
        Pages of the host, which grow in place, or whole blocks from an allocator of the caller's.
    limit : int
        Bytes; 0 for none.
    fail_at : int
        The call to the source, counted from 1, from which on it refuses; 0 for never.
    fail_count : int
        How many calls in a row it refuses.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        source: str,
        limit: int = 0,
        fail_at: int = 0,
        fail_count: int = 0,
    ) -> None:
        self._library = library
        self._arena = library.shim_arena_create(SOURCES[source], limit, fail_at, fail_count)

    def acquire(self, num_bytes: int) -> int | None:
        """Address of the block; None where the source refuses."""
        address: int | None = self._library.shim_arena_acquire(self._arena, num_bytes)
        return address

    def reserve(self, num_bytes: int) -> bool:
        return bool(self._library.shim_arena_reserve(self._arena, num_bytes))

    @property
    def stats(self) -> ArenaStats:
        stats = ArenaStats()
        self._library.shim_arena_stats(self._arena, ctypes.byref(stats))
        return stats

    @property
    def granularity(self) -> int:
        return int(self._library.shim_arena_granularity(self._arena))

    def free(self) -> int:
        """End the arena; the bytes that its source still has out afterwards."""
        arena, self._arena = self._arena, None
        return int(self._library.shim_arena_free(arena))

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leaked = self.free()
        if error is None:
            assert leaked == 0, f"{leaked} bytes leaked"


class Shim:
    """The functions of shim.h with Python's types."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def plan(
        self, records: Sequence[Record], alignment: int, typical: Batch, batches: Sequence[Batch]
    ) -> Plan:
        """Plan `records` once, for the typical batch, and evaluate the plan for `batches`."""
        offsets = np.zeros((len(batches), len(records)), np.uint64)
        peaks, bounds = np.zeros((2, len(batches)), np.uint64)
        times = (c_double * 2)()
        self._library.shim_plan(
            *_columns(records),
            alignment,
            *typical,
            len(batches),
            _array([batch.tokens for batch in batches], c_uint64),
            _array([batch.sequences for batch in batches], c_uint64),
            *(out.ctypes.data_as(POINTER(c_uint64)) for out in (offsets, peaks, bounds)),
            times,
        )
        return Plan(offsets, peaks, bounds, *times)

    def most_tokens(
        self, records: Sequence[Record], alignment: int, num_bytes: int, sequences: int
    ) -> int:
        """The most tokens with which the plan of `records` stays within `num_bytes`."""
        return int(
            self._library.shim_most_tokens(*_columns(records), alignment, num_bytes, sequences)
        )

    def arena(self, source: str, limit: int = 0, fail_at: int = 0, fail_count: int = 0) -> Arena:
        """A new arena, see `Arena`."""
        return Arena(self._library, source, limit, fail_at, fail_count)


@cache
def load() -> Shim:
    """The shim: the library that VLT_ALLOCATOR_SHIM names, otherwise one built now."""
    override = os.environ.get("VLT_ALLOCATOR_SHIM")
    if override:
        return Shim(Path(override))
    with tempfile.TemporaryDirectory() as folder:  # a library that is loaded needs no file
        return Shim(build(Path(folder)))


def build(folder: Path) -> Path:
    """Build the shim from the checkout into `folder`; the library's path."""
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DVLT_BUILD_TESTS=ON"]
    for command in (configure, ["cmake", "--build", str(folder), "--target", TARGET]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / f"lib{TARGET}.so"


def _columns(records: Sequence[Record]) -> list[Any]:
    """The leading arguments of a function that takes records."""
    types = (c_int32, c_int32, c_uint64, c_uint64, c_uint64)
    columns = zip(*records, strict=True) if records else ((),) * len(types)
    return [len(records), *map(_array, columns, types)]


def _array(values: Sequence[int], kind: Any) -> Any:
    return (kind * len(values))(*values)
