"""A progress bar on standard error for work that takes a while."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

BAR_WIDTH = 30
REDRAW_SECONDS = 0.1
PATIENCE_SECONDS = 1.0  # work shorter than this needs no bar


class ProgressBar:
    """`with ProgressBar(total, "texts") as bar: bar.update(done)`.

    Parameters
    ----------
    total : int or None
        What `update` counts up to; None where it is not known.
    unit : str
        What is counted.
    show : bool or None
        None: only on a terminal, and only once the work has taken a second.
    """

    def __init__(self, total: int | None, unit: str, show: bool | None = None) -> None:
        self._total = total
        self._unit = unit
        self._active = sys.stderr.isatty() if show is None else show
        self._start = time.monotonic()
        self._next_draw = self._start + (PATIENCE_SECONDS if show is None else 0.0)
        self._done = 0
        self._drawn = 0

    def update(self, done: int) -> None:
        """`done` of the total is finished; draws at most ten times a second."""
        self._done = done
        now = time.monotonic()
        if self._active and now >= self._next_draw:
            self._next_draw = now + REDRAW_SECONDS
            self._draw(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._draw(time.monotonic())
            print(file=sys.stderr)

    def _draw(self, now: float) -> None:
        line = self._line(now - self._start)
        print("\r" + line.ljust(self._drawn), end="", file=sys.stderr, flush=True)
        self._drawn = len(line)

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds if seconds > 0 else 0.0
        speed = f"{rate:,.0f} {self._unit}/s"
        if not self._total:
            return f"{self._done:,} {self._unit}, {speed}"
        share = min(self._done / self._total, 1.0)
        bar = ("#" * int(share * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
        line = f"{share:4.0%} [{bar}] {self._done:,} of {self._total:,} {self._unit}, {speed}"
        left = self._total - self._done
        return f"{line}, {left / rate:,.0f} s left" if rate > 0 and left > 0 else line
