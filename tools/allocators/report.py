"""What a replay shows: the figures of each allocator, and whether vlt keeps its promises."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from allocators.outcome import Outcome

MIB = 1 << 20
# A request's memory is back to its size when at most this multiple of what it needs is held.
SETTLED = 1.5
# What a planned peak may be above the most live bytes, beside the alignment of one offset.
PEAK_SLACK = 1.01
HEADER = (
    "trace",
    "allocator",
    "plan / bound",
    "worst",
    "held MiB",
    "at the end",
    "after it",
    "settled",
    "allocations",
    "steady",
    "steps",
)
LEGEND = """\
plan / bound: bytes of all blocks that a request's buffers lie in, over the most of its bytes alive
at once; mean and worst over the requests. held MiB: from the system while a request runs, the mean
and at the end of the trace. after it: the worst of held / bound after the spike. settled: requests
after it until held is at most 1.5 times the bound. allocations: from the system, in all and in the
second half of the trace (steady). steps: what deciding costs a request, in a unit of its own."""


@dataclass(frozen=True)
class Replay:
    """One allocator on one trace: what it did beside the most live bytes of each request."""

    trace: str
    allocator: str
    bounds: Sequence[int]
    outcomes: Sequence[Outcome]

    @property
    def plan_ratios(self) -> list[float]:
        return [o.spanned / bound for o, bound in zip(self.outcomes, self.bounds, strict=True)]

    @property
    def held_after_largest(self) -> list[float]:
        """Held over needed, of each request after the one that needed most."""
        largest = max(range(len(self.bounds)), key=self.bounds.__getitem__)
        pairs = zip(self.outcomes[largest + 1 :], self.bounds[largest + 1 :], strict=True)
        return [outcome.held / bound for outcome, bound in pairs]

    @property
    def requests_to_settle(self) -> int | None:
        """How many requests after the largest hold more than SETTLED times what they need.

        Counted up to the first that does not; None where all of them do.
        """
        ratios = enumerate(self.held_after_largest)
        return next((index for index, ratio in ratios if ratio <= SETTLED), None)

    @property
    def system_allocations(self) -> int:
        return sum(outcome.system_allocations for outcome in self.outcomes)

    @property
    def steady_allocations(self) -> int:
        """System allocations in the second half of the trace."""
        return sum(o.system_allocations for o in self.outcomes[len(self.outcomes) // 2 :])

    def row(self) -> list[str]:
        """The cells under HEADER."""
        held = [outcome.held / MIB for outcome in self.outcomes]
        return [
            self.trace,
            self.allocator,
            f"{statistics.mean(self.plan_ratios):.2f}",
            f"{max(self.plan_ratios):.2f}",
            f"{statistics.mean(held):,.1f}",
            f"{held[-1]:,.1f}",
            *self._recovery(),
            f"{self.system_allocations:,}",
            f"{self.steady_allocations:,}",
            f"{statistics.mean(outcome.steps for outcome in self.outcomes):,.0f}",
        ]

    def _recovery(self) -> list[str]:
        if self.trace != "spike":
            return ["", ""]
        settled = self.requests_to_settle
        return [
            f"{max(self.held_after_largest):.0f}",
            "never" if settled is None else f"{settled}",
        ]


def broken_promises(vlt: Replay, turbo: Replay, alignment: int) -> list[str]:
    """What of the following does not hold; empty where all does.

    The planned peak of every request is at most PEAK_SLACK times its most live bytes and one
    alignment more, and never above the chunks that TurboTransformers' allocator plans for it.
    """
    broken = []
    for index, (ours, theirs) in enumerate(zip(vlt.outcomes, turbo.outcomes, strict=True)):
        limit = PEAK_SLACK * vlt.bounds[index] + alignment
        where = f"{vlt.trace}, request {index}: planned {ours.spanned:,} bytes"
        if ours.spanned > limit:
            broken.append(f"{where}; the most live bytes allow {limit:,.0f}")
        if ours.spanned > theirs.spanned:
            broken.append(f"{where}; TurboTransformers' chunks have {theirs.spanned:,}")
    return broken


def markdown(replays: Sequence[Replay]) -> str:
    """The figures as a table whose columns line up in a terminal too."""
    rows = [list(HEADER), *(replay.row() for replay in replays)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rules = [
        "-" * width if index < 2 else "-" * (width - 1) + ":" for index, width in enumerate(widths)
    ]
    lines = [
        " | ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [rows[0], rules, *rows[1:]]
    ]
    return "\n".join(f"| {line} |" for line in lines)
