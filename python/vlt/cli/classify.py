"""`vlt classify`: labels of texts or of their tokens, in a stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import vlt
from vlt.entities import STRATEGIES
from vlt.scores import FUNCTIONS

from .common import add_command, add_engine_options, add_texts_option, positive
from .lines import batches_of
from .writers import ObjectsWriter

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
  vlt classify sentiment.bin texts.txt -o labels.jsonl
  cat texts.txt | vlt classify bert-base-NER/ --aggregation simple | head

Memory does not grow with the input. Every line is a text, an empty one too. JSON lines are
{"text": ..., "labels": [{"label": ..., "score": ...}]}, or with a model that labels tokens
{"text": ..., "entities": [...]}."""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands, "classify", run, "Label texts, one a line, or their tokens.", EXAMPLES
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a weights file or model folder")
    add_texts_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="-",
        metavar="OUT",
        help="a file for JSON lines, or - for standard output (-)",
    )
    parser.add_argument(
        "--top-k", type=positive, default=1, metavar="N", help="labels of each text (1)"
    )
    parser.add_argument(
        "--function", choices=FUNCTIONS, help="what makes scores (as the weights file says)"
    )
    parser.add_argument(
        "--aggregation",
        choices=STRATEGIES,
        default="none",
        help="how labelled tokens become entities (none)",
    )
    parser.add_argument("--max-seq-length", type=positive, metavar="N", help="truncate texts")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> None:
    """Read, label and write block by block."""
    engine = options.device, options.dtype, options.threads
    with (
        vlt.Classifier(options.model, *engine, max_length=options.max_seq_length) as classifier,
        ObjectsWriter(options.output) as writer,
    ):
        for texts in batches_of(options.texts, classifier.device, not options.no_progress):
            key, results = label(classifier, texts, options)
            writer.write(
                {"text": text, key: found} for text, found in zip(texts, results, strict=True)
            )


def label(
    classifier: vlt.Classifier, texts: list[str], options: argparse.Namespace
) -> tuple[str, list[Any]]:
    """What to call the results, and one list of them a text."""
    if "logits" not in classifier.outputs:
        return "entities", classifier.classify_tokens(texts, options.aggregation)
    results = classifier.predict(texts, options.top_k, options.function, show_progress_bar=False)
    return "labels", results if options.top_k > 1 else [[best] for best in results]
