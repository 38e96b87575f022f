"""The random models on which vlt is held against the original implementation.

A case is a checkpoint that `model_folders` or `family_folders` makes from a seed, and token ids to
run it on. The shapes are those where kernels have edges: head sizes on and off the vector width,
hidden and feed-forward sizes that no tile divides, lengths from 1 to 2000. A case with a `head` is
run through sentence-transformers to embeddings; one with a `task`, through transformers to what
that head gives; one without either, to the last layer's states.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import family_folders
import model_folders
import numpy as np
import numpy.typing as npt

from vlt.safetensors_file import SafetensorsFile

GOLDEN = Path(__file__).with_name("golden")
NUM_STORED = 6000  # values of the states that a golden keeps, at most: 48 KB
NUM_STORED_OF_FAMILY = 3000  # the same where a case is about what is computed, not about edges
FIRST_WORD = 5  # ids before it may be padding, which transformers gives a position of its own
PROMPT_LENGTH = 3  # tokens left out of pooling where a head does not pool prompts


NUM_LABELS = 5
OUTPUTS = {
    "sequence": "logits",
    "token": "token_logits",
    "question": "token_logits",
    "vocabulary": "vocabulary",
    "sparse": "sparse",
}


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
    family: str | None = None  # written by family_folders, rather than a BERT by model_folders
    task: str | None = None  # its head: of family_folders.CLASSES, or "sparse"
    config: Mapping[str, Any] | None = None  # of a family: fields of config.json
    untied: bool = False  # of a family with a vocabulary: has it a decoder of its own?

    @property
    def hidden_size(self) -> int:
        return self.num_heads * self.head_size

    @property
    def output(self) -> str:
        """What `Encoder.run` is asked for."""
        if self.task is not None:
            return OUTPUTS[self.task]
        return "hidden" if self.head is None else "embedding"

    @property
    def shape(self) -> tuple[int, int]:
        """Of all results of a case."""
        columns = {
            "hidden": self.hidden_size,
            "logits": NUM_LABELS,
            "token_logits": 2 if self.task == "question" else NUM_LABELS,
            "vocabulary": self.vocab_size,
            "sparse": self.vocab_size,
        }
        rows = len(self.lengths)
        if self.output in ("hidden", "token_logits"):
            rows = sum(self.lengths)
        elif self.output == "vocabulary":
            rows = len(self.chosen)
        if self.output == "embedding":
            return rows, self.embedding_size
        return rows, columns[self.output]

    @property
    def chosen(self) -> npt.NDArray[np.int32]:
        """Which of all tokens a vocabulary head is asked about: few, firsts and lasts too."""
        ends = np.cumsum(self.lengths)
        some = np.arange(0, ends[-1], 11)
        return np.unique(np.concatenate([some, ends - 1])).astype(np.int32)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Which values of the flattened results a golden keeps."""
        count = NUM_STORED if self.family is None else NUM_STORED_OF_FAMILY
        return stored_positions(math.prod(self.shape), count)

    @property
    def rounded_weights(self) -> bool:
        """Has the weights file numbers that were computed, and rounded, when it was written?"""
        return bool(self.config and self.config.get("pos_att_type"))

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
        if self.family is not None:
            return self._write_family(path, self.family)
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

    def _write_family(self, path: Path, family: str) -> Path:
        sizes = family_folders.Sizes(
            num_layers=self.num_layers,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            intermediate_size=self.intermediate_size,
            vocab_size=self.vocab_size,
            max_positions=self.max_positions,
            num_labels=NUM_LABELS,
        )
        family_folders.write_family_folder(
            path,
            family,
            sizes,
            seed=self.seed,
            head="vocabulary" if self.task == "sparse" else self.task,
            untied=self.untied,
            config=self.config,
        )
        if self.task == "sparse":
            family_folders.make_splade(path)
        return path

    def inputs(self) -> tuple[list[npt.NDArray[np.int32]], list[npt.NDArray[np.int32]]]:
        """Token ids and token types of every sequence."""
        rng = np.random.default_rng(self.seed)
        first = 0 if self.family is None else FIRST_WORD
        ids = [rng.integers(first, self.vocab_size, n, dtype=np.int32) for n in self.lengths]
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


