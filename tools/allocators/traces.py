"""Requests in the order in which a server could see them: T tokens of S sequences each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from allocator_shim import Batch

SEED = 20201123
WORKLOADS = Path(__file__).parents[1] / "workloads.json"
# Encoders with a position table, as those of records.MODELS, take no longer sequences.
LONGEST = 512


def uniform(count: int = 1000) -> list[Batch]:
    """One sequence a request, its length uniform from 5 to 500: TurboTransformers' own test."""
    rng = np.random.default_rng(SEED)
    return [Batch(int(length), 1) for length in rng.integers(5, 501, count)]


def alternating(count: int = 400) -> list[Batch]:
    """One sequence a request, a question of 20 tokens and a document of 500 in turns."""
    return [Batch(length, 1) for length in (20, 500) * (count // 2)]


def spike(count: int = 200) -> list[Batch]:
    """Requests of 16 short texts, 12 to 36 tokens each; a quarter in, one of 64 x 512 tokens."""
    rng = np.random.default_rng(SEED)
    requests = [Batch(int(rng.integers(12, 37, 16).sum()), 16) for _ in range(count)]
    requests[count // 4] = Batch(64 * 512, 64)
    return requests


def workloads(count: int | None = None, batch: int = 16) -> list[Batch]:
    """Every workload of tools/workloads.json in the file's order, in batches; `count` of them."""
    requests = []
    for workload in json.loads(WORKLOADS.read_text(encoding="utf-8")).values():
        lengths = workload["lengths"]
        if max(lengths) > LONGEST:
            continue
        parts = [lengths[start : start + batch] for start in range(0, len(lengths), batch)]
        requests += [Batch(sum(part), len(part)) for part in parts]
    return requests[:count]


TRACES: dict[str, Callable[[], list[Batch]]] = {
    "uniform": uniform,
    "alternating": alternating,
    "spike": spike,
    "workloads": workloads,
}
