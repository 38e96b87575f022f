"""What may be set of the engine, and what it is if nothing is said."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from vlt.arguments import checked
from vlt.errors import InvalidArgumentError

if TYPE_CHECKING:
    from vlt.token_encoder import TokenEncoder

# Tokens of one batch. Two cores run a small model at about 17,000 tokens a second and reach their
# full rate with 2,000 at a time, so larger batches only delay answers; a GPU needs more.
BATCH_TOKENS = {"cpu": 4_096, "cuda": 16_384}


@dataclass(frozen=True)
class EngineSettings:
    """How requests are queued and run.

    Attributes
    ----------
    max_batch_tokens : int or None
        Tokens of one batch; 4,096 on the CPU and 16,384 on a GPU if None.
    max_batch_requests : int
        Sequences of one batch.
    max_queue : int
        Sequences that may wait.
    workers : int or None
        Batches that are run side by side on each device; 1 on the CPU and 2 on a GPU if None.
    tokenizing_threads : int
        Threads that tokenize.
    cache_bytes : int
        Of the cache of results; 0: none.
    timeout : float or None
        Seconds until a request that is not done fails; None: never.
    """

    max_batch_tokens: int | None = None
    max_batch_requests: int = 512
    max_queue: int = 16_384
    workers: int | None = None
    tokenizing_threads: int = 2
    cache_bytes: int = 0
    timeout: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "timeout" or value is None:
                continue
            checked(field.name, value, 0 if field.name == "cache_bytes" else 1, 1 << 62)
        if self.timeout is not None and not self.timeout > 0:
            raise InvalidArgumentError(f"timeout must be above 0 seconds, not {self.timeout}")

    def batch_tokens(self, encoder: TokenEncoder) -> int:
        """Tokens of one batch on this encoder."""
        return self.max_batch_tokens or BATCH_TOKENS[device_type(encoder)]

    def workers_on(self, encoder: TokenEncoder) -> int:
        """Batches side by side on this encoder."""
        return self.workers or {"cpu": 1, "cuda": 2}[device_type(encoder)]


def device_type(encoder: TokenEncoder) -> str:
    """ "cpu" or "cuda"."""
    return encoder.device.partition(":")[0]
