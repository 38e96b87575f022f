"""A batch in device memory, and its plan as Python makes it: what plan_batch() is held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from gpu import native

QUERY_GROUP = 64  # queries that stay together: kQueryGroup
Item = tuple[int, int, int, int]  # first row, length, first query, query behind the last


@dataclass(frozen=True)
class Batch:
    """The header that kernels read, and the arrays it points to."""

    header: torch.Tensor  # the bytes of a BatchHeader
    arrays: tuple[torch.Tensor, ...]  # held as long as the header

    @classmethod
    def of(
        cls,
        starts: Sequence[int],
        device: torch.device,
        *,
        num_tokens: int | None = None,
        token_ids: torch.Tensor | None = None,
        token_types: torch.Tensor | None = None,
        pooling_starts: Sequence[int] | None = None,
        chosen_tokens: Sequence[int] | None = None,
    ) -> Batch:
        """A batch with these sequence starts [S + 1]; num_tokens is by default the last of them."""
        starts_there = _int32(starts, device)
        pooling_there = None if pooling_starts is None else _int32(pooling_starts, device)
        chosen_there = None if chosen_tokens is None else _int32(chosen_tokens, device)
        header = native.BatchHeader(
            num_tokens=starts[-1] if num_tokens is None else num_tokens,
            num_sequences=len(starts) - 1,
            num_chosen=0 if chosen_tokens is None else len(chosen_tokens),
            token_ids=None if token_ids is None else token_ids.data_ptr(),
            token_types=None if token_types is None else token_types.data_ptr(),
            sequence_starts=starts_there.data_ptr(),
            pooling_starts=None if pooling_there is None else pooling_there.data_ptr(),
            chosen_tokens=None if chosen_there is None else chosen_there.data_ptr(),
        )
        arrays = (token_ids, token_types, starts_there, pooling_there, chosen_there)
        return cls(
            torch.frombuffer(bytearray(header), dtype=torch.uint8).to(device),
            tuple(array for array in arrays if array is not None),
        )


@dataclass(frozen=True)
class Plan:
    """A BatchState and its lists of items, in device memory."""

    state: torch.Tensor  # [9] int32, a BatchState
    short_items: torch.Tensor  # [n, 4] int32
    long_items: torch.Tensor  # [n, 4] int32
    max_sequences: int

    @classmethod
    def of(
        cls, lengths: Sequence[int], query_tile: int, device: torch.device, num_chosen: int = 0
    ) -> Plan:
        """The plan of sequences of these lengths, made here and uploaded."""
        shorts, longs = items_of(lengths, query_tile)
        begins = list(accumulate((len(group) for group in shorts), initial=0))
        flat = [item for group in shorts for item in group]
        return cls(
            _int32([sum(lengths), len(lengths), num_chosen, *begins, len(longs)], device),
            _items(flat, device),
            _items(sorted(longs, key=lambda item: -item[1]), device),
            len(lengths),
        )

    @classmethod
    def poisoned(cls, max_tokens: int, max_sequences: int, device: torch.device) -> Plan:
        """Room for a plan that plan_batch() may write, and 8 items more, all of them poison."""
        poison = 0x7FC5A5A5

        def room(rows: int) -> torch.Tensor:
            return torch.full((rows + 8, 4), poison, dtype=torch.int32, device=device)

        state = torch.full((9,), poison, dtype=torch.int32, device=device)
        return cls(state, room(max_sequences), room(max_tokens // 32), max_sequences)


def starts_of(lengths: Iterable[int]) -> list[int]:
    return list(accumulate(lengths, initial=0))


def items_of(lengths: Sequence[int], query_tile: int) -> tuple[list[list[Item]], list[Item]]:
    """Short items by class, and long items, in the order of the batch; none of empty sequences."""
    limits = native.SHORT_LIMITS
    shorts: list[list[Item]] = [[] for _ in limits]
    longs: list[Item] = []
    for first, length in zip(starts_of(lengths), lengths, strict=False):
        if length > limits[-1]:
            groups, count = -(-length // QUERY_GROUP), -(-length // query_tile)
            sizes = [groups // count + (i < groups % count) for i in range(count)]
            bounds = [min(length, end * QUERY_GROUP) for end in accumulate(sizes, initial=0)]
            longs += [(first, length, *queries) for queries in pairwise(bounds)]
        elif length > 0:
            number = next(c for c, limit in enumerate(limits) if length <= limit)
            shorts[number].append((first, length, 0, length))
    return shorts, longs


def _items(items: Sequence[Item], device: torch.device) -> torch.Tensor:
    rows = list(items) or [(0, 0, 0, 0)]  # never a null pointer
    return _int32(rows, device)


def _int32(values: Sequence[object], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32).to(device)
