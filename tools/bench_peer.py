"""A peer loaded and ready, in each way its users would run it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import peers

Finish: TypeAlias = Callable[[peers.PaddedBatch, peers.Array], object]

BATCH = 32  # sentence-transformers' default


class RunningPeer:
    """A peer on a number of threads, and where it can, as many instances on one thread each.

    `finish` is what to do with a batch's states, if anything.
    """

    def __init__(
        self, name: str, model: peers.Model, threads: int, finish: Finish | None = None
    ) -> None:
        make = peers.load(name)
        spreads = threads > 1 and peers.PEERS[name].spreads
        self.name = name
        self.forward = make(model, threads)
        self._instances = [make(model, 1) for _ in range(threads)] if spreads else []
        self._finish = finish
        self._pool = ThreadPoolExecutor(threads)

    def modes(self, sequences: list[peers.Ids]) -> dict[str, Callable[[], None]]:
        """Mode -> a function that runs all sequences; their padded batches are made here."""
        padded = peers.sorted_batches(sequences, BATCH)
        alone = peers.sorted_batches(sequences, 1)
        modes: dict[str, Callable[[], None]] = {"padded": lambda: self._run(padded)}
        if len(sequences) > 1:
            modes["alone"] = lambda: self._run(alone)
            if self._instances:
                modes["spread"] = lambda: self._spread(alone)
        return modes

    def _run(self, batches: list[peers.PaddedBatch]) -> None:
        for batch in batches:
            self._take(self.forward, batch)

    def _take(self, forward: peers.Forward, batch: peers.PaddedBatch) -> None:
        states = forward(batch)
        if self._finish:
            self._finish(batch, states)

    def _spread(self, batches: list[peers.PaddedBatch]) -> None:
        """Instances take the next sequence, longest first, whenever they are free."""
        todo: queue.SimpleQueue[peers.PaddedBatch] = queue.SimpleQueue()
        for batch in batches:
            todo.put(batch)

        def work(forward: peers.Forward) -> None:
            while True:
                try:
                    batch = todo.get_nowait()
                except queue.Empty:
                    return
                self._take(forward, batch)

        for done in [self._pool.submit(work, instance) for instance in self._instances]:
            done.result()
