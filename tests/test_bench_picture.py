"""The picture of the CPU's benchmark is drawn from what the benchmark writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib")
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import bench_picture
from bench_report import Result


def write_run(path: Path, precision: str, **seconds: float) -> Path:
    row = {
        "workload": "single-16",
        "num_sequences": 1,
        "num_tokens": 16,
        "gflop": 1.0,
        "medians": {engine: {"padded": each} for engine, each in seconds.items()},
    }
    document = {"setting": {"precision": precision}, "results": {"minilm": [row]}}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_runs_of_several_precisions_are_one_picture(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a.json", "float32", vlt=2.0, ort=6.0, ov=4.0),
        write_run(tmp_path / "b.json", "int8", vlt=1.0, ort=5.0),
    ]
    results = bench_picture.read(runs)
    assert results["minilm"]["float32"][0].ratio == 2.0
    assert bench_picture.best_peer_seconds(results["minilm"]["int8"][0]) == 5.0
    picture = tmp_path / "folder" / "picture.svg"
    bench_picture.draw(picture, results)
    drawn = picture.read_text(encoding="utf-8")
    for words in ("minilm: one text", "single-16", "vlt, float32", "vlt, int8"):
        assert f"<!-- {words} -->" in drawn


def test_of_runs_alike_the_last_one_counts(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a.json", "float32", vlt=2.0, ort=6.0),
        write_run(tmp_path / "b.json", "float32", vlt=2.0, ort=3.0),
    ]
    assert bench_picture.read(runs)["minilm"]["float32"][0].ratio == 1.5


def test_single_texts_come_by_length(tmp_path: Path) -> None:
    rows = [
        Result("b", 1, 512, 1.0, {}),
        Result("many", 4, 64, 1.0, {}),
        Result("a", 1, 16, 1.0, {}),
    ]
    assert [row.workload for row in bench_picture.single_texts(rows)] == ["a", "b"]
