"""The memory of vlt's own sessions on a GPU: requests that really run, arrays on the device."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from allocator_shim import Batch

import vlt
from allocators.outcome import Outcome
from allocators.session_planning import write_bert_base

UNIT = "calls of the arena"


@contextmanager
def bert_base() -> Iterator[Path]:
    """A weights file of BERT-base with random weights; about 1 GB of temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "bert-base.bin"
        vlt.convert(write_bert_base(Path(folder) / "checkpoint"), weights, dtype="float16")
        yield weights


def replay(weights: Path, requests: Sequence[Batch]) -> list[Outcome]:
    """The requests one after the other in one new session.

    What is held counts everything that the session works in: activations in rooms of rounded
    sizes, the batch's plan, and what a recorded graph was made for.
    """
    import torch

    outcomes = []
    allocations = 0
    with vlt.Encoder(weights, device="cuda", dtype="float16") as encoder:
        out = torch.empty(
            max(request.tokens for request in requests),
            encoder.hidden_size,
            dtype=torch.float16,
            device="cuda",
        )
        for request in requests:
            ids = torch.zeros(request.tokens, dtype=torch.int32, device="cuda")
            starts = torch.from_numpy(sequence_starts(request)).cuda()
            encoder.run_packed(ids, starts, output="hidden", out=out[: request.tokens])
            stats = encoder.memory_stats()
            asked = stats["system_allocations"] - allocations
            allocations = stats["system_allocations"]
            outcomes.append(Outcome(stats["planned_peak_bytes"], stats["held_bytes"], asked, 1))
    return outcomes


def sequence_starts(request: Batch) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """[S + 1] starts of sequences as equal as they can be."""
    numbers = np.arange(request.sequences + 1, dtype=np.int64)
    return (numbers * request.tokens // request.sequences).astype(np.int32)
