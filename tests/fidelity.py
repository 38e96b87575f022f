"""How far from the truth a result may be, and how a failure is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# What a float32 program may lose, in units of what PyTorch loses on the same work. Two programs
# that round differently differ by chance in the worst of thousands of errors, hardly in the mean.
RMS_FACTOR = 1.25
WORST_FACTOR = 2.0


@dataclass(frozen=True)
class Loss:
    """Root mean square and largest absolute error of a computation."""

    rms: float
    worst: float

    def scaled(self, rms_factor: float, worst_factor: float) -> Loss:
        return Loss(self.rms * rms_factor, self.worst * worst_factor)


def measure(actual: npt.NDArray[Any], exact: npt.NDArray[Any]) -> Loss:
    """The loss of `actual` against float64 values of the same shape."""
    if actual.size == 0:
        return Loss(0.0, 0.0)
    error = actual.astype(np.float64) - exact
    return Loss(float(np.sqrt(np.mean(error**2))), float(np.abs(error).max()))


def require_within(
    actual: npt.NDArray[Any],
    exact: npt.NDArray[Any],
    bound: Loss,
    name: str,
    positions: npt.NDArray[np.int64] | None = None,
    row_length: int | None = None,
) -> None:
    """Fail where `actual` loses more than `bound`; the message has all that a search needs.

    Parameters
    ----------
    actual, exact
        Values of the same shape, the exact ones in float64.
    positions, row_length
        For values picked from a larger array [rows, row_length]: where in it, flattened, they were.
    """
    assert actual.shape == exact.shape, f"{name}: shape {actual.shape}, not {exact.shape}"
    loss = measure(actual, exact)
    if loss.rms <= bound.rms and loss.worst <= bound.worst:
        return
    # A NaN is worse than any number.
    error = np.abs(actual.astype(np.float64) - exact)
    flat = int(np.where(np.isnan(error), np.inf, error).argmax())
    place = flat if positions is None else int(positions[flat])
    row, column = divmod(place, row_length or actual.shape[-1])
    raise AssertionError(
        f"{name}: rms error {loss.rms:.4g} (at most {bound.rms:.4g}), "
        f"worst {loss.worst:.4g} (at most {bound.worst:.4g}); worst at row {row}, column {column}: "
        f"{actual.flat[flat]!r}, exactly {exact.flat[flat]!r}"
    )
