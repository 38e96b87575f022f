"""What a case of this folder is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A file that must be refused.

    Attributes
    ----------
    name
        The test's id.
    reason
        Why a reader that took the file would be wrong.
    build
        Makes the file's bytes.
    words
        Each must occur in the error message.
    """

    name: str
    reason: str
    build: Callable[[], bytes]
    words: tuple[str, ...]


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    """`content` with the first `old` made `new`; `old` must occur."""
    if old not in content:
        raise ValueError(f"{old!r} does not occur in {content[:200]!r}…")
    return content.replace(old, new, 1)
