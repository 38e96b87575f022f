"""`vlt info`: what a weights file or a model folder holds and can do."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import vlt
from vlt import outputs
from vlt.handles import Model, Session
from vlt.labels import label_names, problem_of
from vlt.text_config import TextConfig
from vlt.weights_source import weights_of

from .common import add_command, add_engine_options, megabytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}
ARCHITECTURE = (
    "num_layers",
    "hidden_size",
    "num_heads",
    "head_size",
    "intermediate_size",
    "vocab_size",
    "num_token_types",
    "max_length",
)

HEADS = ("embedding_head", "sequence_head", "token_head", "vocabulary_head")
SHOWN_LABELS = 10

EXAMPLES = """\
  vlt info weights.bin
  vlt info all-MiniLM-L6-v2/ --json
  vlt info weights.bin --memory 4096,32,512     workspace of batches up to 4,096 tokens in 32
                                                sequences of at most 512"""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands,
        "info",
        run,
        "Say what a weights file or a model folder holds and can do.",
        EXAMPLES,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a weights file or a model folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--memory",
        type=batch_size,
        metavar="T,S,L",
        help="also say what workspace batches of T tokens, S sequences, the longest of L, need",
    )
    add_engine_options(parser)


def batch_size(text: str) -> tuple[int, int, int]:
    """T,S,L as three numbers."""
    try:
        tokens, sequences, longest = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected three numbers T,S,L such as 4096,32,512, not {text!r}"
        ) from None
    return tokens, sequences, longest


def run(options: argparse.Namespace) -> None:
    """Print the facts, for people or as JSON."""
    source = weights_of(options.path)
    model = Model(source, options.device, options.dtype)
    facts = describe(options.path, source, model)
    facts["cuda"] = describe_cuda(source, model)
    if options.memory:
        facts["memory"] = describe_memory(model, options.memory, options.threads)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if options.json else as_text(facts))


def describe(path: Path, source: str | NDArray[np.uint8], model: Model) -> dict[str, Any]:
    """What is in the file, and where it runs; the library has checked it before it is read here."""
    content = np.memmap(source, np.uint8, "r") if isinstance(source, str) else source
    info, metadata = model.info, model.metadata
    text = TextConfig.from_metadata(metadata, info["max_length"])
    with_tokenizer = model.tokenizer() is not None
    heads = {key: metadata[key] for key in HEADS if key in metadata}
    return {
        "path": str(path),
        "name": metadata.get("name"),
        "family": metadata["family"],
        "architecture": {key: info[key] for key in ARCHITECTURE}
        | {"activation": metadata["activation"]},
        "embedding_head": metadata.get("embedding_head"),
        "heads": heads,
        "labels": labels_of(metadata, info),
        "problem": problem_of(metadata) if "sequence_head" in heads else None,
        "mask_token": int(metadata["mask_token"]) if "mask_token" in metadata else None,
        "embedding_size": info["embedding_size"],
        "tokenizer": with_tokenizer,
        "max_seq_length": text.max_length,
        "prompts": text.prompts,
        "default_prompt": text.default_prompt,
        "similarity": text.similarity,
        "parameters": count_parameters(content),
        "file_bytes": len(content),
        "weight_bytes": info["weight_bytes"],
        "device": model.device,
        "dtype": info["compute_type"],
        "kernels": info["kernels"],
        "outputs": outputs.available(info),
        "encodes_texts": with_tokenizer,
    }


def labels_of(metadata: Mapping[str, str], info: Mapping[str, Any]) -> list[str] | None:
    """Names of the outputs of the sequence or token head; None where the file has neither."""
    count = info["num_labels"] or info["num_token_labels"]
    return label_names(metadata, count) if count else None


def describe_cuda(source: str | NDArray[np.uint8], model: Model) -> dict[str, Any]:
    """Which GPUs this build is for, and whether the first one here runs the model; why not."""
    problem = None
    if model.gpu is None:
        try:
            Model(source, "cuda").close()
        except vlt.VltError as error:
            problem = str(error)
    return {
        "architectures": vlt.build_info()["cuda_architectures"],
        "usable": problem is None,
        "problem": problem,
    }


def describe_memory(
    model: Model, batch: tuple[int, int, int], threads: int | None
) -> dict[str, int]:
    """The workspace that batches up to this size need."""
    with closing(Session(model, threads)) as session:
        workspace = session.workspace_bytes(*batch)
    return dict(zip(("num_tokens", "num_sequences", "max_length"), batch, strict=True)) | {
        "workspace_bytes": workspace
    }


def count_parameters(content: NDArray[np.uint8]) -> dict[str, int]:
    """Weights stored in each dtype."""
    length = int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    counts: Counter[str] = Counter()
    for tensor in header.values():
        if tensor["dtype"] in DTYPE_NAMES:
            counts[DTYPE_NAMES[tensor["dtype"]]] += math.prod(tensor["shape"])
    return dict(counts)


def as_text(facts: dict[str, Any]) -> str:
    """The facts for people."""
    architecture = facts["architecture"]
    stored = ", ".join(f"{count:,} in {dtype}" for dtype, count in facts["parameters"].items())
    prompts = [f"{name}: {text!r}" for name, text in facts["prompts"].items()]
    head = facts["embedding_head"]
    others = [f"{name}: {steps}" for name, steps in facts["heads"].items()][bool(head) :]
    lines = {
        "name": facts["name"] or "not given",
        "family": facts["family"],
        "layers": architecture["num_layers"],
        "hidden size": architecture["hidden_size"],
        "heads": f"{architecture['num_heads']} of {architecture['head_size']}",
        "feed-forward": f"{architecture['intermediate_size']}, {architecture['activation']}",
        "vocabulary": f"{architecture['vocab_size']:,}",
        "longest input": f"{facts['max_seq_length']} tokens for texts, "
        f"{architecture['max_length']} for token ids",
        "embedding": f"{head} -> {facts['embedding_size']} numbers" if head else "none",
        "other heads": "; ".join(others) or "none",
        "labels": labels_text(facts["labels"], facts["problem"]),
        "tokenizer": "inside" if facts["tokenizer"] else "none: takes token ids only",
        "prompts": "; ".join(prompts) or "none",
        "default prompt": facts["default_prompt"] or "none",
        "similarity": facts["similarity"],
        "weights": f"{stored}; {megabytes(facts['file_bytes'])} stored",
        "runs": f"in {facts['dtype']} on {facts['device']} with {facts['kernels']}, "
        f"{megabytes(facts['weight_bytes'])} of memory",
        "gives": ", ".join(facts["outputs"]),
        "GPU": gpu_text(facts["cuda"]),
    }
    if "memory" in facts:
        memory = facts["memory"]
        lines["workspace"] = (
            f"{megabytes(memory['workspace_bytes'])} for up to {memory['num_tokens']:,} tokens in "
            f"{memory['num_sequences']:,} sequences of at most {memory['max_length']:,}"
        )
    width = max(map(len, lines)) + 2
    return "\n".join([facts["path"], *(f"  {key:{width}}{text}" for key, text in lines.items())])


def labels_text(labels: list[str] | None, problem: str | None) -> str:
    """The first labels, and what their scores mean, in a line."""
    if labels is None:
        return "none"
    shown = ", ".join(labels[:SHOWN_LABELS])
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    return f"{shown}{more}" + (f" ({problem})" if problem else "")


def gpu_text(cuda: dict[str, Any]) -> str:
    """Whether a GPU can be used, in a line."""
    built = ", ".join(f"sm_{name}" for name in cuda["architectures"])
    words = "usable" if cuda["usable"] else f"not usable: {cuda['problem']}"
    return f"{words}; built for {built}" if built else words
