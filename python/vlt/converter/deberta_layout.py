"""What DeBERTa and its second and third versions share: terms by the distance of two tokens.

A score is the product of query and key, plus that of the query and a key made of the distance
("c2p", vlt's ``keys``), plus that of the key and a query made of it ("p2c", ``queries``). Keys and
queries of distances are the same for all texts: they are computed here, once, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..safetensors_writer import Part
from . import bert_layout as layout
from .computed import ComputedTensor, to_float64
from .family import DenseName, HeadNames, Sizes, VocabularyNames
from .json_config import JsonConfig
from .tensor_reader import RoleTensor, TensorReader

UNUSED = rf"{layout.UNUSED}|cls\.|lm_predictions\.|mask_predictions\."

_TERMS = {"c2p": "keys", "p2c": "queries"}  # in the order of the weights file

Rows = NDArray[np.float64]


class Projection(NamedTuple):
    """The linear layer that makes keys or queries of relative embeddings."""

    name: str
    has_bias: bool


def read_sizes(config: JsonConfig) -> Sizes:
    """The sizes; also refuses the switches that no version of DeBERTa may have in vlt."""
    layout.refuse_switches(config)
    sizes = layout.read_sizes(config, num_token_types=0)
    layout.refuse_embedding_size(config, sizes.hidden_size)
    config.only("attention_head_size", sizes.head_size, reason="hidden_size / num_attention_heads")
    config.only("talking_head", False, reason="vlt does not mix the scores of heads")
    return sizes


def architecture(
    family: str,
    config: JsonConfig,
    sizes: Sizes,
    *,
    activation: str,
    positions: bool,
    terms: list[str],
) -> dict[str, str]:
    """The metadata that the versions share; positions: is there a table of them?"""
    metadata = layout.architecture(
        family,
        sizes,
        activation=activation,
        norm_eps=config.positive_number("layer_norm_eps", default=1e-7),
        position_kind="absolute" if positions else "none",
    )
    return {**metadata, "score_scale": score_scale(terms, sizes.head_size)}


def read_terms(config: JsonConfig) -> list[str]:
    """Which terms scores have: of "c2p" and "p2c" none, one or both.

    ``pos_att_type`` is a list, or as in older folders a string such as "c2p|p2c".
    """
    value = config.fields.get("pos_att_type")
    terms = value.lower().split("|") if isinstance(value, str) else value or []
    terms = [term.strip() if isinstance(term, str) else term for term in terms]
    if any(term not in _TERMS for term in terms) or len(set(terms)) != len(terms):
        config.refuse("pos_att_type", 'any of "c2p" and "p2c", each once')
    return [term for term in _TERMS if term in terms]


def read_max_distance(config: JsonConfig, sizes: Sizes) -> int:
    """``max_relative_positions``; a number below 1 stands for the size of the position table."""
    value = config.integer("max_relative_positions", minimum=-(2**31), default=-1)
    return value if value >= 1 else sizes.num_positions


def relative_metadata(
    terms: list[str], offsets_to_rows: NDArray[np.int64], span: int
) -> dict[str, str]:
    """The keys about distances.

    Parameters
    ----------
    terms : list of str
    offsets_to_rows : ndarray
        The bucket of query - key for each distance key - query, ascending.
    span : int
        The table of relative embeddings has 2·span rows; bucket b has row b + span, and buckets
        beyond either end that end's.
    """
    rows = np.clip(offsets_to_rows + span, 0, 2 * span - 1)
    # The table is stored from its last row to its first, so that rows ascend with key - query.
    return {
        "relative_rows": " ".join(map(str, 2 * span - 1 - rows)),
        "relative_terms": " ".join(_TERMS[term] for term in terms),
    }


def score_scale(terms: list[str], head_size: int) -> str:
    """1 / √(D · (1 + terms)), by the root that transformers takes, in float32."""
    return repr(1 / float(np.sqrt(np.float32(head_size * (1 + len(terms))))))


def read_relative(
    reader: TensorReader,
    role: str,
    projections: dict[str, Projection],
    embeddings: Callable[[], Rows],
    shape: tuple[int, int],
) -> dict[str, RoleTensor]:
    """Keys and queries of distances, one tensor a term.

    Parameters
    ----------
    reader : TensorReader
    role : str
        The layer's attention in the weights file.
    projections : dict of str to Projection
        For each term the linear layer, by its name in the checkpoint.
    embeddings : callable
        Gives the relative embeddings [R, H] as the layers see them.
    shape : (int, int)
        R, H
    """
    hidden = shape[1]
    tensors: dict[str, RoleTensor] = {}
    for term, (name, has_bias) in projections.items():
        weight = reader.take(f"{name}.weight", (hidden, hidden))
        bias = reader.take(f"{name}.bias", (hidden,)) if has_bias else None

        def project(weight: Part = weight, bias: Part | None = bias) -> NDArray[np.float32]:
            rows = embeddings()[::-1] @ to_float64(weight).T
            return (rows if bias is None else rows + to_float64(bias)).astype(np.float32)

        part = ComputedTensor("F32", shape, project)
        tensors[f"{role}.relative_{_TERMS[term]}"] = RoleTensor(shape, (part,))
    return tensors


def read_heads(config: JsonConfig, sizes: Sizes, activation: str) -> HeadNames:
    """The heads. ``legacy`` chooses between two ways to write that of masked language models."""
    pooled = config.integer("pooler_hidden_size", minimum=1, default=sizes.hidden_size)
    if pooled != sizes.hidden_size:
        config.refuse("pooler_hidden_size", f"hidden_size, {sizes.hidden_size}")
    others = {"tanh": "tanh", "sigmoid": "sigmoid", "linear": "identity"}
    pooler = layout.read_activation(config, "pooler_hidden_act", others=others)
    if config.flag("legacy", default=True):
        transform = "cls.predictions.transform"
        decoder, bias = "cls.predictions.decoder", "cls.predictions.bias"
        vocabulary = VocabularyNames(
            DenseName(f"{transform}.dense", activation), f"{transform}.LayerNorm", decoder, bias
        )
    else:
        head = "lm_predictions.lm_head"
        vocabulary = VocabularyNames(
            DenseName(f"{head}.dense", activation), f"{head}.LayerNorm", None, f"{head}.bias"
        )
    return HeadNames((DenseName("pooler.dense", pooler), DenseName("classifier")), vocabulary)
