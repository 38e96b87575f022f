"""Lines of text, read in batches."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vlt.blocks import BLOCK_CHARACTERS
from vlt.errors import InvalidArgumentError
from vlt.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

# Texts held at a time: enough for a few blocks of the encoder, little enough for the bar to move.
BATCH_BLOCKS = 4


def batches_of(name: str, device: str, progress: bool) -> Iterator[list[str]]:
    """Lists of lines of a file, or of standard input for "-"; one empty list for an empty file.

    The bar, if wanted, moves when a list has been worked on.
    """
    batch_bytes = BATCH_BLOCKS * BLOCK_CHARACTERS[device.partition(":")[0]]
    total = None if name == "-" else Path(name).stat().st_size
    with open_texts(name) as file, ProgressBar(total, "bytes", None if progress else False) as bar:
        done = 0
        for texts, size in batches(file, name, batch_bytes):
            yield texts
            done += size
            bar.update(done)


def open_texts(name: str) -> AbstractContextManager[BinaryIO]:
    """The lines to read; standard input stays open afterwards."""
    return nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb")


def batches(file: BinaryIO, name: str, batch_bytes: int) -> Iterator[tuple[list[str], int]]:
    """Lists of lines of about so many bytes, with their bytes; an empty one for an empty file."""
    texts: list[str] = []
    size = 0
    for number, line in enumerate(file, start=1):
        try:
            texts.append(line.decode().rstrip("\r\n"))
        except UnicodeDecodeError as error:
            raise InvalidArgumentError(
                f"line {number} of {name} is not UTF-8: {error.reason} at byte {error.start}"
            ) from None
        size += len(line)
        if size >= batch_bytes:
            yield texts, size
            texts, size = [], 0
    yield texts, size
