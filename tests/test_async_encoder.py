"""`AsyncEncoder`: the encoder's own bits, from many tasks at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_runs import HeldRuns
from loop_goes_on import result_while_the_loop_goes_on
from tiny_model import PROMPTS

import vlt
from vlt.serving.engine import BatchRecord

TEXTS = ["a man is running", "the quick red machine", "", "banana", "the river under the world"]


def open_async(model: Any, **options: Any) -> vlt.AsyncEncoder:
    """One that takes little time to find out how fast the device is."""
    return vlt.AsyncEncoder(model, **{"fit_seconds": 0.02, **options})


def do(encoder: vlt.AsyncEncoder, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of calls made at the same time."""

    async def run() -> list[Any]:
        async with encoder:
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(run())


def test_vectors_are_the_encoders(tiny_encoder: vlt.Encoder) -> None:
    encoder = open_async(tiny_encoder)
    one, many, none, query, document, short = do(
        encoder,
        encoder.encode("a dog"),
        encoder.encode(TEXTS),
        encoder.encode([]),
        encoder.encode_query(TEXTS),
        encoder.encode_document(TEXTS),
        encoder.encode(TEXTS, normalize_embeddings=True, truncate_dim=8),
    )
    assert one.tobytes() == tiny_encoder.encode("a dog").tobytes()
    assert one.shape == (32,)
    assert many.tobytes() == tiny_encoder.encode(TEXTS).tobytes()
    assert none.shape == (0, 32)
    assert query.tobytes() == tiny_encoder.encode([PROMPTS["query"] + t for t in TEXTS]).tobytes()
    assert document.tobytes() == tiny_encoder.encode_document(TEXTS).tobytes()
    expected = tiny_encoder.encode(TEXTS, normalize_embeddings=True, truncate_dim=8)
    assert short.tobytes() == expected.tobytes()
    assert tiny_encoder.encode("a dog").any(), "the caller's encoder was closed"


@pytest.mark.parametrize(
    "settings", [{}, {"max_batch_tokens": 7, "policy": "fifo"}, {"cache_bytes": 100_000}]
)
@pytest.mark.parametrize(("devices", "threads"), [(1, 1), (1, 2), (3, 1)])
def test_what_else_is_in_flight_changes_no_bit(
    tiny_weights: Path,
    tiny_encoder: vlt.Encoder,
    settings: dict[str, Any],
    devices: int,
    threads: int,
) -> None:
    rng = random.Random(5)
    words = ["a", "man", "is", "running", "the", "quick", "red", "machine", "banana"]
    lists = [
        [" ".join(rng.choices(words, k=rng.randrange(30))) for _ in range(rng.randrange(1, 9))]
        for _ in range(60)
    ]
    encoder = open_async(
        tiny_weights,
        devices=["cpu"] * devices,
        num_threads=threads,
        workers=3 - threads,
        **settings,
    )
    results = do(encoder, *(encoder.encode(texts) for texts in lists))
    for texts, result in zip(lists, results, strict=True):
        assert result.tobytes() == tiny_encoder.encode(texts).tobytes()


def test_token_ids_give_every_output(tiny_encoder: vlt.Encoder) -> None:
    ids = [[7, 8, 9], [10], [11, 12]]
    encoder = open_async(tiny_encoder)
    hidden, pooled, none, wrong, unknown = do(
        encoder,
        encoder.run(ids),
        encoder.run(ids, output="embedding"),
        encoder.run([], output="embedding"),
        encoder.run([[7], [10**6]]),
        encoder.run(ids, output="logits"),
    )
    assert hidden.values.tobytes() == tiny_encoder.run(ids).values.tobytes()
    assert hidden.lengths == [3, 1, 2]
    assert pooled.tobytes() == tiny_encoder.run(ids, output="embedding").tobytes()
    assert none.shape == (0, 32)
    assert isinstance(wrong, vlt.InvalidArgumentError)
    assert "not 1000000" in str(wrong)
    assert isinstance(unknown, vlt.UnsupportedError)


def test_long_lists_pass_a_short_queue(tiny_encoder: vlt.Encoder) -> None:
    texts = [f"a dog {index}" for index in range(100)]
    encoder = open_async(tiny_encoder, max_queue=10)
    (result,) = do(encoder, encoder.encode(texts))
    assert result.tobytes() == tiny_encoder.encode(texts).tobytes()


