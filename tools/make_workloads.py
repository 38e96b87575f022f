"""Write tools/workloads.json: the sequence lengths on which every benchmark of vlt runs.

A length counts the special tokens too. One generator draws all random workloads, in the order of
the table below, so the file is always the same; a new workload goes at the end of the table.
Two measurements of the same workload are thereby measurements of the same work.

    python tools/make_workloads.py            # rewrite the file
    python tools/make_workloads.py --check    # fail if the file differs from what would be written

Needs: numpy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Lengths: TypeAlias = npt.NDArray[np.int64]
Draw: TypeAlias = Callable[[np.random.Generator], Lengths]

SEED = 20221006
PATH = Path(__file__).with_name("workloads.json")


class Workload(NamedTuple):
    """A named list of lengths, drawn from the common generator when its turn comes."""

    name: str
    note: str
    draw: Draw


def fixed(*lengths: int) -> Draw:
    """Lengths that take nothing from the generator."""
    return lambda rng: np.array(lengths)


def uniform(count: int, longest: int) -> Draw:
    """Uniform from a fifth of the longest to the longest: the mean is 0.6 of the longest."""
    return lambda rng: rng.integers(int(0.2 * longest), longest + 1, count)


def lognormal(count: int, mean: float, sigma: float, shortest: int, longest: int) -> Draw:
    """Log-normal with this arithmetic mean and sigma of the logarithm, rounded and clipped."""
    mu = np.log(mean) - sigma**2 / 2  # the mean of exp(N(mu, sigma^2)) is exp(mu + sigma^2 / 2)

    def draw(rng: np.random.Generator) -> Lengths:
        lengths = np.rint(rng.lognormal(mu, sigma, count))
        return np.clip(lengths, shortest, longest).astype(np.int64)

    return draw


def shuffled(*parts: Draw) -> Draw:
    """All parts together in random order."""

    def draw(rng: np.random.Generator) -> Lengths:
        lengths = np.concatenate([part(rng) for part in parts])
        return lengths[rng.permutation(len(lengths))]

    return draw


WORKLOADS = (
    Workload("single-16", "one request: latency", fixed(16)),
    Workload("single-128", "one request: latency", fixed(128)),
    Workload("single-512", "one request: latency", fixed(512)),
    Workload("uniform-16x128", "ByteTransformer's protocol, batch 16", uniform(16, 128)),
    Workload("uniform-16x256", "ByteTransformer's protocol, batch 16", uniform(16, 256)),
    Workload("uniform-16x512", "ByteTransformer's protocol, batch 16", uniform(16, 512)),
    Workload("uniform-16x1024", "ByteTransformer's protocol, batch 16", uniform(16, 1024)),
    Workload("uniform-1x512", "ByteTransformer's protocol, batch 1: the mean", fixed(307)),
    Workload("uniform-8x512", "ByteTransformer's protocol, batch 8", uniform(8, 512)),
    Workload("queries-1024", "search queries", lognormal(1024, 10, 0.5, 4, 64)),
    Workload("passages-512", "passages of a retrieval corpus", lognormal(512, 85, 0.45, 8, 384)),
    Workload(
        "squad-512",
        "questions with their contexts, as in the BERT task of MLPerf Inference",
        lognormal(512, 178, 0.35, 40, 384),
    ),
    Workload("documents-128", "documents cut at 512 tokens", lognormal(128, 420, 0.8, 16, 512)),
    Workload(
        "mixed-256",
        "a server's mix: three short queries to one document",
        shuffled(lognormal(192, 12, 0.5, 4, 64), lognormal(64, 300, 0.6, 32, 512)),
    ),
    Workload("long-8x8192", "for long-context encoders only", uniform(8, 8192)),
)


def render() -> str:
    """The text of workloads.json, one workload a line."""
    rng = np.random.default_rng(SEED)
    rows = [
        f"{json.dumps(w.name)}: {json.dumps({'note': w.note, 'lengths': w.draw(rng).tolist()})}"
        for w in WORKLOADS
    ]
    return "{\n " + ",\n ".join(rows) + "\n}\n"


def summary(text: str) -> str:
    """One line a workload: sequences, tokens, mean, longest, and what padding would add."""
    lines = []
    for name, workload in json.loads(text).items():
        lengths = np.array(workload["lengths"])
        padded = len(lengths) * lengths.max() / lengths.sum()
        lines.append(
            f"{name:16s} {len(lengths):5d} sequences {lengths.sum():7d} tokens "
            f"mean {lengths.mean():7.1f} longest {lengths.max():5d} padded/packed {padded:.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write tools/workloads.json.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    text = render()
    if check and PATH.read_text(encoding="utf-8") != text:
        print(f"{PATH} differs from what tools/make_workloads.py writes", file=sys.stderr)
        return 1
    if not check:
        PATH.write_text(text, encoding="utf-8")
    print(summary(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
