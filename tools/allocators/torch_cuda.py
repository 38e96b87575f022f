"""PyTorch's caching allocator itself, on a GPU: the buffers as tensors, in a process of its own.

Nothing else allocates there, so its counters are the trace's. A tensor is deleted after its last
operation, as a program without a graph of its own would do it; no kernel runs.
"""

from __future__ import annotations

import bisect
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from allocator_shim import Batch, Record

from allocators.outcome import Outcome
from allocators.records import num_operations

UNIT = "allocator calls"


def missing() -> str:
    """Why it cannot run here; '' where it can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    return "" if torch.cuda.is_available() else "torch finds no CUDA device"


def replay(records: Sequence[Record], requests: Sequence[Batch]) -> list[Outcome]:
    """The requests one after the other; a request spans the segments in which it had a tensor."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_replay, list(records), list(requests)).result()


def _replay(records: list[Record], requests: list[Batch]) -> list[Outcome]:
    import torch

    torch.cuda.init()
    outcomes = []
    for request in requests:
        torch.cuda.reset_peak_memory_stats()
        before = _segments_taken(torch)
        addresses = _run(torch, records, request)
        outcomes.append(
            Outcome(
                _spanned(torch.cuda.memory_snapshot(), addresses),
                torch.cuda.max_memory_reserved(),
                _segments_taken(torch) - before,
                2 * len(records),
            )
        )
    retries = torch.cuda.memory_stats()["num_alloc_retries"]
    if retries:
        raise MemoryError(
            f"the device ran out of memory {retries} times, so segments were given back; the trace "
            "needs a device that nobody else fills"
        )
    return outcomes


def _segments_taken(torch: Any) -> int:
    """How often memory was asked from the driver."""
    return int(torch.cuda.memory_stats().get("segment.all.allocated", 0))


def _run(torch: Any, records: list[Record], request: Batch) -> list[int]:
    """One request; the addresses its tensors had."""
    alive: dict[int, Any] = {}
    addresses = []
    for operation in range(num_operations(records)):
        for index, record in enumerate(records):
            if record.first_op == operation:
                tensor = torch.empty(record.bytes(request), dtype=torch.uint8, device="cuda")
                alive[index] = tensor
                addresses.append(tensor.data_ptr())
                del tensor  # a name that is left would keep the last one
        for index, record in enumerate(records):
            if record.last_op == operation:
                del alive[index]
    return addresses


def _spanned(segments: list[dict[str, Any]], addresses: list[int]) -> int:
    """Bytes of all segments that hold one of the addresses."""
    segments = sorted(segments, key=lambda segment: segment["address"])
    begins = [segment["address"] for segment in segments]
    used = {bisect.bisect_right(begins, address) - 1 for address in addresses}
    return sum(int(segments[index]["total_size"]) for index in used)
