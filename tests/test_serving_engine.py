"""The queue, its policy, its workers and its cache, without an event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import vlt
from vlt.scheduling import CostModel, Scheduler
from vlt.serving.cache import ENTRY_BYTES, ResultCache
from vlt.serving.engine import BatchRecord, Engine
from vlt.serving.ticket import Inputs, Ticket, concatenate
from vlt.serving.worker import Worker

PATIENCE = 20  # seconds


def fifo(max_tokens: int, max_requests: int) -> Scheduler:
    cost = CostModel(0, 1)
    return Scheduler(cost, policy="fifo", max_tokens=max_tokens, max_requests=max_requests)


class Waiter:
    """Takes part in `Engine.submit` as those do who wait for a ticket."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self, ticket: Ticket) -> None:
        assert not self._event.is_set(), "a ticket is done twice"
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(PATIENCE), "no answer"

    @property
    def called(self) -> bool:
        return self._event.is_set()


def inputs_of(*sequences: list[int]) -> Inputs:
    return Inputs(vlt.pack(list(sequences)))


@pytest.fixture
def records() -> list[BatchRecord]:
    return []


@pytest.fixture
def engine(records: list[BatchRecord]) -> Iterator[Engine]:
    engine = Engine(fifo(10, 4), 8, records.append)
    yield engine
    engine.close()


def start(engine: Engine, encoder: Any) -> Worker:
    worker = Worker(engine, encoder, "test")
    worker.start()
    return worker


# ---- Inputs --------------------------------------------------------------------------------------


def test_sequences_of_several_inputs_become_one_batch() -> None:
    typed = Inputs(vlt.pack([[1, 2], [3]]), np.array([0, 1, 1], np.int32))
    plain = inputs_of([4, 5, 6], [])
    joined = concatenate([(typed, 0), (plain, 0), (plain, 1), (typed, 1)])
    assert joined.ids.values.tolist() == [1, 2, 4, 5, 6, 3]
    assert joined.ids.lengths.tolist() == [2, 3, 0, 1]
    assert joined.types is not None
    assert joined.types.tolist() == [0, 1, 0, 0, 0, 1]
    assert concatenate([(plain, 0)]).types is None


def test_keys_tell_all_that_a_result_depends_on() -> None:
    ids = vlt.pack([[1, 2], [1, 2], [1], [2, 1]])
    plain, skipping = Inputs(ids), Inputs(ids, skipped=1)
    typed = Inputs(ids, np.array([0, 1, 0, 0, 0, 0, 0], np.int32))
    keys = [plain.key(0), plain.key(2), plain.key(3), skipping.key(0), typed.key(0)]
    assert len(set(keys)) == len(keys)
    assert plain.key(0) == plain.key(1)


# ---- The engine ----------------------------------------------------------------------------------


def test_results_are_the_encoders_whatever_runs_beside_them(
    engine: Engine, tiny_encoder: vlt.Encoder, records: list[BatchRecord]
) -> None:
    first, second = inputs_of([7, 8, 9], [10]), inputs_of([11, 12], [7, 8, 9, 10, 11])
    waiters = Waiter(), Waiter()
    tickets = [
        engine.submit(inputs, "embedding", waiter)
        for inputs, waiter in zip((first, second), waiters, strict=True)
    ]
    start(engine, tiny_encoder)
    for waiter, ticket, inputs in zip(waiters, tickets, (first, second), strict=True):
        waiter.wait()
        expected = tiny_encoder.run(inputs.ids, output="embedding")
        assert np.stack(ticket.rows).tobytes() == expected.tobytes()
    assert [(r.num_sequences, r.num_tokens, r.padding) for r in records] == [(3, 6, 3), (1, 5, 0)]


def test_kinds_of_output_run_apart(engine: Engine, tiny_encoder: vlt.Encoder) -> None:
    waiters = [Waiter() for _ in range(4)]
    inputs = inputs_of([7, 8], [9])
    skipping = Inputs(inputs.ids, skipped=1)
    hidden = engine.submit(inputs, "hidden", waiters[0])
    pooled = engine.submit(inputs, "embedding", waiters[1])
    skipped = engine.submit(skipping, "embedding", waiters[2])
    start(engine, tiny_encoder)
    for waiter in waiters[:3]:
        waiter.wait()
    states = tiny_encoder.run(inputs.ids)
    assert [row.tobytes() for row in hidden.rows] == [row.tobytes() for row in states]
    assert pooled.rows[0].tobytes() == tiny_encoder.run([[7, 8]], output="embedding").tobytes()
    expected = tiny_encoder.run([[7, 8]], pooling_starts=[1], output="embedding")
    assert skipped.rows[0].tobytes() == expected.tobytes() != pooled.rows[0].tobytes()


def test_a_full_queue_refuses_all_of_a_call(engine: Engine) -> None:
    engine.submit(inputs_of(*[[1]] * 7), "hidden", Waiter())
    with pytest.raises(vlt.OverloadedError, match="holds 7 of at most 8 .* for 2 more"):
        engine.submit(inputs_of([1], [2]), "hidden", Waiter())
    assert engine.num_waiting == 7
    engine.submit(inputs_of([1]), "hidden", Waiter())
    assert (engine.num_waiting, engine.waiting_tokens) == (8, 8)


