"""The checkout built by CMake, for tests of what a wheel does not hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vlt import _native

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path) -> str:
    """Standard output of a command that must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def configure(tree: Path) -> None:
    """Prepares a build of all that runs without a GPU."""
    options = ["-DVLT_BUILD_TESTS=ON", "-DVLT_CUDA=OFF"]
    run("cmake", "-S", ROOT, "-B", tree, "-G", "Ninja", *options)


def build(tree: Path, target: str) -> None:
    run("cmake", "--build", tree, "--target", target)


def tree_of_library() -> Path | None:
    """The build that the library under test was made in; None for an installed one."""
    tree = _native.library_path().absolute().parent
    return tree if (tree / "cmake_install.cmake").exists() else None
