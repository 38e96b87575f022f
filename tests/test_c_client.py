"""vlt.h as C and C++ see it: it compiles strictly, and a C99 program gets what Python gets."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hostile.build import good_file

import vlt
from vlt import _native

ROOT = Path(__file__).parents[1]
INCLUDE = ROOT / "cpp" / "include"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{INCLUDE}"]


def compiler(variable: str, default: str) -> str:
    """The compiler that the environment names, or the system's."""
    name = os.environ.get(variable, default)
    if shutil.which(name) is None:
        pytest.skip(f"no compiler {name!r}")
    return name


def run(*command: str | Path) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "weights.bin"
    path.write_bytes(good_file())
    return path


def test_client(weights: Path, tmp_path: Path) -> None:
    library = _native.library_path().resolve()
    client = tmp_path / "client"
    source = ROOT / "tests" / "c" / "client.c"
    rpath = f"-Wl,-rpath,{library.parent}"
    cc = compiler("CC", "cc")
    run(cc, "-std=c99", *STRICT, source, library, rpath, "-lm", "-o", client)

    printed = [[float(word) for word in line.split()] for line in run(client, weights).splitlines()]
    with vlt.Encoder(weights) as encoder:
        expected = encoder.run([[1, 2], [], [3, 4, 5, 9]], output="embedding")
    # Nine digits name one float32 exactly.
    np.testing.assert_array_equal(np.array(printed, np.float32), np.asarray(expected))


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_header_is_cpp(standard: str, tmp_path: Path) -> None:
    source = tmp_path / "includes.cpp"
    source.write_text('#include "vlt.h"\n#include "vlt.h"\nint main() { return VLT_OK; }\n')
    cxx = compiler("CXX", "c++")
    run(cxx, f"-std={standard}", *STRICT, "-fsyntax-only", source)