def stored_positions(size: int, count: int = NUM_STORED) -> npt.NDArray[np.int64]:
    """Which of `size` values a golden keeps, ascending.

    Steps of the golden ratio spread any number of positions evenly, over tokens and columns alike;
    a step coprime to the size visits none twice.
    """
    step = int(size * 0.6180339887) + 1
    while math.gcd(step, size) != 1:
        step += 1
    return np.sort(np.arange(min(count, size), dtype=np.int64) * step % size)


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

_BOTH_TERMS = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_DEBERTA_V3 = {
    **_BOTH_TERMS,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
}
_DEBERTA_V2 = {
    **_BOTH_TERMS,
    "max_relative_positions": 90,
    "conv_kernel_size": 3,
    "conv_act": "gelu",
    "type_vocab_size": 2,
}


def _family(
    name: str,
    seed: int,
    family: str,
    task: str | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    lengths: tuple[int, ...] = (1, 61, 127, 19),
    max_positions: int = 129,
    token_types: bool = False,
    untied: bool = False,
) -> GoldenCase:
    """Every family in one shape, that of TinyBERT with three layers; the longest text is there."""
    return GoldenCase(
        name,
        seed,
        lengths,
        num_layers=3,
        num_heads=12,
        head_size=26,
        intermediate_size=611,
        vocab_size=211,
        max_positions=max_positions,
        token_types=token_types,
        family=family,
        task=task,
        config=config,
        untied=untied,
    )


_FAMILIES = (
    _family("roberta", 40, "roberta"),
    _family("distilbert", 41, "distilbert", config={"activation": "relu"}),
    _family(
        "albert-groups",
        42,
        "albert",
        config={"num_hidden_groups": 2, "inner_group_num": 2},
        token_types=True,
    ),
    _family("electra", 43, "electra", token_types=True),
    _family("mpnet", 44, "mpnet", lengths=(1, 300, 127, 19), max_positions=302),
    _family("deberta", 45, "deberta", config={**_BOTH_TERMS, "max_relative_positions": 70}),
    _family("deberta-v2-convolution", 46, "deberta-v2", config=_DEBERTA_V2, token_types=True),
    _family(
        "deberta-v3",
        47,
        "deberta-v2",
        config=_DEBERTA_V3,
        lengths=(1, 512, 31),
        max_positions=512,
    ),
)
# Five scores of each: as many texts as chance needs to even out.
_SEQUENCES = (127, *(1 + 5 * i % 13 for i in range(99)))
_TASKS = (
    _family("bert-sequence", 60, "bert", "sequence", token_types=True, lengths=_SEQUENCES),
    _family("xlm-roberta-sequence", 61, "xlm-roberta", "sequence", lengths=_SEQUENCES),
    _family("distilbert-sequence", 62, "distilbert", "sequence", lengths=_SEQUENCES),
    _family("albert-sequence", 63, "albert", "sequence", lengths=_SEQUENCES),
    _family("electra-sequence", 64, "electra", "sequence", lengths=_SEQUENCES),
    _family("mpnet-sequence", 65, "mpnet", "sequence", lengths=_SEQUENCES),
    _family("deberta-v3-sequence", 66, "deberta-v2", "sequence", _DEBERTA_V3, lengths=_SEQUENCES),
    _family("camembert-token", 67, "camembert", "token"),
    _family("bert-question", 68, "bert", "question", token_types=True),
    _family("bert-vocabulary", 69, "bert", "vocabulary", untied=True),
    _family("roberta-vocabulary", 70, "roberta", "vocabulary"),
    _family("albert-vocabulary", 71, "albert", "vocabulary"),
    _family("electra-vocabulary", 72, "electra", "vocabulary"),
    _family("deberta-vocabulary", 73, "deberta", "vocabulary", {**_BOTH_TERMS, "legacy": False}),
    _family("distilbert-sparse", 74, "distilbert", "sparse"),
)

CASES: tuple[GoldenCase, ...] = (
    *_STATES,
    *(
        GoldenCase(name, 20 + i, _LENGTHS, 2, 3, 18, 216, token_types=True, head=head)
        for i, (name, head) in enumerate(_HEADS.items())
    ),
    *_FAMILIES,
    *_TASKS,
)
