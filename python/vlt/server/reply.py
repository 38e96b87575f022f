"""What a route gives back: the body, and what it took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vlt.serving.service import Answer

JSON = b"application/json"

# orjson writes about 50,000 numbers a millisecond, and the event loop stands still meanwhile.
NUMBERS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes
    ----------
    body : bytes
    answer : Answer or None
        How long its parts took, and the inputs' lengths; None where no model ran.
    characters : int
        Of the inputs.
    batch : bool
        Was it a list of inputs?
    """

    body: bytes
    answer: Answer | None = None
    characters: int = 0
    batch: bool = False


def dumps(value: Any) -> bytes:
    """JSON, with float32 arrays as the shortest numbers that read back to the same bits."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


async def dump_arrays(
    arrays: Sequence[NDArray[np.float32]], loop: asyncio.AbstractEventLoop
) -> bytes:
    """A JSON list of arrays; in parts in a thread where it would hold the event loop up."""
    if sum(array.size for array in arrays) <= NUMBERS_AT_ONCE:
        return dumps(list(arrays))
    return await loop.run_in_executor(None, _dump_in_parts, arrays)


def _dump_in_parts(arrays: Sequence[NDArray[np.float32]]) -> bytes:
    parts: list[bytes] = []
    for array in arrays:
        parts.append(dumps(array))
        time.sleep(0)  # lets go of the interpreter's lock
    return b"[" + b",".join(parts) + b"]"


def compute_headers(reply: Reply, compute_type: bytes, seconds: float) -> list[tuple[bytes, bytes]]:
    """What text-embeddings-inference tells in headers; times in milliseconds."""
    answer = reply.answer
    if answer is None:
        return []
    total = _milliseconds(seconds)
    return [
        (b"x-compute-type", compute_type),
        (b"x-compute-time", total),
        (b"x-compute-characters", b"%d" % reply.characters),
        (b"x-compute-tokens", b"%d" % sum(answer.lengths)),
        (b"x-total-time", total),
        (b"x-tokenization-time", _milliseconds(answer.tokenize_seconds)),
        (b"x-queue-time", _milliseconds(answer.queue_seconds)),
        (b"x-inference-time", _milliseconds(answer.run_seconds)),
    ]


def _milliseconds(seconds: float) -> bytes:
    return b"%d" % round(seconds * 1e3)
