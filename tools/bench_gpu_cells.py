"""The cells of the benchmark on a GPU: which workloads run on which models.

Models have random weights in the shapes of real ones. Each workload of workloads.json runs whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from bench_models import Shape
from make_workloads import PATH as WORKLOADS_FILE

if TYPE_CHECKING:
    from peers.cuda import Work

VOCAB_SIZE = 30522
MAX_LENGTH = 1024


class Architecture(NamedTuple):
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int

    @property
    def shape(self) -> Shape:
        return Shape(self.num_layers, self.hidden_size, self.intermediate_size, VOCAB_SIZE)


MODELS = {
    "minilm-l6": Architecture(6, 384, 12, 1536),
    "bert-base": Architecture(12, 768, 12, 3072),
    "bert-large": Architecture(24, 1024, 16, 4096),
}
# Workload -> the models it runs on; left out is what says nothing new.
WORKLOADS: dict[str, tuple[str, ...]] = {
    "single-128": ("minilm-l6", "bert-base", "bert-large"),
    "uniform-16x512": ("minilm-l6", "bert-base", "bert-large"),
    "uniform-16x1024": ("bert-base",),
    "passages-512": ("minilm-l6", "bert-base", "bert-large"),
    "squad-512": ("bert-base", "bert-large"),
    "mixed-256": ("minilm-l6", "bert-base", "bert-large"),
    "queries-1024": ("minilm-l6", "bert-base", "bert-large"),
}


class Cell(NamedTuple):
    model: str
    workload: str
    drawn: tuple[int, ...] = ()  # lengths of a workload that is not in workloads.json

    def __str__(self) -> str:
        return f"{self.model} {self.workload}"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each sequence."""
        if self.drawn:
            return self.drawn
        workloads = json.loads(WORKLOADS_FILE.read_text(encoding="utf-8"))
        return tuple(workloads[self.workload]["lengths"])

    @property
    def gflop(self) -> float:
        """Billions of operations that the real tokens need."""
        return MODELS[self.model].shape.gflop(self.lengths)


def cells(models: list[str], workloads: list[str]) -> list[Cell]:
    """Those of the benchmark that are among these, model by model."""
    return [
        Cell(model, workload)
        for model in models
        for workload in workloads
        if model in WORKLOADS[workload]
    ]


def write_checkpoint(model: str, dtype: str, cache: Path) -> Path:
    """A Hugging Face folder with random weights in `dtype`; made on first use.

    Biases and norms are random too: one that is left out must be noticed.
    """
    import torch
    from transformers import BertModel

    folder = cache / f"{model}-{dtype}"
    done = folder / "done"  # written last: an interrupted run starts again
    if done.exists():
        return folder
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        bert = BertModel(_config(MODELS[model]), add_pooling_layer=False)
    for name, parameter in bert.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0.0, 0.1)
        elif "LayerNorm" in name:
            parameter.data.normal_(1.0, 0.1)
    bert.to(getattr(torch, dtype)).save_pretrained(folder)
    done.touch()
    return folder


def _config(architecture: Architecture) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=MAX_LENGTH,
        num_hidden_layers=architecture.num_layers,
        hidden_size=architecture.hidden_size,
        num_attention_heads=architecture.num_heads,
        intermediate_size=architecture.intermediate_size,
    )


def load_bert(folder: Path, dtype: str, device: str = "cuda") -> Any:
    """The transformers.BertModel of a folder of `write_checkpoint`."""
    import torch
    from transformers import BertModel

    bert = BertModel.from_pretrained(
        folder, attn_implementation="sdpa", add_pooling_layer=False, dtype=getattr(torch, dtype)
    )
    return bert.to(device).eval()


def make_work(cell: Cell, bert: Any) -> Work:
    """The cell's sequences, of random ids, on the model's device."""
    import torch
    from peers.cuda import Work

    ids = np.random.default_rng(1).integers(0, VOCAB_SIZE, sum(cell.lengths), np.int32)
    return Work(bert, torch.from_numpy(ids).to(bert.device), cell.lengths)