def test_what_the_scheduler_refuses_does_not_wait() -> None:
    class Picky(Scheduler):
        def add(self, request: int, length: int, now: float, **options: Any) -> None:
            if length > 2:
                raise vlt.InvalidArgumentError("too long for me")
            super().add(request, length, now, **options)

    engine = Engine(Picky(CostModel(0, 1)), 8)
    with pytest.raises(vlt.InvalidArgumentError, match="too long for me"):
        engine.submit(inputs_of([1], [1, 2, 3], [2]), "hidden", Waiter())
    with pytest.raises(vlt.DeadlineError):
        engine.submit(inputs_of([1]), "hidden", Waiter(), deadline=time.monotonic() - 1)
    assert (engine.num_waiting, engine.waiting_tokens) == (0, 0)


def test_what_is_cancelled_leaves_the_queue(engine: Engine, tiny_encoder: vlt.Encoder) -> None:
    kept, gone = Waiter(), Waiter()
    ticket = engine.submit(inputs_of([1], [2, 3]), "embedding", gone)
    other = engine.submit(inputs_of([4]), "embedding", kept)
    engine.cancel(ticket)
    assert (engine.num_waiting, engine.waiting_tokens) == (1, 1)
    start(engine, tiny_encoder)
    kept.wait()
    assert other.error is None
    assert not gone.called


class Faulty:
    """An encoder that fails on batches with a certain token."""

    device = "cpu"

    def __init__(self, encoder: vlt.Encoder, token: int) -> None:
        self._encoder, self._token = encoder, token

    def _compute(self, ids: vlt.PackedIds, *arguments: Any) -> Any:
        if self._token in ids.values:
            raise MemoryError("no room")
        return self._encoder._compute(ids, *arguments)


def test_a_batch_that_fails_fails_only_the_call_at_fault(
    engine: Engine, tiny_encoder: vlt.Encoder
) -> None:
    waiters = [Waiter() for _ in range(3)]
    good = engine.submit(inputs_of([7], [8]), "embedding", waiters[0])
    bad = engine.submit(inputs_of([5], [9, 9, 9, 9, 9, 9]), "embedding", waiters[1])
    later = engine.submit(inputs_of([10, 11]), "embedding", waiters[2])
    worker = start(engine, Faulty(tiny_encoder, 5))
    for waiter in waiters:
        waiter.wait()
    assert isinstance(bad.error, MemoryError)
    assert good.error is later.error is None
    assert good.rows[1].tobytes() == tiny_encoder.run([[8]], output="embedding").tobytes()
    assert not engine.failing
    assert worker.is_alive()


def test_a_scheduler_at_fault_leaves_nobody_waiting(
    tiny_encoder: vlt.Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused(Scheduler):
        def next_batch(self, now: float) -> list[int]:
            return [number + 100 for number in super().next_batch(now)]

    engine = Engine(Confused(CostModel(0, 1)), 8)
    waiters = [Waiter() for _ in range(3)]
    tickets = [engine.submit(inputs_of([7], [8]), "embedding", waiter) for waiter in waiters]
    start(engine, tiny_encoder).join(PATIENCE)
    for waiter in waiters:
        waiter.wait()
    assert [type(ticket.error) for ticket in tickets] == [KeyError] * 3
    assert engine.failing
    assert "a worker failed" in caplog.text
    with pytest.raises(vlt.ClosedError):
        engine.submit(inputs_of([1]), "embedding", Waiter())


def test_closing_finishes_what_waits_and_refuses_more(
    engine: Engine, tiny_encoder: vlt.Encoder
) -> None:
    waiters = [Waiter() for _ in range(8)]
    for waiter in waiters:
        engine.submit(inputs_of([6, 7, 8]), "embedding", waiter)
    engine.close()
    with pytest.raises(vlt.ClosedError):
        engine.submit(inputs_of([1]), "embedding", Waiter())
    worker = start(engine, tiny_encoder)
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert all(waiter.called for waiter in waiters)


# ---- The cache -----------------------------------------------------------------------------------


def test_the_cache_drops_what_was_unused_longest_and_keeps_its_bound() -> None:
    row = np.arange(25, dtype=np.float32)
    cache = ResultCache(3 * (ENTRY_BYTES + 1 + row.nbytes))
    for key in (b"a", b"b", b"c"):
        cache.put(key, row)
    assert cache.get(b"a") is not None
    cache.put(b"d", row)
    assert [cache.get(key) is None for key in (b"a", b"b", b"c", b"d")] == [False, True] + [
        False
    ] * 2
    assert (cache.hits, cache.misses, len(cache)) == (4, 1, 3)
    assert cache.num_bytes == 3 * (ENTRY_BYTES + 1 + row.nbytes)
    cache.put(b"too large", np.zeros(10_000, np.float32))
    assert len(cache) == 3


def test_the_cache_keeps_no_batch_alive() -> None:
    batch = np.zeros((100, 4), np.float32)
    cache = ResultCache(10_000)
    cache.put(b"a", batch[3])
    assert not np.shares_memory(cache.get(b"a"), batch)
    sparse = vlt.SparseVectors.from_dense(np.eye(4, dtype=np.float32))
    cache.put(b"b", sparse[1])
    assert cache.get(b"b").to_dense().tolist() == [0, 1, 0, 0]
    assert not np.shares_memory(cache.get(b"b").values, sparse.values)
    with pytest.raises(ValueError, match="read-only"):
        cache.get(b"b").values[0] = 2
