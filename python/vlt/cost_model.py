"""What packed batches cost: a model of three numbers, fitted to a device by timing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from . import _native_scheduling
from .arguments import checked_seconds
from .timing import time_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Self

    from .token_encoder import TokenEncoder

# (sequences, length), from little work to much: alone and together, short and long, so that the
# three numbers can be told apart. 2,700 tokens in all, of which MiniLM does 16,000 a second on two
# cores. A model's longest input may cut lengths.
SHAPES = ((1, 8), (1, 32), (8, 16), (1, 128), (32, 10), (3, 128), (1, 512), (24, 32), (2, 512))
FEWEST_SHAPES = 3  # with a slow device the rest is left out


class CostPoint(NamedTuple):
    """A packed batch of these lengths took so long."""

    lengths: Sequence[int]
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """A packed batch of lengths L takes base + per_token·ΣL + per_square·ΣL² seconds."""

    base: float
    per_token: float
    per_square: float = 0.0

    def __post_init__(self) -> None:
        for name in ("base", "per_token", "per_square"):
            checked_seconds(name, getattr(self, name))

    def seconds(self, lengths: Iterable[int]) -> float:
        """What a packed batch of these lengths takes."""
        added = sum(self.per_token * n + self.per_square * n * n for n in lengths)
        return self.base + added

    @classmethod
    def fit(cls, points: Iterable[tuple[Sequence[int], float]]) -> Self:
        """The model of least relative squared error, none of its numbers negative.

        Parameters
        ----------
        points : iterable of CostPoint, or (lengths, seconds)
            At least one. What they do not tell apart is left at zero: measure batches of
            different sizes and lengths.

        Raises
        ------
        InvalidArgumentError
            No points, or a time that is not above 0.
        """
        sums = [(sum(ns), sum(n * n for n in ns), seconds) for ns, seconds in points]
        return cls(*_native_scheduling.cost_model_fit(sums))

    @classmethod
    def measure(cls, encoder: TokenEncoder, seconds: float = 1.0) -> Self:
        """Time batches on the encoder's device, and fit.

        Parameters
        ----------
        encoder : Encoder, or any other class on a weights file
        seconds : float
            About how long it may take. A device that needs more for one batch of each shape gets
            fewer shapes, three at least.
        """
        longest = encoder.max_length
        shapes = [(count, min(length, longest)) for count, length in SHAPES]
        times = time_batches(encoder, shapes, seconds, FEWEST_SHAPES)
        points = zip(shapes, times, strict=False)
        return cls.fit(CostPoint([length] * count, took) for (count, length), took in points)
