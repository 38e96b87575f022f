"""`vlt encode`: one embedding a line of text, in a stream."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import vlt
from vlt.blocks import BLOCK_CHARACTERS
from vlt.errors import InvalidArgumentError
from vlt.progress import ProgressBar

from .common import add_command, add_engine_options, positive
from .writers import JsonLinesWriter, NpyWriter, Writer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

# Texts held at a time: enough for a few blocks of the encoder, little enough for the bar to move.
BATCH_BLOCKS = 4

EXAMPLES = """\
  vlt encode weights.bin texts.txt -o embeddings.npy
  vlt encode weights.bin texts.txt -o embeddings.jsonl --normalize
  cat queries.txt | vlt encode all-MiniLM-L6-v2/ --prompt "query: " | head
  vlt encode weights.bin texts.txt -o bits.npy --precision ubinary --truncate-dim 256

Memory does not grow with the input. Every line is a text, an empty one too. The .npy file holds
an array [lines, dimensions]; JSON lines are {"text": ..., "embedding": [...]}."""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(commands, "encode", run, "Embed texts, one a line.", EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a weights file or model folder")
    parser.add_argument(
        "texts",
        nargs="?",
        default="-",
        metavar="TEXTS",
        help="a UTF-8 file, or - for standard input (-)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="-",
        metavar="OUT",
        help="a .npy file, or any other file for JSON lines, or - for standard output (-)",
    )
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", metavar="TEXT", help="put before each text")
    prompts.add_argument("--prompt-name", metavar="NAME", help="one of the model's own prompts")
    parser.add_argument("--normalize", action="store_true", help="scale embeddings to length 1")
    parser.add_argument(
        "--truncate-dim", type=positive, metavar="N", help="keep the first N dimensions"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "binary", "ubinary"),
        default="float32",
        help="float32, or the signs of the dimensions, eight to a byte",
    )
    parser.add_argument("--max-seq-length", type=positive, metavar="N", help="truncate texts")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> None:
    """Read, embed and write block by block."""
    engine = options.device, options.dtype, options.threads
    with vlt.Encoder(options.model, *engine) as encoder:
        if options.max_seq_length:
            encoder.max_seq_length = options.max_seq_length
        show = False if options.no_progress else None
        batch_bytes = BATCH_BLOCKS * BLOCK_CHARACTERS[encoder.device.partition(":")[0]]
        with open_texts(options.texts) as file, open_writer(options.output) as writer:
            total = None if options.texts == "-" else Path(options.texts).stat().st_size
            with ProgressBar(total, "bytes", show) as bar:
                done = 0
                for texts, size in batches(file, options.texts, batch_bytes):
                    writer.write(texts, embed(encoder, texts, options))
                    done += size
                    bar.update(done)


def embed(encoder: vlt.Encoder, texts: list[str], options: argparse.Namespace) -> Any:
    """[n, D] embeddings of one block."""
    return encoder.encode(
        texts,
        prompt=options.prompt,
        prompt_name=options.prompt_name,
        normalize_embeddings=options.normalize,
        truncate_dim=options.truncate_dim,
        precision=options.precision,
        show_progress_bar=False,
    )


def open_texts(name: str) -> AbstractContextManager[BinaryIO]:
    """The lines to read; standard input stays open afterwards."""
    return nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb")


def open_writer(name: str) -> Writer:
    """The format is told by the name."""
    return NpyWriter(Path(name)) if name.endswith(".npy") else JsonLinesWriter(name)


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
