"""What asyncio code calls: tokenizes in threads, waits in the queue, gives up in time."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlt.errors import DeadlineError
from vlt.packing import pack

from .cache import ResultCache
from .engine import BatchRecord, Engine
from .policy import make_scheduler
from .preparing import Preparer, Truncation
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vlt.outputs import OutputName
    from vlt.scheduling import Scheduler
    from vlt.text_encoder import TextEncoder

    from .preparing import Item
    from .settings import EngineSettings
    from .ticket import Inputs, Ticket


@dataclass(frozen=True)
class Answer:
    """Results of one request.

    Attributes
    ----------
    rows : list
        One for each input, see `vlt.serving.worker.rows_of`.
    lengths : list of int
        Tokens of each input.
    tokenize_seconds, queue_seconds, run_seconds : float
        Where the time went.
    """

    rows: list[Any]
    lengths: list[int]
    tokenize_seconds: float
    queue_seconds: float
    run_seconds: float


class Service:
    """Encoders with a queue before them. Its coroutines may be called from any event loop.

    Parameters
    ----------
    encoders
        Of the same model, one for each device. They stay the caller's to close.
    settings
    scheduler
        Chooses the batches; the one of `settings` if left out.
    observe : callable, optional
        Called with the record of each batch, in a worker's thread.
    """

    def __init__(
        self,
        encoders: Sequence[TextEncoder],
        settings: EngineSettings,
        scheduler: Scheduler | None = None,
        observe: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        self.encoder = encoders[0]
        self.settings = settings
        self.preparer = Preparer(self.encoder)
        self.cache = ResultCache(settings.cache_bytes) if settings.cache_bytes else None
        policy = scheduler or make_scheduler(self.encoder, settings)
        self.engine = Engine(policy, settings.max_queue, observe)
        self._threads = ThreadPoolExecutor(settings.tokenizing_threads, "vlt-tokenize")
        self._workers = [
            Worker(self.engine, encoder, f"vlt-worker-{encoder.device}-{index}")
            for encoder in encoders
            for index in range(settings.workers_on(encoder))
        ]
        for worker in self._workers:
            worker.start()

    async def answer(
        self,
        items: Sequence[Item],
        output: OutputName,
        prompt: str = "",
        truncation: Truncation | None = None,
    ) -> Answer:
        """Tokenize and run; cancelling it takes the request out of the queue.

        Raises
        ------
        InvalidArgumentError
            See `Preparer.prepare`.
        OverloadedError, ClosedError
            See `Engine.submit`.
        DeadlineError
            It was not done within `EngineSettings.timeout`.
        """
        begin = time.monotonic()
        inputs = await self.in_thread(self.preparer.prepare, items, prompt, truncation)
        return await self.run(inputs, output, begin)

    async def run(self, inputs: Inputs, output: OutputName, begin: float | None = None) -> Answer:
        """The same for sequences that are ready; `begin` is when the request came."""
        ready = time.monotonic()
        begin = ready if begin is None else begin
        rows, missing = self._look_up(inputs, output)
        queued = ran = 0.0
        if missing:
            part = inputs if len(missing) == len(inputs) else inputs.only(missing)
            ticket = await self._wait_for(part, output, begin)
            queued, ran = ticket.queue_seconds, ticket.run_seconds
            for index, row in zip(missing, ticket.rows, strict=True):
                rows[index] = row
                if self.cache is not None:
                    self.cache.put(_key(inputs, index, output), row)
        return Answer(rows, inputs.lengths, ready - begin, queued, ran)

    async def check_health(self) -> None:
        """After a batch that failed, run one token through the model; raises what goes wrong."""
        if not self.engine.failing:
            return
        inputs = self.preparer.check(pack([[0]]), 1)
        await self._wait_for(inputs, "hidden", time.monotonic())

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in one of the threads that tokenize."""
        self.engine.require_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _look_up(self, inputs: Inputs, output: OutputName) -> tuple[list[Any], list[int]]:
        """Results that are known, and which sequences have to be run."""
        if self.cache is None:
            return [None] * len(inputs), list(range(len(inputs)))
        rows = [self.cache.get(_key(inputs, index, output)) for index in range(len(inputs))]
        return rows, [index for index, row in enumerate(rows) if row is None]

    async def _wait_for(self, inputs: Inputs, output: OutputName, begin: float) -> Ticket:
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()

        def done(_: Ticket) -> None:
            try:
                loop.call_soon_threadsafe(_resolve, finished)
            except RuntimeError:  # the loop was closed with this request in it
                return

        timeout = self.settings.timeout
        deadline = None if timeout is None else begin + timeout
        ticket = self.engine.submit(inputs, output, done, deadline=deadline)
        timer = None
        if timeout is not None:
            late = DeadlineError(f"the request was not done within {timeout:g} seconds")
            timer = loop.call_later(begin + timeout - time.monotonic(), _resolve, finished, late)
        try:
            await finished
        except (asyncio.CancelledError, DeadlineError):
            self.engine.cancel(ticket)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if ticket.error is not None:
            raise ticket.error
        return ticket

    def close(self) -> None:
        """Finish all that waits and stop the threads. Blocks; closing twice is harmless."""
        self.engine.close()
        for worker in self._workers:
            worker.join()
        self._threads.shutdown()


def _key(inputs: Inputs, index: int, output: OutputName) -> bytes:
    return output.encode() + b"," + inputs.key(index)


def _resolve(future: asyncio.Future[None], error: Exception | None = None) -> None:
    """Unless whoever waited has gone."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
