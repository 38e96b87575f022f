"""The benchmark of two builds: its table, and a run of the library against itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlt import _native

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import bench_versions


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, bench_versions.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_has_medians_and_their_ratio() -> None:
    old = [{"a": {"run": time}, "b": {"run": 1.0}} for time in (9.0, 2.0, 3.0)]
    new = [{"a": {"run": time}, "b": {"run": 4.0}} for time in (1.5, 0.1, 1.5)]
    assert bench_versions.table(old, new).splitlines()[2:] == [
        "| a | run | 3 | 1.5 | 2.000 |",
        "| b | run | 1 | 4 | 0.250 |",
        "| geometric mean | run | | | 0.707 |",
    ]


def test_a_build_against_itself(tmp_path: Path) -> None:
    library = _native.library_path()
    options = ["--models", "minilm", "--workloads", "single-16", "--rounds", "1", "--threads", "1"]
    done = run(library, library, *options, "--seconds", "0.01", "--cache", tmp_path)
    assert done.returncode == 0, done.stderr
    cell, mean = (row.split(" | ") for row in done.stdout.splitlines()[2:])
    assert cell[:2] == ["| minilm single-16", "run"]
    assert float(cell[2]) > 0
    assert float(cell[3]) > 0
    assert mean[:2] == ["| geometric mean", "run"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one.so"], "takes two libraries, the old and the new one, not 1"),
        (["no/old.so", "no/new.so"], "there is no no/old.so"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode != 0
    assert words in done.stderr


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    library = _native.library_path()
    done = run(library, library, "--models", "maxilm", "--rounds", "1")
    assert done.returncode != 0
    assert "'maxilm' is not of minilm, bert-base" in done.stderr
