"""`vlt encode`: one embedding a line of text, in a stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import vlt

from .common import add_command, add_engine_options, add_texts_option, positive
from .lines import batches_of
from .writers import JsonLinesWriter, NpyWriter, Writer

if TYPE_CHECKING:
    import argparse

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
    add_texts_option(parser)
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
        with open_writer(options.output) as writer:
            for texts in batches_of(options.texts, encoder.device, not options.no_progress):
                writer.write(texts, embed(encoder, texts, options))


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


def open_writer(name: str) -> Writer:
    """The format is told by the name."""
    return NpyWriter(Path(name)) if name.endswith(".npy") else JsonLinesWriter(name)
