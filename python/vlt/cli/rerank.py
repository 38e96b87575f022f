"""`vlt rerank`: lines of text ordered by how well they answer a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import vlt

from .common import add_command, add_engine_options, add_texts_option, positive
from .lines import batches_of
from .writers import ObjectsWriter

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  vlt rerank reranker.bin "how fast is a cheetah?" passages.txt --top-k 10
  cat passages.txt | vlt rerank ms-marco-MiniLM-L6-v2/ "how fast is a cheetah?"

Every line is a text, an empty one too. JSON lines, the best first, are
{"corpus_id": ..., "score": ..., "text": ...}; corpus_id counts the lines from 0."""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands, "rerank", run, "Order texts, one a line, by how they answer a query.", EXAMPLES
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a weights file or model folder")
    parser.add_argument("query", metavar="QUERY", help="what the texts should answer")
    add_texts_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="-",
        metavar="OUT",
        help="a file for JSON lines, or - for standard output (-)",
    )
    parser.add_argument("--top-k", type=positive, metavar="N", help="only the best N (all)")
    parser.add_argument("--max-seq-length", type=positive, metavar="N", help="truncate pairs")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> None:
    """Score block by block, and write when all is known; the texts stay in memory."""
    engine = options.device, options.dtype, options.threads
    with (
        vlt.CrossEncoder(options.model, *engine, max_length=options.max_seq_length) as encoder,
        ObjectsWriter(options.output) as writer,
    ):
        ranked: list[dict[str, Any]] = []
        done = 0
        for texts in batches_of(options.texts, encoder.device, not options.no_progress):
            found = encoder.rank(
                options.query, texts, return_documents=True, show_progress_bar=False
            )
            ranked += [{**each, "corpus_id": done + each["corpus_id"]} for each in found]
            done += len(texts)
        # equal scores in the order of the lines, whatever the blocks
        ranked.sort(key=lambda each: (-each["score"], each["corpus_id"]))
        writer.write(ranked[: options.top_k])
