"""What a family module gives: an encoder's metadata, tensors by role, and names of its heads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .tensor_reader import RoleTensor, TensorReader


@dataclass(frozen=True)
class Sizes:
    """The integers of the weights file's metadata; `embedding_size` only with a projection."""

    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    num_positions: int
    num_token_types: int
    position_offset: int
    embedding_size: int | None = None

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def word_size(self) -> int:
        """Columns of the embeddings."""
        return self.embedding_size or self.hidden_size

    @property
    def longest_input(self) -> int:
        """M, the longest sequence."""
        return self.num_positions - self.position_offset


@dataclass(frozen=True)
class DenseName:
    """A linear layer of a head.

    Attributes
    ----------
    name : str
        What stands before ``.weight`` and ``.bias`` in the checkpoint.
    activation : str
        vlt's name of the function after it.
    inside : bool
        Is it part of the base model and shares its prefix, such as ``bert.``?
    """

    name: str
    activation: str = "identity"
    inside: bool = False


@dataclass(frozen=True)
class VocabularyNames:
    """The head of masked language models: a linear layer, a norm, a score for each word.

    Attributes
    ----------
    dense : DenseName
    norm : str
    decoder : str or None
        The linear layer that gives the scores; None where the word embeddings always serve.
    bias : str
        The scores' bias where the decoder has none of its own.
    """

    dense: DenseName
    norm: str
    decoder: str | None
    bias: str


@dataclass(frozen=True)
class HeadNames:
    """Where a family keeps its heads; the others are called alike in all families."""

    sequence: tuple[DenseName, ...]
    vocabulary: VocabularyNames


@dataclass(frozen=True)
class EncoderParts:
    """An encoder in the terms of the weights file.

    A family module has one function, listed in `registry.FAMILIES`, from the parsed
    ``config.json`` and the checkpoint to this.

    Attributes
    ----------
    metadata : dict of str to str
        Every architecture key of the weights file.
    tensors : dict of str to RoleTensor
        Every tensor of the weights file that belongs to no head, in its order.
    sizes : Sizes
    reader : TensorReader
        Knows which tensors of the checkpoint have been taken; heads take theirs from it.
    heads : HeadNames
    unused : pattern
        Names of tensors that may be left over, such as the heads of pre-training.
    """

    metadata: dict[str, str]
    tensors: dict[str, RoleTensor]
    sizes: Sizes
    reader: TensorReader
    heads: HeadNames
    unused: re.Pattern[str]
