"""The GPU benchmark: its cells, its report, and that its peers compute what transformers does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import bench_encoder_gpu
import bench_gpu_protocol as protocol
import bench_gpu_report as report
from bench_gpu_cells import MODELS, WORKLOADS, Cell, cells

LENGTHS = (5, 17, 1, 31)


def one_cell(workload: str, **milliseconds: float) -> dict[str, Any]:
    return {
        "model": "bert-base",
        "workload": workload,
        "sequences": 2,
        "tokens": 1000,
        "gflop": 200.0,
        "milliseconds": {name.replace("_", "-"): each for name, each in milliseconds.items()},
        "errors": {"vlt": 1e-3},
    }


def one_run(*results: dict[str, Any], precision: str = "float16") -> dict[str, Any]:
    return {"setting": {"GPU": "H200", "precision": precision}, "cells": list(results)}


# ---- Cells ---------------------------------------------------------------------------------------


def test_there_are_eighteen_cells() -> None:
    every = cells(list(MODELS), list(WORKLOADS))
    assert len(every) == len(set(every)) == 18
    assert cells(["minilm-l6"], ["squad-512", "single-128"]) == [Cell("minilm-l6", "single-128")]


def test_work_counts_products_and_attention_of_real_tokens() -> None:
    """BERT-base on 128 tokens: 85 million weights twice a token, and 12 layers of attention."""
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    attention = 12 * 4 * 128**2 * 768
    expected = 2 * 128 * weights + attention
    assert Cell("bert-base", "single-128").gflop == pytest.approx(expected / 1e9)


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_encoder_gpu.parse_arguments(["--peers", "packed-cg,other"])
    assert "'other' is not of" in capsys.readouterr().err


# ---- ByteTransformer's protocol ------------------------------------------------------------------


def test_lengths_of_the_protocol_have_its_mean() -> None:
    every = protocol.protocol_cells()
    assert len(every) == len({cell.workload for cell in every}) == 15
    for cell in every:
        batch, longest = map(int, cell.workload.removeprefix("uniform-").split("x"))
        assert len(cell.lengths) == batch
        assert sum(cell.lengths) / batch == pytest.approx(0.6 * longest, abs=0.5)
        assert batch == 1 or max(cell.lengths) == longest


def test_the_protocols_table(tmp_path: Path) -> None:
    fast = one_cell("uniform-1x64", vlt=1.0, padded=8.0, packed_cg=2.0)
    slow = one_cell("uniform-8x64", vlt=2.0, padded=4.0)
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"runs": [one_run(fast, slow)]}))
    text = protocol.report([path])
    assert "| workload | tokens | vlt | packed-cg / vlt | padded / vlt |" in text
    assert "| uniform-1x64 | 1,000 | 1.000 | 2.00 | 8.00 |" in text
    assert "| uniform-8x64 | 1,000 | 2.000 | – | 2.00 |" in text
    assert "| geometric mean |  |  | 2.00 | 4.00 |" in text
    assert "DeepSpeed 1.74" in text


def test_the_protocol_has_peers_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    args = bench_encoder_gpu.parse_arguments(["--protocol"])
    assert args.peers == protocol.PROTOCOL_PEERS
    assert args.cells == protocol.protocol_cells()
    with pytest.raises(SystemExit):
        bench_encoder_gpu.parse_arguments(["--protocol", "--markdown", "x.md"])
    assert "prints its table" in capsys.readouterr().err


# ---- Report --------------------------------------------------------------------------------------


def test_ratios_are_of_one_run() -> None:
    """A later run on a slower day must not be mixed with an earlier one's peers."""
    first = one_run(one_cell("single-128", vlt=1.0, packed_cg=2.0, gemm=0.5))
    second = one_run(one_cell("single-128", vlt=2.0, padded=3.0))
    (result,) = report.merge([first, second])
    assert result.timings["packed-cg"].ratio == 2.0
    assert result.timings["padded"].ratio == 1.5
    assert result.ratio == 1.5
    assert result.floor_share == 0.5
    assert result.teraflops == 100.0


