"""Time rerankers and classifiers: vlt without padding against PyTorch and ONNX Runtime with it.

    pip install torch transformers onnx onnxruntime tokenizers numpy   # in its own environment
    PYTHONPATH=python python tools/bench_heads.py --threads 2 --markdown heads.md
    PYTHONPATH=python python tools/bench_heads.py --device cuda --markdown heads.md

Models have random weights in the configuration of real ones. From token ids on the host to scores
on the host, all engines in one process and in turns, each in the best of its modes: texts sorted by
length in padded batches of 32 (on a GPU also of up to 16,384 tokens, and all in one), or one at a
time. Before anything is timed, scores are compared. VLT_LIBRARY names the library where it is not
installed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import bench_setting
import numpy as np
from bench_encoder import SLICES, draw
from bench_timing import Entry, time_interleaved
from make_workloads import PATH as WORKLOADS
from peers import Ids, PaddedBatch, pad, sorted_batches

import vlt


class HeadModel(NamedTuple):
    """A configuration of transformers, its class with a head, and what vlt is asked for."""

    config: str
    settings: dict[str, Any]
    head: str
    output: str


_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
_DEBERTA_V3 = {
    "vocab_size": 128_100,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "pad_token_id": 0,
}
MODELS = {
    "reranker": HeadModel(
        "BertConfig", _MINILM | {"num_labels": 1}, "BertForSequenceClassification", "logits"
    ),
    "token-classifier": HeadModel(
        "BertConfig", {"num_labels": 9}, "BertForTokenClassification", "token_logits"
    ),
    "deberta-v3-base": HeadModel(
        "DebertaV2Config",
        _DEBERTA_V3 | {"num_labels": 1},
        "DebertaV2ForSequenceClassification",
        "logits",
    ),
}
WORKLOAD_NAMES = ("mixed-256", "passages-512")
CHECK_LENGTHS = (5, 17, 31, 64, 200)
# Relative difference above which an engine does other work than vlt; 16 bits lose more.
SAME_WORK = {"cpu": 1e-4, "cuda": 3e-2}
GPU_BATCH_TOKENS = 16_384

Run = Callable[[PaddedBatch], Any]  # -> scores [B, …] on the host


def write_checkpoint(name: str, cache: Path) -> Path:
    """A folder with random weights; biases too, so that one that is left out is noticed."""
    import torch
    import transformers

    folder = cache / f"heads-{name}"
    done = folder / "done"  # written last: an interrupted run starts again
    if done.exists():
        return folder
    model = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, model.config)(**model.settings)
    with_head = getattr(transformers, model.head)(config)
    for parameter_name, parameter in with_head.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.data.normal_(0.0, 0.1)
    with_head.save_pretrained(folder)
    done.touch()
    return folder


def load_torch(name: str, folder: Path, device: str) -> Any:
    """The model as transformers has it, in the precision that vlt runs in on the device."""
    import torch
    import transformers

    dtype = torch.float32 if device == "cpu" else torch.float16
    model = getattr(transformers, MODELS[name].head).from_pretrained(folder, dtype=dtype)
    return model.to(device).eval()


def torch_run(model: Any, device: str) -> Run:
    """Scores of a padded batch by a model of transformers, compiled or not."""
    import torch

    def run(batch: PaddedBatch) -> Any:
        ids, mask = (
            torch.from_numpy(array).to(device) for array in (batch.token_ids, batch.attention_mask)
        )
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).logits.float().cpu().numpy()

    return run


def onnx_run(name: str, folder: Path, threads: int) -> Run:
    """ONNX Runtime on the exported graph, at its own highest level of optimisation."""
    import onnxruntime

    path = folder / "model.onnx"
    if not path.exists():
        _export(name, folder, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(batch: PaddedBatch) -> Any:
        inputs = {"input_ids": batch.token_ids, "attention_mask": batch.attention_mask}
        return session.run(None, inputs)[0]

    return run


def _export(name: str, folder: Path, path: Path) -> None:
    import torch
    import transformers

    model = getattr(transformers, MODELS[name].head).from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )

    class Scores(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model.eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    names = ["input_ids", "attention_mask"]
    example = torch.ones(2, 8, dtype=torch.long)
    torch.onnx.export(
        Scores(),
        (example, example),
        str(path),
        input_names=names,
        output_names=["scores"],
        dynamo=False,
        opset_version=17,
        dynamic_axes={key: {0: "batch", 1: "length"} for key in (*names, "scores")},
    )


def engines(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Run]:
    """The peers by name; those that cannot be made here are named and left out."""
    import torch

    model = load_torch(name, folder, args.device)
    makes: dict[str, Callable[[], Run]] = {"transformers": lambda: torch_run(model, args.device)}
    if args.device == "cpu":
        makes["onnxruntime"] = lambda: onnx_run(name, folder, args.threads)
    else:
        makes["compiled"] = lambda: torch_run(torch.compile(model, dynamic=False), args.device)
    made: dict[str, Run] = {}
    for engine, make in makes.items():
        try:
            made[engine] = make()
        except Exception as error:  # whatever a framework raises: the others are worth timing
            print(f"{name}: no {engine}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    return made


def modes(engine: str, sequences: list[Ids], device: str) -> dict[str, list[PaddedBatch]]:
    """The ways in which an engine may take the texts."""
    if engine == "compiled":  # one shape: each more is compiled anew
        return {"one batch": [pad(sequences)]}
    ways = {"sorted 32": sorted_batches(sequences, 32)}
    if device == "cpu":
        ways["one at a time"] = [pad([sequence]) for sequence in sequences]
    else:
        ways["sorted 16k tokens"] = batches_of_tokens(sequences, GPU_BATCH_TOKENS)
        ways["one batch"] = [pad(sequences)]
    return ways


def batches_of_tokens(sequences: list[Ids], most: int) -> list[PaddedBatch]:
    """Padded batches, longest first, of at most so many tokens, padding included."""
    batches: list[list[Ids]] = [[]]
    for sequence in sorted(sequences, key=len, reverse=True):
        batch = batches[-1]
        if batch and (len(batch) + 1) * len(batch[0]) > most:
            batches.append([])
        batches[-1].append(sequence)
    return [pad(batch) for batch in batches]


def check_same_work(
    name: str, encoder: vlt.Encoder, runs: dict[str, Run], device: str, vocab_size: int
) -> None:
    """Raise RuntimeError where an engine computes something else than vlt."""
    sequences = draw(CHECK_LENGTHS, vocab_size)
    ours = own_scores(encoder, name, vlt.pack(sequences))
    batch = pad(sequences)
    for engine, run in runs.items():
        if engine == "compiled":
            continue  # the same model, and another shape would cost another compilation
        scores = np.asarray(run(batch))
        if scores.ndim == 3:
            scores = np.concatenate([row[:n] for row, n in zip(scores, CHECK_LENGTHS, strict=True)])
        difference = np.sqrt(np.mean((scores - ours) ** 2) / np.mean(scores**2))
        if not difference < SAME_WORK[device]:
            raise RuntimeError(f"{name}: {engine}'s scores differ from vlt's by {difference:.2g}")


def own_scores(encoder: vlt.Encoder, name: str, ids: vlt.PackedIds) -> Any:
    result: Any = encoder.run(ids, output=MODELS[name].output)  # type: ignore[arg-type]
    return getattr(result, "values", result)


def run_all(run: Run, batches: list[PaddedBatch]) -> list[Any]:
    return [run(batch) for batch in batches]


def bench_model(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """All workloads on one model, printed as they are done."""
    folder = write_checkpoint(name, args.cache)
    weights = folder / "weights.bin"
    vlt.convert(folder, weights)
    encoder = vlt.Encoder(weights, device=args.device, num_threads=args.threads)
    runs = engines(name, folder, args)
    vocab_size = encoder.vocab_size
    check_same_work(name, encoder, runs, args.device, vocab_size)
    rows = []
    for workload in args.workloads:
        lengths = json.loads(WORKLOADS.read_text(encoding="utf-8"))[workload]["lengths"]
        lengths = lengths[: args.texts or (SLICES[workload] if args.device == "cpu" else None)]
        sequences = draw(tuple(lengths), vocab_size)
        packed = vlt.pack(sequences)
        entries = [Entry("vlt", "packed", partial(own_scores, encoder, name, packed))]
        for engine, run in runs.items():
            for mode, batches in modes(engine, sequences, args.device).items():
                entries.append(Entry(engine, mode, partial(run_all, run, batches)))
        best: dict[str, float] = {}
        for entry in time_interleaved(entries, args.seconds):
            seconds = entry.median
            best[entry.engine] = min(seconds, best.get(entry.engine, seconds))
        row = {"model": name, "workload": workload, "texts": len(lengths), "tokens": sum(lengths)}
        rows.append({**row, "milliseconds": {k: 1e3 * v for k, v in best.items()}})
        print(render_line(rows[-1]), flush=True)
    encoder.close()
    return rows


def render_line(row: dict[str, Any]) -> str:
    times = row["milliseconds"]
    peers = [value for engine, value in times.items() if engine != "vlt"]
    shown = " ".join(f"{engine} {value:.4g}" for engine, value in times.items())
    return f"{row['model']:17} {row['workload']:13} {shown} ms, best peer / vlt " + (
        f"{min(peers) / times['vlt']:.2f}" if peers else "-"
    )


def render_markdown(rows: list[dict[str, Any]], setting: dict[str, str]) -> str:
    names = list(dict.fromkeys(engine for row in rows for engine in row["milliseconds"]))
    peers = [name for name in names if name != "vlt"]
    lines = [
        ", ".join(f"{key} {value}" for key, value in setting.items()) + ":",
        "",
        "| model | workload | tokens | " + " | ".join([*peers, "vlt", "best peer / vlt"]) + " |",
        "|---|---|---:|" + "---:|" * (len(peers) + 2),
    ]
    for row in rows:
        times = row["milliseconds"]
        cells = [f"{times[name]:.4g}" if name in times else "-" for name in [*peers, "vlt"]]
        best = min(value for name, value in times.items() if name != "vlt") / times["vlt"]
        lines.append(
            f"| {row['model']} | {row['workload']} | {row['tokens']:,} | "
            + " | ".join([*cells, f"{best:.2f}"])
            + " |"
        )
    return "\n".join(lines) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time rerankers and classifiers.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOAD_NAMES, default=list(WORKLOAD_NAMES)
    )
    parser.add_argument("--texts", type=int, help="only so many of each workload, the first ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="about, for each workload")
    parser.add_argument("--cache", type=Path, default=Path(".peers"), help="for checkpoints")
    parser.add_argument("--markdown", type=Path, help="write the table of BENCHMARKS.md")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.device == "cpu":
        import torch

        torch.set_num_threads(args.threads)
        setting = bench_setting.read(args.threads, "float32", ["torch", "ort"])
    else:
        setting = bench_setting.read_gpu("float16")
    rows = [row for name in args.models for row in bench_model(name, args)]
    if args.markdown:
        args.markdown.write_text(render_markdown(rows, setting), encoding="utf-8")


if __name__ == "__main__":
    main()
