"""What may be set of the engine, and what it is if nothing is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlt import _native
from vlt.arguments import checked, checked_seconds, lookup

if TYPE_CHECKING:
    from vlt.text_encoder import TextEncoder
    from vlt.token_encoder import TokenEncoder

# Tokens of one batch. Two cores run a small model at about 17,000 tokens a second and reach their
# full rate with 2,000 at a time, so larger batches only delay answers; a GPU needs more.
BATCH_TOKENS = {"cpu": 4_096, "cuda": 16_384}


MOST = 1 << 62
INTEGERS = (
    "max_batch_tokens",
    "max_batch_requests",
    "max_queue",
    "workers",
    "tokenizing_threads",
    "cache_bytes",
)


@dataclass(frozen=True)
class EngineSettings:
    """How requests are queued and run.

    Attributes
    ----------
    max_batch_tokens : int or None
        Tokens of one batch; 4,096 on the CPU and 16,384 on a GPU if None.
    max_batch_requests : int
        Sequences of one batch.
    policy : str
        What goes first, see `vlt.scheduling.Scheduler`: "latency", "fifo" or "one".
    max_wait : float
        Seconds by which a sequence may be overtaken, and a level of priority.
    fit_seconds : float
        How long the device is timed at the start, for the cost model of "latency".
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
    policy: str = "latency"
    max_wait: float = 0.1
    fit_seconds: float = 0.5
    max_queue: int = 16_384
    workers: int | None = None
    tokenizing_threads: int = 2
    cache_bytes: int = 0
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name in INTEGERS:
            value = getattr(self, name)
            if value is not None:
                checked(name, value, 0 if name == "cache_bytes" else 1, MOST)
        lookup("policy", self.policy, _native.POLICIES)
        for name in ("max_wait", "fit_seconds", "timeout"):
            if getattr(self, name) is not None:
                checked_seconds(name, getattr(self, name), positive=True)

    def batch_tokens(self, encoder: TokenEncoder) -> int:
        """Tokens of one batch on this encoder."""
        return self.max_batch_tokens or BATCH_TOKENS[device_type(encoder)]

    def workers_on(self, encoder: TokenEncoder) -> int:
        """Batches side by side on this encoder."""
        return self.workers or {"cpu": 1, "cuda": 2}[device_type(encoder)]

    def warm_up(self, encoder: TextEncoder) -> None:
        """Have an encoder get all that its largest batch needs, before the first request."""
        tokens = self.batch_tokens(encoder)
        encoder.warm_up(tokens, min(tokens, self.max_batch_requests), encoder.max_seq_length)


def device_type(encoder: TokenEncoder) -> str:
    """ "cpu" or "cuda"."""
    return encoder.device.partition(":")[0]
