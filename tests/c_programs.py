"""Programs in C against the library under test: compiled strictly, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vlt import _native

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = ROOT / "cpp" / "include"
SOURCES = ROOT / "tests" / "c"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
PATIENCE = 120  # seconds; a program that hangs must fail its test


def library() -> Path:
    return _native.library_path().resolve()


def compiler(variable: str, default: str) -> str:
    """The compiler that the environment names, or the system's; skips the test without one."""
    name = os.environ.get(variable, default)
    if shutil.which(name) is None:
        pytest.skip(f"no compiler {name!r}")
    return name


def run(*command: str | Path) -> str:
    """Standard output of a command that must succeed."""
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def build(
    source: Path,
    program: Path,
    standard: str = "c11",
    include: Path = INCLUDE,
    linked: bool = True,
) -> Path:
    """Compiles a program; `linked` with the library, or left to look it up itself."""
    link = [str(library()), f"-Wl,-rpath,{library().parent}"] if linked else []
    cc = compiler("CC", "cc")
    flags = [f"-std={standard}", *STRICT, f"-I{include}", "-pthread"]
    run(cc, *flags, source, *link, "-lm", "-ldl", "-o", program)
    return program
