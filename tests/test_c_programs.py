"""What a process that embeds the library may do to it: threads, signals, unloading, no memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_programs import SOURCES, build, library, run
from hostile.build import good_file

MANY_BATCHES = 1000


def test_threads_side_by_side(tiny_weights: Path, tmp_path: Path) -> None:
    program = build(SOURCES / "threads.c", tmp_path / "threads")
    run(program, tiny_weights, str(MANY_BATCHES))


def test_signals(tiny_weights: Path, tmp_path: Path) -> None:
    run(build(SOURCES / "signals.c", tmp_path / "signals"), tiny_weights)


def test_unloading(tiny_weights: Path, tmp_path: Path) -> None:
    program = build(SOURCES / "unload.c", tmp_path / "unload", linked=False)
    run(program, library(), tiny_weights)


@pytest.mark.parametrize("num_threads", ["1", "3"])
def test_no_memory_at_any_place(num_threads: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(good_file())
    program = build(SOURCES / "no_memory.c", tmp_path / "no_memory")
    said = run(program, weights, num_threads).splitlines()
    assert [line.split(":")[0] for line in said] == ["load", "create", "reserve", "run"] * 2
