"""What a user would pick today to run an encoder, each behind the same small interface.

A peer is a function of a module, one for each precision::

    make(model: Model, threads: int) -> Forward

`Model` is the checkpoint and a folder for the peer's own conversion of it, made on first use.
`Forward` takes a `PaddedBatch` and returns the last layer's states, [B, L, H] float32; the array
may be reused by the next call, and rows of padding hold anything. A module imports its framework
inside its functions, so that only the peers asked for need to be installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Model:
    """A Hugging Face folder, and where conversions of it are kept between runs."""

    name: str
    folder: Path
    cache: Path


@dataclass(frozen=True)
class PaddedBatch:
    """B sequences padded at the end to the longest, L."""

    token_ids: npt.NDArray[np.int64]  # [B, L]
    attention_mask: npt.NDArray[np.int64]  # [B, L], 1 on tokens and 0 on padding
    lengths: tuple[int, ...]  # [B]


Forward: TypeAlias = Callable[[PaddedBatch], Array]
Make: TypeAlias = Callable[[Model, int], Forward]


class Peer(NamedTuple):
    """What a benchmark must know of a peer before it loads it."""

    module: str  # in this package
    precision: str
    spreads: bool  # can one-thread instances run side by side?
    function: str = "make"


PEERS: dict[str, Peer] = {
    "torch": Peer("pytorch", "float32", False),  # its number of threads belongs to the process
    "ort": Peer("onnxruntime_cpu", "float32", True),
    "ov": Peer("openvino_cpu", "float32", True),
    "ct2": Peer("ctranslate2_cpu", "float32", True),
    "torch-bf16": Peer("pytorch", "bfloat16", False, "make_bfloat16"),
    "ov-bf16": Peer("openvino_cpu", "bfloat16", True, "make_bfloat16"),
    "ort-int8": Peer("onnxruntime_cpu", "int8", True, "make_int8"),
    "ct2-int8": Peer("ctranslate2_cpu", "int8", True, "make_int8"),
}


def load(name: str) -> Make:
    """The function of the peer of this name; raises ImportError where its framework is missing."""
    module = importlib.import_module(f"peers.{PEERS[name].module}")
    return cast(Make, getattr(module, PEERS[name].function))


def pad(sequences: list[Ids]) -> PaddedBatch:
    """One padded batch of these token ids."""
    lengths = tuple(len(sequence) for sequence in sequences)
    token_ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = np.zeros_like(token_ids)
    for row, sequence in enumerate(sequences):
        token_ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return PaddedBatch(token_ids, mask, lengths)


def sorted_batches(sequences: list[Ids], size: int) -> list[PaddedBatch]:
    """Padded batches of `size` sequences, longest first, as sentence-transformers makes them."""
    ordered = sorted(sequences, key=len, reverse=True)
    return [pad(ordered[i : i + size]) for i in range(0, len(ordered), size)]