def test_the_summary_names_the_worst_cell() -> None:
    run = one_run(
        one_cell("squad-512", vlt=1.0, packed_cg=8.0, gemm=0.9),
        one_cell("single-128", vlt=1.0, packed_cg=2.0, gemm=0.4),
    )
    results = report.merge([run])
    assert [result.workload for result in results] == ["single-128", "squad-512"]
    text = report.summary(results)
    assert "best peer / vlt: geometric mean 4.00, worst 2.00 (bert-base, single-128)" in text
    assert "share of the floor: geometric mean 0.60, worst 0.40 (bert-base, single-128)" in text


def test_the_table_leaves_out_what_was_not_timed() -> None:
    run = one_run(
        one_cell("single-128", vlt=0.5, packed_cg=1.0),
        one_cell("squad-512", vlt=100.0, packed_cg=250.0, gemm=50.0),
    )
    header, *rows = report.table(report.merge([run]))
    by_name = [dict(zip(header, row, strict=True)) for row in rows]
    assert "padded" not in header
    assert [row["gemm"] for row in by_name] == ["–", "50.00"]
    assert [row["vlt"] for row in by_name] == ["0.500", "100"]
    assert [row["best peer / vlt"] for row in by_name] == ["2.00", "2.50"]


def test_precisions_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for precision, time in (("float16", 1.0), ("bfloat16", 4.0)):
        files.append(tmp_path / f"{precision}.json")
        run = one_run(one_cell("single-128", vlt=time, packed_cg=8.0), precision=precision)
        files[-1].write_text(json.dumps({"runs": [run]}))
    markdown = tmp_path / "out.md"
    assert report.main(files, markdown, None) == 0
    assert markdown.read_text().count("**bert-base**") == 2
    assert "geometric mean 8.00" in capsys.readouterr().out


def test_update_replaces_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "BENCHMARKS.md"
    path.write_text("# Benchmarks\n")
    report.update(path, "one")
    path.write_text(path.read_text() + "\n## After\n")
    report.update(path, "two")
    text = path.read_text()
    assert "one" not in text
    assert text.index("# Benchmarks") < text.index("two") < text.index("## After")
    path.write_text(text.replace(report.END, ""))
    with pytest.raises(ValueError, match="add one"):
        report.update(path, "three")


# ---- Peers, on the CPU ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work() -> Any:
    """A small BERT of transformers and sequences for it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from peers.cuda import Work

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=40,
    )
    bert = transformers.BertModel(config, add_pooling_layer=False).eval()
    for parameter in bert.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return Work(bert, torch.randint(0, 100, (sum(LENGTHS),), dtype=torch.int32), LENGTHS)


def test_packed_states_are_those_of_transformers(work: Any) -> None:
    import torch
    from peers.cuda import packed_bert, padded

    with torch.no_grad():
        exact = packed_bert.exact_states(work)
        ready = padded.make_eager(work)
        assert ready.packed is not None
        torch.testing.assert_close(ready.packed(ready.run()), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["make_padded", "make_packed"])
def test_rungs_of_the_ladder_compute_the_same(name: str, work: Any) -> None:
    import torch
    from peers.cuda import ladder, packed_bert

    with torch.no_grad():
        ready = getattr(ladder, name)(work)
        exact = packed_bert.exact_states(work)
        torch.testing.assert_close(ready.packed(ready.run()), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["packed", "padded"])
def test_one_compilation_serves_all_layers(
    name: str, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedding and layer, whatever the depth; the result is that of the formulas."""
    import importlib

    import torch
    from peers.cuda import packed_bert
    from torch._dynamo.testing import CompileCounter

    module = importlib.import_module(f"peers.cuda.{name}")
    counter = CompileCounter()

    def compiled(function: Any) -> Any:
        return torch.compile(function, dynamic=False, fullgraph=True, backend=counter)

    monkeypatch.setattr(module, "compiled", compiled)
    monkeypatch.setattr(module, "captured", lambda run: run)
    monkeypatch.setattr(module, "varlen_attention", packed_bert.plain_attention, raising=False)
    torch._dynamo.reset()
    with torch.no_grad():
        ready = module.make_graph(work)
        states = ready.packed(ready.run())
        exact = packed_bert.exact_states(work)
    assert counter.frame_count == 2
    torch.testing.assert_close(states, exact, rtol=1e-4, atol=1e-5)
