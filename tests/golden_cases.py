"""The random models on which vlt is held against the original implementation.

A case is a checkpoint that `model_folders` makes from a seed, and token ids to run it on. The
shapes are those where kernels have edges: head sizes on and off the vector width, hidden and
feed-forward sizes that no tile divides, lengths from 1 to 2000. A case with a `head` is run through
sentence-transformers to embeddings; one without, through transformers to the last layer's states.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import model_folders
import numpy as np
import numpy.typing as npt

from vlt.safetensors_file import SafetensorsFile

GOLDEN = Path(__file__).with_name("golden")
NUM_STORED = 6000  # values of the states that a golden keeps, at most: 48 KB
PROMPT_LENGTH = 3  # tokens left out of pooling where a head does not pool prompts


@dataclass(frozen=True, eq=False)
class GoldenCase:
    """A checkpoint and the lengths of the sequences run on it, all in one batch."""

    name: str
    seed: int
    lengths: tuple[int, ...]
    num_layers: int
    num_heads: int
    head_size: int
    intermediate_size: int
    activation: str = "gelu"
    vocab_size: int = 500
    max_positions: int = 512
    norm_eps: float = 1e-12
    token_types: bool = False  # are they drawn, or all 0?
    head: Mapping[str, Any] | None = None  # arguments of add_sentence_transformers

    @property
    def hidden_size(self) -> int:
        return self.num_heads * self.head_size

    @property
    def embedding_size(self) -> int:
        """D, of a case with a head."""
        assert self.head is not None, f"{self.name} has no head"
        if "dense" in self.head:
            outputs: int = self.head["dense"][-1][1]
            return outputs
        return self.hidden_size * len(self.head["pooling"])

    @property
    def multiplications(self) -> int:
        """Of all linear layers: how long the case takes."""
        layer = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        return self.num_layers * layer * sum(self.lengths)

    @property
    def pooling_starts(self) -> npt.NDArray[np.int32] | None:
        """Tokens to leave out of pooling at each sequence's head, or None."""
        if self.head is None or self.head.get("include_prompt", True):
            return None
        return np.full(len(self.lengths), PROMPT_LENGTH, np.int32)

    def write_folder(self, path: Path) -> Path:
        """The checkpoint as a Hugging Face folder, or one of sentence-transformers."""
        model_folders.write_bert_folder(
            path,
            seed=self.seed,
            num_layers=self.num_layers,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            intermediate_size=self.intermediate_size,
            vocab_size=self.vocab_size,
            max_positions=self.max_positions,
            activation=self.activation,
            norm_eps=self.norm_eps,
        )
        if self.head is not None:
            model_folders.add_sentence_transformers(path, seed=self.seed, **self.head)
        return path

    def inputs(self) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
        """Token ids and token types of every sequence."""
        rng = np.random.default_rng(self.seed)
        ids = [rng.integers(0, self.vocab_size, n, dtype=np.int32) for n in self.lengths]
        num_types = 2 if self.token_types else 1
        types = [rng.integers(0, num_types, n, dtype=np.int32) for n in self.lengths]
        return ids, types

    def fingerprint(self, folder: Path) -> str:
        """Hash of the folder's weights and of the inputs: a golden belongs to exactly these."""
        digest = hashlib.sha256()
        for path in sorted(folder.glob("**/model.safetensors")):
            for name, tensor in sorted(SafetensorsFile(path).items()):
                digest.update(name.encode())
                digest.update(tensor.array.tobytes())
        for sequences in self.inputs():
            for sequence in sequences:
                digest.update(sequence.tobytes())
        return digest.hexdigest()


def stored_positions(size: int) -> npt.NDArray[np.int64]:
    """Which of `size` values a golden keeps, ascending.

    Steps of the golden ratio spread any number of positions evenly, over tokens and columns alike;
    a step coprime to the size visits none twice.
    """
    step = int(size * 0.6180339887) + 1
    while math.gcd(step, size) != 1:
        step += 1
    return np.sort(np.arange(min(NUM_STORED, size), dtype=np.int64) * step % size)


_STATES = (
    GoldenCase("head16", 1, (1, 2, 3, 7, 33, 81, 150), 2, 3, 16, 192),
    GoldenCase("head17-nothing-even", 2, (1, 19, 53, 5, 99, 127), 2, 3, 17, 211, token_types=True),
    GoldenCase("head20", 3, (31, 1, 47, 101, 78), 2, 2, 20, 125, "silu"),
    GoldenCase("head24", 4, (5, 64, 1, 17, 130), 3, 5, 24, 365, token_types=True),
    GoldenCase("head26-tinybert", 5, (30, 128, 2, 65), 4, 12, 26, 1200),
    GoldenCase("head32-minilm", 6, (1, 512, 100, 31), 3, 12, 32, 1536, token_types=True),
    GoldenCase("head48-relu", 7, (15, 16, 17, 63, 64, 65), 2, 4, 48, 581, "relu"),
    GoldenCase("head64-base", 8, (77, 3, 128, 8), 2, 12, 64, 3072, token_types=True),
    GoldenCase("head64-gelu-new", 9, (127, 1, 129, 9), 4, 2, 64, 512, "gelu_new"),
    GoldenCase("head80-silu", 10, (40, 2, 90), 2, 3, 80, 960, "silu"),
    GoldenCase("head96-gelu-tanh", 11, (33, 100, 1), 2, 2, 96, 581, "gelu_pytorch_tanh"),
    GoldenCase("head128", 12, (70, 4, 111), 2, 2, 128, 773, norm_eps=1e-5),
    GoldenCase("deep24", 13, (50, 1, 2, 3, 31, 64, 129, 200), 24, 2, 32, 256, token_types=True),
    GoldenCase("long2000", 14, (2000, 1, 513), 1, 2, 32, 256, max_positions=2048),
)

_TANH = "torch.nn.modules.activation.Tanh"
_IDENTITY = "torch.nn.modules.linear.Identity"
_LENGTHS = tuple(range(44, 3, -1))  # enough sequences for chance to even out in a mean
_HEADS: dict[str, dict[str, Any]] = {
    **{
        f"pool-{mode}": {"pooling": (mode,)}
        for mode in ("cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean")
    },
    "pool-all": {
        "layout": "current",
        "pooling": (
            *("weightedmean", "mean", "max"),
            *("lasttoken", "cls", "mean_sqrt_len_tokens"),
        ),
        "normalize": True,
    },
    "pool-without-prompt": {
        "layout": "current",
        "pooling": ("mean", "weightedmean", "cls", "max", "lasttoken"),
        "include_prompt": False,
    },
    "dense-tanh-normalize": {"dense": ((54, 37, _TANH, True),), "normalize": True},
    "dense-twice": {
        "pooling": ("cls", "max"),
        "dense": ((108, 70, _TANH, False), (70, 91, _IDENTITY, True)),
    },
}

CASES: tuple[GoldenCase, ...] = _STATES + tuple(
    GoldenCase(name, 20 + i, _LENGTHS, 2, 3, 18, 216, token_types=True, head=head)
    for i, (name, head) in enumerate(_HEADS.items())
)
