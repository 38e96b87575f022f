"""The bridge to libvlt's scheduler and its costs; everything else of it is in `_native.py`.

The structs are declared there too, in the order of vlt.h.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_int32, c_int64, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np

from ._native import (
    LIBRARY,
    VltCostModel,
    VltCostPoint,
    VltPaddedCosts,
    VltRequest,
    VltSchedulerOptions,
    VltSchedulerStats,
    as_dict,
    check,
    pointer_to,
    sized,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def cost_model_fit(points: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """(base, per_token, per_square) that fit points of (tokens, squares, seconds) best."""
    known = (VltCostPoint * len(points))(*(VltCostPoint(*point) for point in points))
    model = sized(VltCostModel)
    check(LIBRARY.vlt_cost_model_fit(known, len(points), ctypes.byref(model)))
    return model.base, model.per_token, model.per_square


def padded_costs(
    lengths: NDArray[np.int32], batch_sizes: NDArray[np.int32], seconds: NDArray[np.float64]
) -> Any:
    """A vlt_padded_costs that refers to the three contiguous arrays and keeps them alive."""
    return sized(
        VltPaddedCosts,
        num_lengths=len(lengths),
        lengths=pointer_to(lengths),
        num_batch_sizes=len(batch_sizes),
        batch_sizes=pointer_to(batch_sizes),
        seconds=seconds.ctypes.data_as(POINTER(c_double)),
    )


def padded_seconds(costs: Any, length: int, batch_size: int) -> float:
    """What a padded batch costs by the table."""
    seconds = c_double()
    check(
        LIBRARY.vlt_padded_seconds(ctypes.byref(costs), length, batch_size, ctypes.byref(seconds))
    )
    return seconds.value


def plan_padded(
    costs: Any, lengths: NDArray[np.int32], max_requests: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(order, ends) of the cheapest padded batches."""
    order, ends = np.empty_like(lengths), np.empty_like(lengths)
    count = c_int32()
    check(
        LIBRARY.vlt_plan_padded(
            ctypes.byref(costs),
            pointer_to(lengths),
            len(lengths),
            max_requests,
            pointer_to(order),
            pointer_to(ends),
            ctypes.byref(count),
        )
    )
    return order, ends[: count.value]


def scheduler_create(
    cost: tuple[float, float, float],
    policy: int,
    max_tokens: int,
    max_requests: int,
    max_wait: float,
    linger: float,
) -> c_void_p:
    """A scheduler; `cost` is (base, per_token, per_square)."""
    model = sized(VltCostModel, base=cost[0], per_token=cost[1], per_square=cost[2])
    options = sized(
        VltSchedulerOptions,
        policy=policy,
        cost=ctypes.pointer(model),
        max_tokens=max_tokens,
        max_requests=max_requests,
        max_wait=max_wait,
        linger=linger,
    )
    scheduler = c_void_p()
    check(LIBRARY.vlt_scheduler_create(ctypes.byref(options), ctypes.byref(scheduler)))
    return scheduler


def scheduler_add(
    scheduler: c_void_p,
    request: int,
    length: int,
    arrival: float,
    priority: int,
    time_left: float,
) -> None:
    """Have a request wait; `time_left` 0 is no limit."""
    given = sized(
        VltRequest,
        priority=priority,
        request=request,
        length=length,
        arrival=arrival,
        time_left=time_left,
    )
    check(LIBRARY.vlt_scheduler_add(scheduler, ctypes.byref(given)))


def scheduler_remove(scheduler: c_void_p, request: int) -> bool:
    """Was it waiting? It is no more."""
    removed = c_int32()
    check(LIBRARY.vlt_scheduler_remove(scheduler, request, ctypes.byref(removed)))
    return removed.value == 1


def scheduler_next_batch(scheduler: c_void_p, now: float, capacity: int) -> list[int]:
    """The requests to run now, at most `capacity`."""
    batch = (c_int64 * capacity)()
    count = c_int32(capacity)
    check(LIBRARY.vlt_scheduler_next_batch(scheduler, now, batch, ctypes.byref(count)))
    return batch[: count.value]


def scheduler_wake_at(scheduler: c_void_p) -> float:
    """When next_batch has a batch; infinite with nothing waiting, minus infinity at any time."""
    when = c_double()
    check(LIBRARY.vlt_scheduler_wake_at(scheduler, ctypes.byref(when)))
    return when.value


def scheduler_stats(scheduler: c_void_p) -> dict[str, Any]:
    """The fields of vlt_scheduler_stats."""
    stats = sized(VltSchedulerStats)
    check(LIBRARY.vlt_scheduler_get_stats(scheduler, ctypes.byref(stats)))
    return as_dict(stats)
