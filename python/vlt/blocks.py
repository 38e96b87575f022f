"""Long lists of texts in blocks, the next one prepared while the current one is encoded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from .packing import PackedIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Int32Array = NDArray[np.int32]

# On the CPU about 8,000 tokens of English: enough for every core, and a second or less of work on
# two cores with a small model, so that the bar moves and Ctrl-C acts. A GPU takes eight times as
# many, with which its kernels reach their full rates.
BLOCK_CHARACTERS = {"cpu": 32_768, "cuda": 262_144}
# What a text counts beside its characters, so that empty texts fill a block too.
TEXT_OVERHEAD = 16
# Texts longer than this many characters a token get truncated; the rest costs next to nothing.
CHARACTERS_PER_TOKEN = 4
# Outputs as wide as the vocabulary are made for so many numbers at a time: 64 MiB.
MOST_NUMBERS = 1 << 24

Item = TypeVar("Item")
Result = TypeVar("Result")


def split_texts(texts: Sequence[Any], max_length: int, device_type: str = "cpu") -> list[slice]:
    """Slices of consecutive blocks of about equal work; none for no texts."""
    longest = CHARACTERS_PER_TOKEN * max_length
    enough = BLOCK_CHARACTERS[device_type]
    bounds = [0]
    size = 0
    for index, text in enumerate(texts):
        characters = len(text) if isinstance(text, str) else sum(map(len, text))
        size += min(characters, longest) + TEXT_OVERHEAD
        if size >= enough:
            bounds.append(index + 1)
            size = 0
    if bounds[-1] != len(texts):
        bounds.append(len(texts))
    return [slice(*ends) for ends in pairwise(bounds)]


def prefetch(prepare: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`prepare(item)` of each item, in order; one runs ahead of the caller in another thread."""
    if len(items) <= 1:
        yield from map(prepare, items)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="vlt-tokenize") as worker:
        pending = worker.submit(prepare, items[0])
        for item in items[1:]:
            result = pending.result()
            pending = worker.submit(prepare, item)
            yield result
        yield pending.result()


def parts_of(
    ids: PackedIds, types: Int32Array | None, weights: Sequence[int], most: int
) -> Iterator[tuple[slice, PackedIds, Int32Array | None]]:
    """Consecutive sequences whose weights add up to no more than `most`; one at least."""
    bounds, total = [0], 0
    for index, weight in enumerate(weights):
        if total + weight > most and index > bounds[-1]:
            bounds.append(index)
            total = 0
        total += weight
    if len(weights):
        bounds.append(len(weights))
    for begin, end in pairwise(bounds):
        first, last = ids.starts[begin], ids.starts[end]
        part = PackedIds(ids.values[first:last], ids.starts[begin : end + 1] - first)
        yield slice(begin, end), part, None if types is None else types[first:last]
