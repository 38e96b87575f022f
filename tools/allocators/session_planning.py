"""What planning costs a run of vlt: its schedule and the layout of its workspace."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from model_folders import write_bert_folder

import vlt

LENGTHS = (128,) * 16


class Planning(NamedTuple):
    """Of one run, the median over `runs`."""

    num_sequences: int
    num_tokens: int
    runs: int
    planning_seconds: float
    run_seconds: float


def measure(threads: int, runs: int = 7) -> Planning:
    """BERT-base with random weights on 16 sequences of 128 tokens.

    Writes about 1 GB of temporary files.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "bert-base.bin"
        vlt.convert(write_bert_base(Path(folder) / "checkpoint"), weights)
        with vlt.Encoder(weights, num_threads=threads) as encoder:
            rng = np.random.default_rng(1)
            packed = vlt.pack([rng.integers(0, encoder.vocab_size, n, np.int32) for n in LENGTHS])
            return _time_runs(encoder, packed, len(LENGTHS), runs)


def write_bert_base(folder: Path) -> Path:
    """12 layers, hidden 768, 12 heads of 64; the vocabulary of the uncased checkpoint."""
    return write_bert_folder(
        folder,
        seed=1,
        num_layers=12,
        hidden_size=768,
        num_heads=12,
        intermediate_size=3072,
        vocab_size=30522,
        max_positions=512,
        tokenizer=False,
    )


def _time_runs(encoder: vlt.Encoder, packed: vlt.PackedIds, count: int, runs: int) -> Planning:
    encoder.run(packed)  # the first run takes memory from the system
    planning, total = [], []
    for _ in range(runs):
        before = encoder.memory_stats()["planning_seconds"]
        start = time.perf_counter()
        encoder.run(packed)
        total.append(time.perf_counter() - start)
        planning.append(encoder.memory_stats()["planning_seconds"] - before)
    return Planning(
        count,
        len(packed.values),
        runs,
        statistics.median(planning),
        statistics.median(total),
    )
