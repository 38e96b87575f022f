"""vlt.h as C and C++ see it: it compiles strictly, and a C99 program gets what Python gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c_programs import INCLUDE, SOURCES, STRICT, build, compiler, run
from hostile.build import good_file

import vlt


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "weights.bin"
    path.write_bytes(good_file())
    return path


def test_client(weights: Path, tmp_path: Path) -> None:
    client = build(SOURCES / "client.c", tmp_path / "client", standard="c99")
    printed = [[float(word) for word in line.split()] for line in run(client, weights).splitlines()]
    with vlt.Encoder(weights) as encoder:
        expected = encoder.run([[1, 2], [], [3, 4, 5, 9]], output="embedding")
    # Nine digits name one float32 exactly.
    np.testing.assert_array_equal(np.array(printed, np.float32), np.asarray(expected))


def test_scheduler(tmp_path: Path) -> None:
    run(build(SOURCES / "scheduler.c", tmp_path / "scheduler", standard="c99"))


@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_header_is_cpp(standard: str, tmp_path: Path) -> None:
    source = tmp_path / "includes.cpp"
    source.write_text('#include "vlt.h"\n#include "vlt.h"\nint main() { return VLT_OK; }\n')
    cxx = compiler("CXX", "c++")
    run(cxx, f"-std={standard}", *STRICT, f"-I{INCLUDE}", "-fsyntax-only", source)
