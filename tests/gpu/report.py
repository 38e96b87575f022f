"""Checks of many cases in one test, whose failures are told together."""

from __future__ import annotations

from types import TracebackType

import torch
from gpu.guarded import Guarded

# What a kernel may lose, in units of what PyTorch loses on the same work in the same precision. Two
# programs that round differently differ by chance in the worst of many errors, hardly in the mean.
RMS_FACTOR = 1.25
WORST_FACTOR = 2.0
MOST_TOLD = 15

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Report:
    """Collects failures; as a context manager it raises them all at the end."""

    def __init__(self) -> None:
        self._failures: list[str] = []
        self._checks = 0

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told = "\n".join(self._failures[:MOST_TOLD])
        if kind is not None:
            if told:
                print(f"before the exception:\n{told}")
            return
        assert self._checks > 0, "no case was checked"
        assert not self._failures, (
            f"{len(self._failures)} of {self._checks} checks failed, the first ones:\n{told}"
        )

    def require(self, case: str, holds: bool, message: str) -> bool:
        self._checks += 1
        if not holds:
            self._failures.append(f"  {case}: {message}")
        return holds

    def within(
        self, case: str, actual: torch.Tensor, exact: torch.Tensor, bound: torch.Tensor
    ) -> bool:
        """|actual - exact| <= bound, element by element; NaN is worse than any number."""
        if actual.shape != exact.shape:
            return self.require(case, False, f"shape {actual.shape}, not {exact.shape}")
        if actual.numel() == 0:
            return self.require(case, True, "")
        excess = _error(actual, exact) / bound
        worst = float(excess.max())
        if worst <= 1:
            return self.require(case, True, "")
        place = _place(excess)
        return self.require(
            case,
            False,
            f"{worst:.3g} times the bound at {list(place)}: {float(actual[place])!r}, exactly "
            f"{float(exact[place])!r}; {int((excess > 1).sum())} of {excess.numel()} beyond",
        )

    def no_worse_than(
        self, case: str, actual: torch.Tensor, peer: torch.Tensor, exact: torch.Tensor
    ) -> bool:
        """The errors of `actual` are like those of `peer`, PyTorch's result in this precision."""
        ours, theirs = _error(actual, exact), _error(peer, exact)
        rms, peer_rms = (float(error.square().mean().sqrt()) for error in (ours, theirs))
        worst, peer_worst = float(ours.max()), float(theirs.max())
        place = _place(ours)
        return self.require(
            case,
            rms <= RMS_FACTOR * peer_rms and worst <= WORST_FACTOR * peer_worst,
            f"error against PyTorch's: rms {rms:.3g} / {peer_rms:.3g} (at most {RMS_FACTOR} "
            f"times), worst {worst:.3g} / {peer_worst:.3g} (at most {WORST_FACTOR} times) at "
            f"{list(place)}: {float(actual[place])!r}, exactly {float(exact[place])!r}",
        )

    def same_bits(self, case: str, actual: torch.Tensor, expected: torch.Tensor) -> bool:
        if actual.shape != expected.shape:
            return self.require(case, False, f"shape {actual.shape}, not {expected.shape}")
        differ = _bits(actual) != _bits(expected)
        if not bool(differ.any()):
            return self.require(case, True, "")
        place = _place(differ.to(torch.uint8))
        return self.require(
            case,
            False,
            f"{int(differ.sum())} of {differ.numel()} bit patterns differ, first at {list(place)}: "
            f"{float(actual[place])!r}, not {float(expected[place])!r}; largest difference "
            f"{float(_error(actual, expected.double()).max()):.3g}",
        )

    def intact(self, case: str, guarded: Guarded, rows: int | None = None) -> bool:
        """Nothing was written outside the first `rows` rows of a guarded matrix."""
        damage = guarded.damage(rows)
        return self.require(case, not damage, damage)


def _error(actual: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Absolute errors in float64; infinite where `actual` is NaN."""
    return (actual.double() - exact).abs_().nan_to_num_(nan=torch.inf, posinf=torch.inf)


def _place(values: torch.Tensor) -> tuple[int, ...]:
    """Index of the first largest value."""
    flat, place = int(values.argmax()), []
    for size in reversed(values.shape):
        flat, index = divmod(flat, size)
        place.append(index)
    return tuple(reversed(place))


def _bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view(_INTEGERS[values.element_size()])
