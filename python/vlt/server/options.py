"""What may be set of the server, and what it is if nothing is said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerOptions:
    """The limits are those of text-embeddings-inference where it has them.

    Attributes
    ----------
    model_name : str
        What the server calls its model.
    api_key : str or None
        What clients must send as "Authorization: Bearer KEY"; None: nothing.
    max_concurrent_requests : int
        Requests that are worked on; one more is refused with 429 at once.
    max_client_batch_size : int
        Inputs of one request.
    payload_limit : int
        Bytes of a request's body.
    body_timeout : float
        Seconds that a client may take to send a request.
    auto_truncate : bool
        Inputs that are too long are cut where a request does not say otherwise.
    grace : float
        Seconds that requests in flight have to finish once the server is told to stop.
    """

    model_name: str = "vlt"
    api_key: str | None = None
    max_concurrent_requests: int = 512
    max_client_batch_size: int = 32
    payload_limit: int = 2_000_000
    body_timeout: float = 30.0
    auto_truncate: bool = True
    grace: float = 30.0
