"""What goes wrong with a request, and how each interface says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from vlt.errors import (
    ClosedError,
    DeadlineError,
    InvalidArgumentError,
    OverloadedError,
    UnsupportedError,
)


@dataclass(frozen=True)
class Kind:
    """A kind of failure, and its status in each interface."""

    name: str
    tei_status: int
    openai_status: int
    openai_type: str


INVALID = "invalid_request_error"
VALIDATION = Kind("Validation", 422, 400, INVALID)
MALFORMED = Kind("Validation", 400, 400, INVALID)
TOO_LARGE = Kind("Validation", 413, 413, INVALID)
SLOW = Kind("Validation", 408, 408, INVALID)
EMPTY = Kind("Empty", 400, 400, INVALID)
TOKENIZER = Kind("Tokenizer", 422, 400, INVALID)
UNSUPPORTED = Kind("Backend", 424, 400, INVALID)
BACKEND = Kind("Backend", 424, 500, "server_error")
OVERLOADED = Kind("Overloaded", 429, 429, "rate_limit_error")
TIMEOUT = Kind("Timeout", 504, 504, "server_error")
UNHEALTHY = Kind("Unhealthy", 503, 503, "server_error")
NOT_FOUND = Kind("NotFound", 404, 404, INVALID)
UNAUTHORIZED = Kind("Unauthorized", 401, 401, "authentication_error")


class RequestError(Exception):
    """A request that cannot be answered, with the words for its client."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (OverloadedError, OVERLOADED),
    (DeadlineError, TIMEOUT),
    (ClosedError, UNHEALTHY),
    (UnsupportedError, UNSUPPORTED),
    (InvalidArgumentError, VALIDATION),
)


def failure_of(error: Exception) -> RequestError:
    """What to tell the client. Errors that are no fault of the request's are the backend's."""
    if isinstance(error, RequestError):
        return error
    kind = next((kind for type_, kind in KINDS if isinstance(error, type_)), BACKEND)
    return RequestError(kind, str(error) or type(error).__name__)


# What an interface makes of a failure: the status and the body.
Style = Callable[[RequestError], tuple[int, bytes]]


def tei_failure(failure: RequestError) -> tuple[int, bytes]:
    """As text-embeddings-inference says it."""
    return failure.kind.tei_status, tei_body(str(failure), failure.kind.name)


def tei_body(message: str, name: str) -> bytes:
    """The body of an error of this type."""
    return orjson.dumps({"error": message, "error_type": name})


def openai_failure(failure: RequestError) -> tuple[int, bytes]:
    """As OpenAI says it."""
    kind = failure.kind
    error: dict[str, Any] = {
        "message": str(failure),
        "type": kind.openai_type,
        "param": None,
        "code": HTTPStatus(kind.openai_status).phrase.lower().replace(" ", "_"),
    }
    return kind.openai_status, orjson.dumps({"error": error})
