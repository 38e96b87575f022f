"""The examples build, in every language, and print to the bit the vectors that Python gets."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vlt
from vlt import _native

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
INCLUDE = f"-I{ROOT / 'cpp' / 'include'}"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", INCLUDE]
LIBRARY = _native.library_path().absolute().parent
RPATH = f"-Wl,-rpath,{LIBRARY}"
LINK = [f"-L{LIBRARY}", RPATH, "-lvlt"]
CC, CXX = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")

# language -> the command in the example's folder, before and after "-o PROGRAM"
COMMANDS = {
    "c": ([CC], ["-std=c99", *STRICT, "embed.c", *LINK]),
    "cpp": ([CXX], ["-std=c++17", *STRICT, "embed.cpp", *LINK]),
    "rust": (
        ["rustc"],
        ["--edition=2021", "-Dwarnings", "main.rs", f"-L{LIBRARY}", f"-Clink-arg={RPATH}"],
    ),
    "go": (["go", "build"], ["."]),
}
# Without the network, nothing written outside the test's folder, whatever git thinks of this tree.
GO = {
    "CGO_CFLAGS": INCLUDE,
    "CGO_LDFLAGS": " ".join(LINK[:2]),
    "GOFLAGS": "-mod=mod -buildvcs=false",
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module", params=COMMANDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Builds one language's example and calls it with arguments."""
    folder = tmp_path_factory.mktemp(request.param)
    before, after = COMMANDS[request.param]
    if shutil.which(before[0]) is None:
        pytest.skip(f"no compiler {before[0]!r}")
    result = subprocess.run(
        [*before, "-o", folder / "embed", *after],
        cwd=EXAMPLES / request.param,
        env=os.environ | GO | {"GOCACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in (folder / "embed", *arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    return call


def test_same_vectors_as_python(run: Run, tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    sequences = [[2, 5, 3], [], [2, 7, 11, 13, 17, 3], [9]]
    words = " / ".join(" ".join(map(str, sequence)) for sequence in sequences).split()
    result = run(tiny_weights, *words)
    assert (result.returncode, result.stderr) == (0, "")
    printed = [[float(word) for word in line.split()] for line in result.stdout.splitlines()]
    expected = np.asarray(tiny_encoder.run(sequences, output="embedding"))
    # As integers, since -0.0 equals 0.0.
    np.testing.assert_array_equal(
        np.array(printed, np.float32).view(np.int32), expected.view(np.int32)
    )


def test_errors(run: Run, tiny_weights: Path) -> None:
    for arguments, words in [
        ((), "usage: embed WEIGHTS"),
        (("/nowhere", 1), "/nowhere"),
        ((tiny_weights, 1, "two"), "'two' is not a token id"),
        ((tiny_weights, 1, 2**31), f"'{2**31}' is not a token id"),
        ((tiny_weights, 1, 999999), "token id 999999"),
    ]:
        result = run(*arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("embed: ")
        assert words in result.stderr
