"""CTranslate2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peers import Array, Forward, Model, PaddedBatch


def make(model: Model, threads: int) -> Forward:
    """An encoder with this many threads; ids go in and states come out without a copy."""
    return _open(model, threads, "float32")


def make_int8(model: Model, threads: int) -> Forward:
    """The same with linear layers in 8 bits."""
    return _open(model, threads, "int8_float32")


def _open(model: Model, threads: int, compute_type: str) -> Forward:
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(converted_path(model)), device="cpu", compute_type=compute_type, intra_threads=threads
    )

    def forward(batch: PaddedBatch) -> Array:
        ids = ctranslate2.StorageView.from_array(batch.token_ids.astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(np.array(batch.lengths, np.int32))
        states: Array = np.asarray(encoder.forward_batch(ids, lengths).last_hidden_state)
        return states

    return forward


def converted_path(model: Model) -> Path:
    """The checkpoint in CTranslate2's format. Its converter insists on a vocabulary file."""
    from ctranslate2.converters import TransformersConverter

    path = model.cache / "ctranslate2"
    if not path.exists():
        TransformersConverter(str(model.folder)).convert(str(path))
    return path
