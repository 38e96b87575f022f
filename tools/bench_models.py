"""The checkpoints that benchmarks run: one real, one with random weights of a real shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peers import Model


@dataclass(frozen=True)
class Shape:
    """What a forward pass costs depends on."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int

    def gflop(self, lengths: tuple[int, ...]) -> float:
        """Billions of operations of the linear layers and the attention; padding is no work."""
        hidden = self.hidden_size
        linear = 2 * sum(lengths) * (4 * hidden**2 + 2 * hidden * self.intermediate_size)
        attention = sum(4 * length**2 * hidden for length in lengths)
        return self.num_layers * (linear + attention) / 1e9


def read_shape(folder: Path) -> Shape:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Shape(
        config["num_hidden_layers"],
        config["hidden_size"],
        config["intermediate_size"],
        config["vocab_size"],
    )


def minilm(cache: Path) -> Path:
    """all-MiniLM-L6-v2 from its package: 6 layers, hidden 384, 12 heads of 32."""
    from vlt.cli.common import demo_model

    return demo_model()


def bert_base(cache: Path) -> Path:
    """Random weights of BERT-base: 12 layers, hidden 768, 12 heads of 64."""
    import torch
    from transformers import BertConfig, BertModel

    folder = cache / "checkpoint"
    vocabulary = folder / "vocab.txt"  # written last: an interrupted run starts again
    if not vocabulary.exists():
        torch.manual_seed(0)
        # Older checkpoints state the kind of positions, and CTranslate2's converter asks for it.
        config = BertConfig(position_embedding_type="absolute")
        BertModel(config).save_pretrained(folder)
        # No text is tokenized, but some converters insist on a tokenizer.
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words = special + [f"t{i}" for i in range(config.vocab_size - len(special))]
        vocabulary.write_text("\n".join(words), encoding="utf-8")
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {"minilm": minilm, "bert-base": bert_base}


def open_model(name: str, cache: Path) -> Model:
    """The model of this name, with a folder under `cache` for what is made from it."""
    own = cache / name
    own.mkdir(parents=True, exist_ok=True)
    return Model(name, MODELS[name](own), own)
