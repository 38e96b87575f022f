"""DeBERTa, versions 2 and 3: ``model_type`` "deberta-v2" of the transformers library."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import bert_layout as layout
from . import deberta_layout
from .checkpoint import TensorSource
from .computed import rearranged, to_float64
from .deberta_layout import Projection, Rows
from .family import EncoderParts, Sizes
from .json_config import JsonConfig
from .relative_positions import distances, log_buckets
from .tensor_reader import RoleTensor, TensorReader

_UNUSED = deberta_layout.UNUSED
# Tables that the configuration switches off may be there all the same, and transformers skips them.
_POSITIONS = r"|embeddings\.position_embeddings\."
_RELATIVE = (
    r"|encoder\.(rel_embeddings|LayerNorm)\."
    r"|encoder\.layer\.\d+\.attention\.self\.pos_(key|query)_proj\."
)


class _Distances(NamedTuple):
    """How distances become rows of the table of relative embeddings."""

    span: int  # the table has 2 * span rows
    num_buckets: int  # 0: none
    max_distance: int


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe an encoder of DeBERTa's second or third version.

    What may be absent has the default of transformers: ``hidden_act`` gelu, ``layer_norm_eps``
    1e-7, ``type_vocab_size`` 0, ``position_biased_input`` true, ``relative_attention`` false,
    ``share_att_key`` false, ``position_buckets`` -1, ``norm_rel_ebd`` "none",
    ``conv_kernel_size`` 0.

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
        "deberta-v2", config, sizes, activation=activation, positions=positions, terms=terms
    )
    reader = TensorReader.of_model(checkpoint, "deberta", layout.WORD_EMBEDDINGS)
    tensors = {
        **layout.read_embeddings(reader, sizes, positions=positions),
        **_convolution(config, reader, sizes, metadata),
        **layout.read_layers(
            reader,
            sizes,
            layout.encoder_layers(sizes),
            layout.LayerNames(
                queries="attention.self.query_proj",
                keys="attention.self.key_proj",
                values="attention.self.value_proj",
            ),
        ),
    }
    relative = config.flag("relative_attention", default=False) and terms
    if relative:
        table = _read_distances(config, sizes)
        metadata |= deberta_layout.relative_metadata(terms, _buckets(table, sizes), table.span)
        tensors |= _relative(config, reader, sizes, terms, float(metadata["norm_eps"]), table.span)
    unused = _UNUSED + ("" if positions else _POSITIONS) + ("" if relative else _RELATIVE)
    return EncoderParts(
        metadata=metadata,
        tensors=tensors,
        sizes=sizes,
        reader=reader,
        heads=deberta_layout.read_heads(config, sizes, activation),
        unused=re.compile(unused),
    )


def _convolution(
    config: JsonConfig, reader: TensorReader, sizes: Sizes, metadata: dict[str, str]
) -> dict[str, RoleTensor]:
    """The convolution beside the first layer; its keys go into `metadata`."""
    width = config.integer("conv_kernel_size", minimum=0, default=0)
    if width == 0:
        return {}
    if width % 2 == 0:
        config.refuse("conv_kernel_size", "an odd number: an even one gives one token less")
    config.only("conv_groups", 1, reason="every input takes part in every output")
    metadata["convolution"] = str(width)
    metadata["convolution_activation"] = layout.read_activation(
        config, "conv_act", default="tanh", others={"tanh": "tanh"}
    )
    hidden = sizes.hidden_size
    weight = reader.take("encoder.conv.conv.weight", (hidden, hidden, width))
    shape = (hidden, width * hidden)
    part = rearranged(weight, shape, lambda values: values.transpose(0, 2, 1))
    return {
        "convolution.weight": RoleTensor(shape, (part,)),
        **reader.single("convolution.bias", "encoder.conv.conv.bias", (hidden,)),
        **reader.norm("convolution.norm", "encoder.conv.LayerNorm", hidden),
    }


def _read_distances(config: JsonConfig, sizes: Sizes) -> _Distances:
    max_distance = deberta_layout.read_max_distance(config, sizes)
    num_buckets = config.integer("position_buckets", minimum=-(2**31), default=-1)
    if num_buckets <= 0:
        return _Distances(max_distance, 0, max_distance)
    middle = num_buckets // 2
    if sizes.longest_input - 1 > middle and (middle < 2 or max_distance - 1 <= middle):
        config.refuse(
            "position_buckets",
            f"-1, or one of which half is from 2 to {max_distance - 2}: beyond half of them "
            f"distances up to {max_distance - 1} share buckets",
        )
    return _Distances(num_buckets, num_buckets, max_distance)


def _buckets(table: _Distances, sizes: Sizes) -> NDArray[np.int64]:
    """The bucket of query - key for every distance key - query."""
    offsets = -distances(sizes.longest_input)
    if table.num_buckets == 0:
        return offsets
    return log_buckets(offsets, table.num_buckets, table.max_distance)


def _relative(
    config: JsonConfig,
    reader: TensorReader,
    sizes: Sizes,
    terms: list[str],
    norm_eps: float,
    span: int,
) -> dict[str, RoleTensor]:
    shape = (2 * span, sizes.hidden_size)
    embeddings = _relative_embeddings(config, reader, shape, norm_eps)
    shared = config.flag("share_att_key", default=False)
    names = {"c2p": "key_proj", "p2c": "query_proj"}
    tensors: dict[str, RoleTensor] = {}
    for layer, place in enumerate(layout.encoder_layers(sizes)):
        at = f"{place}.attention.self."
        projections = {
            term: Projection(at + ("" if shared else "pos_") + names[term], has_bias=True)
            for term in terms
        }
        role = f"layers.{layer}.attention"
        tensors |= deberta_layout.read_relative(reader, role, projections, embeddings, shape)
    return tensors


def _relative_embeddings(
    config: JsonConfig, reader: TensorReader, shape: tuple[int, int], norm_eps: float
) -> Callable[[], Rows]:
    """The table of relative embeddings as the layers see it, normalised or not."""
    table = reader.take("encoder.rel_embeddings.weight", shape)
    steps = {
        step.strip() for step in config.text("norm_rel_ebd", default="none").lower().split("|")
    }
    if not steps <= {"none", "layer_norm"}:
        config.refuse("norm_rel_ebd", '"none" or "layer_norm"')
    if "layer_norm" not in steps:
        return lambda: to_float64(table)
    weight, bias = (
        reader.take(f"encoder.LayerNorm.{part}", shape[1:]) for part in ("weight", "bias")
    )

    def normalised() -> Rows:
        rows = to_float64(table)
        rows = rows - rows.mean(axis=-1, keepdims=True)
        scale = np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + norm_eps)
        return rows / scale * to_float64(weight) + to_float64(bias)

    return normalised
