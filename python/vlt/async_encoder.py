"""The encoder for asyncio: what many tasks ask for at the same time runs together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from . import outputs, vectors
from .arguments import checked
from .encoder import Encoder
from .errors import UnsupportedError
from .packed_array import PackedArray
from .packing import PackedIds, pack
from .sentences import list_of
from .serving.preparing import Truncation
from .serving.service import Answer, Service
from .serving.settings import EngineSettings
from .text_config import DOCUMENT_PROMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from .outputs import OutputName
    from .scheduling import Scheduler
    from .serving.engine import BatchRecord
    from .weights_source import Source

    Text = str | tuple[str, str]

Item = TypeVar("Item")


class AsyncEncoder:
    """`Encoder` for asyncio, with a queue before it that makes batches across callers.

    Calls never block the event loop: texts are tokenized and batches run in threads. A result is
    the same to the bit as `Encoder`'s, whatever it ran together with. A task that is cancelled
    takes its texts out of the queue.

    Parameters
    ----------
    model : path-like, bytes, [bytes] uint8, or Encoder
        As for `Encoder`, or one that is open, which then stays the caller's to close.
    devices : sequence of str
        Where the weights are, and a worker each: "cpu", "cuda:0", "cuda:1"; see `TextEncoder`.
    dtype, num_threads, workspace_limit, max_length
        As for `Encoder`.
    scheduler : vlt.scheduling.Scheduler, optional
        Chooses the batches, instead of the one that `settings` ask for.
    observe : callable, optional
        Called with a `vlt.serving.engine.BatchRecord` of each batch, in a worker's thread.
    **settings
        The fields of `vlt.serving.settings.EngineSettings`: `max_batch_tokens`, `max_queue`,
        `timeout`, `cache_bytes` and so on.

    Examples
    --------
    >>> async with vlt.AsyncEncoder("weights.bin") as encoder:
    ...     one, two = await asyncio.gather(encoder.encode("a"), encoder.encode(["b", "c"]))
    >>> one.shape, two.shape
    ((384,), (2, 384))
    """

    def __init__(
        self,
        model: Source | Encoder,
        devices: Sequence[str] = ("auto",),
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        max_length: int | None = None,
        scheduler: Scheduler | None = None,
        observe: Callable[[BatchRecord], None] | None = None,
        **settings: Any,
    ) -> None:
        wanted = EngineSettings(**settings)
        self._own: list[Encoder] = []
        if isinstance(model, Encoder):
            encoders = [model]
        else:
            options = dtype, num_threads, workspace_limit, False, max_length
            encoders = self._own = [Encoder(model, device, *options) for device in devices]
        self.encoder = encoders[0]
        self._service = Service(encoders, wanted, scheduler, observe)

    async def encode(
        self,
        sentences: Text | Sequence[Text],
        prompt_name: str | None = None,
        prompt: str | None = None,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Embed texts, see `Encoder.encode`.

        Returns
        -------
        [D] for a single str, [n, D] for a list; float32

        Raises
        ------
        TypeError, InvalidArgumentError, UnsupportedError
            As `Encoder.encode`.
        OverloadedError
            The queue has no room. A long list takes room for one batch at a time.
        DeadlineError
            A batch was not done within `timeout`.
        ClosedError
            The encoder is closed.
        """
        encoder = self.encoder
        if "embedding" not in encoder.outputs:
            raise UnsupportedError("this weights file has no embedding head; run() gives states")
        size = encoder.embedding_size
        if truncate_dim is not None:
            size = min(size, checked("truncate_dim", truncate_dim, 1))
        texts, single = list_of(sentences)
        text = encoder._prompt(prompt_name, prompt)
        rows = await self._in_parts(
            texts, lambda part: self._service.answer(part, "embedding", text, Truncation())
        )
        full = np.stack(rows) if rows else np.empty((0, encoder.embedding_size), np.float32)
        result = full[:, :size]
        result = vectors.normalize(result) if normalize_embeddings else result
        return result[0] if single else result

    async def encode_query(
        self, sentences: Text | Sequence[Text], prompt_name: str | None = None, **options: Any
    ) -> Any:
        """`encode` with the prompt "query" where none is asked for."""
        if prompt_name is None and options.get("prompt") is None:
            prompt_name = "query" if "query" in self.encoder.prompts else None
        return await self.encode(sentences, prompt_name, **options)

    async def encode_document(
        self, sentences: Text | Sequence[Text], prompt_name: str | None = None, **options: Any
    ) -> Any:
        """`encode` with the first of the prompts "document", "passage" and "corpus" there is."""
        if prompt_name is None and options.get("prompt") is None:
            known = self.encoder.prompts
            prompt_name = next((name for name in DOCUMENT_PROMPTS if name in known), None)
        return await self.encode(sentences, prompt_name, **options)

    async def run(self, ids: Any, output: OutputName = "hidden") -> Any:
        """Run the model on token ids, see `Encoder.run`.

        Parameters
        ----------
        ids : list of lists or arrays, or array
            Token ids in any of the forms that `vlt.pack` takes, or a `PackedIds`.
        output : str
            "hidden", "token_logits", "embedding", "logits" or "sparse".

        Returns
        -------
        PackedArray, [S, D] or [S, N] float32, or list of SparseVectors
        """
        outputs.require(self.encoder._info, output)
        if output == "vocabulary":
            raise UnsupportedError("AsyncEncoder has no output 'vocabulary'; take Encoder.run()")
        packed = ids if isinstance(ids, PackedIds) else pack(ids)
        parts = np.split(packed.values, packed.starts[1:-1]) if len(packed) else []

        async def run_part(part: Sequence[Any]) -> Answer:
            inputs = self._service.preparer.check(pack(list(part)), self.encoder.max_length)
            return await self._service.run(inputs, output)

        rows = await self._in_parts(parts, run_part)
        if output == "sparse":
            return rows
        if not rows:
            return self.encoder.run([], output=output)
        if output in ("hidden", "token_logits"):
            return PackedArray(np.concatenate(rows), packed.starts)
        return np.stack(rows)

    async def _in_parts(
        self, items: Sequence[Item], answer: Callable[[Sequence[Item]], Coroutine[Any, Any, Answer]]
    ) -> list[Any]:
        """Rows of all items, with one batch in the queue while the one before it runs."""
        settings = self._service.settings
        size = min(settings.max_batch_requests, max(settings.max_queue // 2, 1))
        parts = [items[begin : begin + size] for begin in range(0, len(items), size)]
        rows: list[Any] = []
        for begin in range(0, len(parts), 2):
            tasks = [asyncio.ensure_future(answer(part)) for part in parts[begin : begin + 2]]
            try:
                answers = await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
            rows.extend(row for each in answers for row in each.rows)
        return rows

    async def aclose(self) -> None:
        """Finish what waits, then free threads and weights. Closing twice is harmless."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """The same where no event loop runs; blocks."""
        self._service.close()
        for encoder in self._own:
            encoder.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
