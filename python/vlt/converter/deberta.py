"""DeBERTa, its first version: ``model_type`` "deberta" of the transformers library."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from . import bert_layout as layout
from . import deberta_layout
from .checkpoint import TensorSource
from .computed import rearranged, to_float64, zeros
from .deberta_layout import Projection
from .family import EncoderParts, Sizes
from .json_config import JsonConfig
from .relative_positions import distances
from .tensor_reader import RoleTensor, TensorReader

_UNUSED = deberta_layout.UNUSED
# Tables that the configuration switches off may be there all the same, and transformers skips them.
_POSITIONS = r"|embeddings\.position_embeddings\."
_RELATIVE = r"|encoder\.rel_embeddings\.|encoder\.layer\.\d+\.attention\.self\.pos_(q_)?proj\."


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe a DeBERTa encoder.

    What may be absent has the default of transformers: ``hidden_act`` gelu, ``layer_norm_eps``
    1e-7, ``type_vocab_size`` 0, ``position_biased_input`` true, ``relative_attention`` false.

    Raises
    ------
    ConversionError
        As for `bert.read`.
    """
    sizes = deberta_layout.read_sizes(config)
    activation = layout.read_activation(config)
    positions = config.flag("position_biased_input", default=True)
    terms = deberta_layout.read_terms(config)
    metadata = deberta_layout.architecture(
        "deberta", config, sizes, activation=activation, positions=positions, terms=terms
    )
    reader = TensorReader.of_model(checkpoint, "deberta", layout.WORD_EMBEDDINGS)
    tensors = layout.read_embeddings(reader, sizes, positions=positions)
    for layer, place in enumerate(layout.encoder_layers(sizes)):
        tensors |= _queries_keys_values(reader, sizes, layer, f"{place}.attention.self")
        tensors |= layout.read_after_attention(reader, sizes, layer, place)
    relative = config.flag("relative_attention", default=False) and terms
    if relative:
        span = deberta_layout.read_max_distance(config, sizes)
        metadata |= deberta_layout.relative_metadata(terms, -distances(sizes.longest_input), span)
        tensors |= _relative(reader, sizes, terms, span)
    unused = _UNUSED + ("" if positions else _POSITIONS) + ("" if relative else _RELATIVE)
    return EncoderParts(
        metadata=metadata,
        tensors=tensors,
        sizes=sizes,
        reader=reader,
        heads=deberta_layout.read_heads(config, sizes, activation),
        unused=re.compile(unused),
    )


def _queries_keys_values(
    reader: TensorReader, sizes: Sizes, layer: int, place: str
) -> dict[str, RoleTensor]:
    """The checkpoint has each head's queries, keys and values together, and keys have no bias."""
    hidden, heads, size = sizes.hidden_size, sizes.num_heads, sizes.head_size
    shape = (3 * hidden, hidden)

    def by_kind(rows: NDArray[np.generic]) -> NDArray[np.generic]:
        return rows.reshape(heads, 3, size, hidden).transpose(1, 0, 2, 3)

    weight = rearranged(reader.take(f"{place}.in_proj.weight", shape), shape, by_kind)
    queries = reader.take(f"{place}.q_bias", (hidden,))
    values = reader.take(f"{place}.v_bias", (hidden,))
    biases = (queries, zeros(queries.dtype, hidden), values)
    role = f"layers.{layer}.attention.qkv"
    return {
        f"{role}.weight": RoleTensor(shape, (weight,)),
        f"{role}.bias": RoleTensor((3 * hidden,), biases),
    }


def _relative(
    reader: TensorReader, sizes: Sizes, terms: list[str], span: int
) -> dict[str, RoleTensor]:
    shape = (2 * span, sizes.hidden_size)
    table = reader.take("encoder.rel_embeddings.weight", shape)
    tensors: dict[str, RoleTensor] = {}
    for layer, place in enumerate(layout.encoder_layers(sizes)):
        projections = {
            "c2p": Projection(f"{place}.attention.self.pos_proj", has_bias=False),
            "p2c": Projection(f"{place}.attention.self.pos_q_proj", has_bias=True),
        }
        tensors |= deberta_layout.read_relative(
            reader,
            f"layers.{layer}.attention",
            {term: projections[term] for term in terms},
            lambda: to_float64(table),
            shape,
        )
    return tensors
