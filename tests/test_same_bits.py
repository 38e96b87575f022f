"""Same tokens, same vector, to the bit: whatever the batch, its order and the number of threads.

The truth here is each sequence run alone on one thread; everything else must equal it. The library
fills its workspace with NaN before each use in half of the tests, so that a value left behind by an
earlier batch cannot pass for a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from golden_cases import GoldenCase
from instruction_sets import INSTRUCTION_SETS, open_encoder

import vlt

LONGEST = 512


def _head(hidden_size: int) -> dict[str, object]:
    """Every pooling mode, a projection, and normalising."""
    modes = ("cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean")
    tanh = "torch.nn.modules.activation.Tanh"
    return {
        "layout": "current",
        "pooling": modes,
        "dense": ((len(modes) * hidden_size, 45, tanh, True),),
        "normalize": True,
    }


# Nothing that a tile divides; the shape of MiniLM; and a reduction over many inputs.
SHAPES = {
    "odd": GoldenCase("odd", 31, (), 2, 3, 17, 211, head=_head(51)),
    "minilm": GoldenCase("minilm", 32, (), 1, 12, 32, 1536, head=_head(384)),
    "deep-sum": GoldenCase("deep-sum", 33, (), 1, 2, 16, 3072, "relu", head=_head(32)),
}

_ZIPF = np.random.default_rng(5).zipf(1.4, 50).clip(max=200)
BATCHES: dict[str, tuple[int, ...]] = {
    "none": (),
    "empty": (0,),
    "empties": (0, 5, 0, 0, 9, 0),
    "one": (1,),
    "longest": (LONGEST,),
    "equal": (37,) * 12,
    "long-and-ones": (*(1,) * 20, 400, *(1,) * 20),
    "powers-of-two": tuple(2**n + d for n in range(2, 9) for d in (-1, 0, 1)),
    "every-length": tuple(range(61)),
    "zipf": tuple(_ZIPF.tolist()),
}


@dataclass(frozen=True, eq=False)
class Sequences:
    """A batch's token ids and types, one array a sequence."""

    ids: list[npt.NDArray[np.int32]]
    types: list[npt.NDArray[np.int32]]

    def take(self, order: npt.NDArray[np.int64]) -> Sequences:
        return Sequences([self.ids[i] for i in order], [self.types[i] for i in order])


def draw(lengths: tuple[int, ...], vocab_size: int) -> Sequences:
    rng = np.random.default_rng([77, *lengths])
    return Sequences(
        [rng.integers(0, vocab_size, n, dtype=np.int32) for n in lengths],
        [rng.integers(0, 2, n, dtype=np.int32) for n in lengths],
    )


def run(encoder: vlt.Encoder, batch: Sequences) -> list[npt.NDArray[np.uint32]]:
    """The bits of each sequence's states, with those of its embedding as one more row's."""
    states = encoder.run(batch.ids, token_types=batch.types)
    embeddings = encoder.run(batch.ids, token_types=batch.types, output="embedding")
    assert not np.isnan(states.values).any()
    assert not np.isnan(embeddings).any()
    return [
        np.concatenate([rows.ravel(), embedding]).view(np.uint32)
        for rows, embedding in zip(states, embeddings, strict=True)
    ]


class SameBits:
    """The encoders of one shape and instruction set, made when needed."""

    def __init__(self, weights: Path, instruction_set: str) -> None:
        self._weights = weights
        self._instruction_set = instruction_set
        self._encoders: dict[tuple[int, int | None], vlt.Encoder] = {}

    def encoder(self, num_threads: int, workspace_limit: int | None = None) -> vlt.Encoder:
        key = (num_threads, workspace_limit)
        if key not in self._encoders:
            self._encoders[key] = open_encoder(
                self._weights,
                self._instruction_set,
                num_threads=num_threads,
                workspace_limit=workspace_limit,
            )
        return self._encoders[key]

    def alone(self, batch: Sequences) -> list[npt.NDArray[np.uint32]]:
        """Each sequence in a batch of its own on one thread."""
        one = self.encoder(1)
        return [
            run(one, Sequences([ids], [types]))[0]
            for ids, types in zip(batch.ids, batch.types, strict=True)
        ]