def test_the_loop_goes_on_while_the_model_runs(
    tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = open_async(tiny_encoder)
    result = result_while_the_loop_goes_on(lambda: encoder.encode(TEXTS), monkeypatch)
    assert result.tobytes() == tiny_encoder.encode(TEXTS).tobytes()
    encoder.close()


def test_wrong_values_are_named(tiny_encoder: vlt.Encoder) -> None:
    encoder = open_async(tiny_encoder)
    errors = do(
        encoder,
        encoder.encode(["a", 3]),  # type: ignore[list-item]
        encoder.encode("a", prompt_name="poem"),
        encoder.encode("a", truncate_dim=0),
    )
    assert [type(error) for error in errors] == [
        TypeError,
        vlt.InvalidArgumentError,
        vlt.InvalidArgumentError,
    ]
    with pytest.raises(vlt.InvalidArgumentError, match="timeout must be above 0"):
        vlt.AsyncEncoder(tiny_encoder, timeout=0)
    with pytest.raises(vlt.InvalidArgumentError, match="max_queue must be 1"):
        vlt.AsyncEncoder(tiny_encoder, max_queue=0)
    with pytest.raises(vlt.InvalidArgumentError, match="policy must be"):
        vlt.AsyncEncoder(tiny_encoder, policy="lifo")


def test_cancelled_tasks_leave_the_queue(
    tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldRuns(monkeypatch)

    async def run() -> Any:
        async with open_async(tiny_encoder) as encoder:
            engine = encoder._service.engine
            first = asyncio.create_task(encoder.encode("a dog"))
            await asyncio.to_thread(held.begun.wait, 20)
            second = asyncio.create_task(encoder.encode(["a", "b", "c"]))
            while engine.num_waiting < 3:
                await asyncio.sleep(0.001)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            waiting = engine.num_waiting
            held.go.set()
            return waiting, await first, second.cancelled()

    waiting, vector, cancelled = asyncio.run(run())
    assert waiting == 0
    assert cancelled
    assert vector.tobytes() == tiny_encoder.encode("a dog").tobytes()


def test_a_request_gives_up_in_time_and_the_next_one_works(
    tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldRuns(monkeypatch)

    async def run() -> Any:
        async with open_async(tiny_encoder, timeout=0.5) as encoder:
            with pytest.raises(vlt.DeadlineError, match=r"within 0\.5 seconds"):
                await encoder.encode("a dog")
            held.go.set()
            return await encoder.encode("a dog")

    assert asyncio.run(run()).tobytes() == tiny_encoder.encode("a dog").tobytes()


def test_a_full_queue_refuses_at_once(
    tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldRuns(monkeypatch)

    async def run() -> list[Any]:
        async with open_async(tiny_encoder, max_queue=2) as encoder:
            first = asyncio.create_task(encoder.encode("a dog"))
            await asyncio.to_thread(held.begun.wait, 20)
            tasks = [asyncio.create_task(encoder.encode("a")) for _ in range(5)]
            while sum(task.done() for task in tasks) < 3:
                await asyncio.sleep(0.001)
            held.go.set()
            return await asyncio.gather(first, *tasks, return_exceptions=True)

    results = asyncio.run(run())
    refused = [each for each in results if isinstance(each, vlt.OverloadedError)]
    assert len(refused) == 3
    assert sum(isinstance(each, np.ndarray) for each in results) == 3


def test_a_closed_encoder_says_so(tiny_weights: Path) -> None:
    encoder = open_async(tiny_weights)
    encoder.close()
    encoder.close()
    with pytest.raises(vlt.ClosedError):
        asyncio.run(encoder.run([[7]]))
    with pytest.raises(vlt.ClosedError):
        asyncio.run(encoder.encode("a"))


def test_an_observer_is_told_of_each_batch(tiny_encoder: vlt.Encoder) -> None:
    records: list[BatchRecord] = []
    encoder = open_async(tiny_encoder, observe=records.append)
    do(encoder, encoder.encode(TEXTS), encoder.encode("banana"))
    tokens = sum(map(len, tiny_encoder.tokenize([*TEXTS, "banana"])))
    assert sum(record.num_sequences for record in records) == len(TEXTS) + 1
    assert sum(record.num_tokens for record in records) == tokens
    assert all(record.seconds > 0 and record.error is None for record in records)
