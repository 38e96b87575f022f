"""The command `vlt`: one module a command, plain errors, exit codes 0, 1 and 2."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import vlt

from . import bench, classify, convert, demo, encode, info, rerank, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (demo, convert, info, encode, rerank, classify, serve, bench)

DONE, FAILED, INTERRUPTED = 0, 1, 130  # wrong usage is 2: argparse exits by itself

EPILOG = """\
examples:
  vlt demo                                     embed a few sentences with a small model
  vlt convert all-MiniLM-L6-v2/ weights.bin    make a weights file of a model folder
  vlt info weights.bin                         what is in it
  vlt encode weights.bin texts.txt -o out.npy  one embedding a line of text
  vlt rerank reranker.bin "a query" texts.txt  lines of text, the best answer first
  vlt classify sentiment.bin texts.txt         labels of each line of text
  vlt serve weights.bin                        answer over HTTP
  vlt bench weights.bin                        how fast it is on this machine

exit codes: 0 done, 1 the work failed, 2 wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    except KeyboardInterrupt:
        print("vlt: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (vlt.VltError, OSError, ImportError, MemoryError) as error:
        print(f"vlt: error: {str(error) or type(error).__name__}", file=sys.stderr)
        return FAILED
    return DONE


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="vlt",
        description="Transformer encoders on texts of different lengths, without padding.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vlt {vlt.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def silence_stdout() -> None:
    """Who reads our output has enough; nothing more may be written, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