def require_same(
    actual: list[npt.NDArray[np.uint32]], expected: list[npt.NDArray[np.uint32]], name: str
) -> None:
    assert len(actual) == len(expected)
    for index, (ours, truth) in enumerate(zip(actual, expected, strict=True)):
        wrong = np.flatnonzero(ours != truth)
        if wrong.size:
            at = int(wrong[0])
            here, alone = ours.view(np.float32)[at], truth.view(np.float32)[at]
            raise AssertionError(
                f"{name}: sequence {index} differs in {wrong.size} of {truth.size} values, first "
                f"in value {at}: {here!r}, alone {alone!r}"
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("same_bits")
    for name, shape in SHAPES.items():
        vlt.convert(shape.write_folder(root / name), root / f"{name}.bin")
    return root


# The reference kernels are too slow for the larger shapes.
SETTINGS = [
    pytest.param((shape, name, poison), id=f"{shape}-{name}{'-poison' if poison else ''}")
    for shape in SHAPES
    for name in INSTRUCTION_SETS
    if shape == "odd" or name != "reference"
    for poison in (False, True)
]


@pytest.fixture(scope="module", params=SETTINGS)
def same_bits(request: pytest.FixtureRequest, folder: Path) -> Iterator[SameBits]:
    shape, instruction_set, poison = request.param
    with pytest.MonkeyPatch.context() as patch:
        if poison:
            patch.setenv("VLT_POISON_WORKSPACE", "1")
        yield SameBits(folder / f"{shape}.bin", instruction_set)


@pytest.fixture(params=BATCHES)
def batch(request: pytest.FixtureRequest) -> Sequences:
    return draw(BATCHES[request.param], SHAPES["odd"].vocab_size)


def test_together_as_alone_on_any_number_of_threads(same_bits: SameBits, batch: Sequences) -> None:
    alone = same_bits.alone(batch)
    for num_threads in (1, 2, 3):
        encoder = same_bits.encoder(num_threads)
        require_same(run(encoder, batch), alone, f"{num_threads} threads")
        require_same(run(encoder, batch), alone, f"{num_threads} threads, second run")


def test_in_any_order(same_bits: SameBits, batch: Sequences) -> None:
    encoder = same_bits.encoder(2)
    straight = run(encoder, batch)
    count = len(batch.ids)
    rng = np.random.default_rng(3)
    for order in (np.arange(count)[::-1], rng.permutation(count), rng.permutation(count)):
        expected = [straight[i] for i in order]
        require_same(run(encoder, batch.take(order)), expected, f"order {order.tolist()}")


def test_split_by_a_workspace_limit(same_bits: SameBits) -> None:
    # All shorter than a chunk, so that less than a chunk's workspace has to do.
    lengths = (*BATCHES["every-length"], *BATCHES["zipf"])
    batch = draw(lengths, SHAPES["odd"].vocab_size)
    for num_threads in (1, 2):
        unlimited = same_bits.encoder(num_threads)
        whole = run(unlimited, batch)
        wanted = planned_bytes(unlimited)
        least = bytes_for_one(unlimited, max(lengths))
        assert least < wanted, "no limit would bind"
        for limit in (least, (least + wanted) // 2):
            limited = same_bits.encoder(num_threads, limit)
            require_same(run(limited, batch), whole, f"{num_threads} threads, {limit} bytes")
            held = limited.memory_stats()["peak_held_bytes"]
            assert held <= limit, f"{num_threads} threads: {held} bytes held, {limit} allowed"


def bytes_for_one(encoder: vlt.Encoder, length: int) -> int:
    """The least workspace in which a sequence that long can run, in a part of its own."""
    planned = []
    for output in ("hidden", "embedding"):
        encoder.run([np.zeros(length, np.int32)], output=output)
        planned.append(planned_bytes(encoder))
    return max(planned)


def planned_bytes(encoder: vlt.Encoder) -> int:
    """Workspace of the latest run's plan."""
    return int(encoder.memory_stats()["planned_peak_bytes"])
