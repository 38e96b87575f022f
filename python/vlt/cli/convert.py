"""`vlt convert`: makes a weights file of a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import vlt

from .common import add_command, megabytes

if TYPE_CHECKING:
    import argparse

DTYPES = ("float32", "float16", "bfloat16", "int8", "keep")

EXAMPLES = """\
  vlt convert all-MiniLM-L6-v2/ weights.bin
  vlt convert my-model/ my-model.bin --dtype bfloat16    half the size on disk
  vlt convert my-model/ my-model.bin --dtype int8        a quarter, for encoders in int8"""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands,
        "convert",
        run,
        "Make a weights file of a Hugging Face or sentence-transformers folder.",
        EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the model folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the weights file to write")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="how to store the weights (float32); int8: the layers', and other matrices in "
        "bfloat16; keep: as the folder has them",
    )


def run(options: argparse.Namespace) -> None:
    """Write the file and say how large it is."""
    path = vlt.convert(options.folder, options.out, dtype=options.dtype)
    print(f"wrote {path}, {megabytes(path.stat().st_size)}")
