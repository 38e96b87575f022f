"""MPNet: ``model_type`` "mpnet" of the transformers library.

BERT without token types whose attention scores get a bias by the distance of the two tokens, the
same in every layer. Positions start at 2 and an id of 1 inside a text counts as padding there,
whatever ``pad_token_id`` says; vlt knows no padding and gives it the row of its place.
"""

from __future__ import annotations

import re

import numpy as np

from . import bert_layout as layout
from .checkpoint import TensorSource
from .computed import rearranged
from .family import DenseName, EncoderParts, HeadNames, Sizes, VocabularyNames
from .json_config import JsonConfig
from .relative_positions import distances, t5_buckets
from .tensor_reader import RoleTensor, TensorReader

_UNUSED = re.compile(rf"{layout.UNUSED}|lm_head\.")
_LAYER = layout.LayerNames(
    queries="attention.attn.q",
    keys="attention.attn.k",
    values="attention.attn.v",
    attention_output="attention.attn.o",
    attention_norm="attention.LayerNorm",
)
_PAD = 1
_BUCKETS = 32

# The head does not ask for the configuration's activation.
_HEADS = HeadNames(
    sequence=(DenseName("classifier.dense", "tanh"), DenseName("classifier.out_proj")),
    vocabulary=VocabularyNames(
        DenseName("lm_head.dense", "gelu"),
        norm="lm_head.layer_norm",
        decoder="lm_head.decoder",
        bias="lm_head.bias",
    ),
)


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe an MPNet encoder.

    ``hidden_act``, ``layer_norm_eps`` and ``relative_attention_num_buckets`` default to what
    transformers takes for them: gelu, 1e-12 and 32, the only number it computes rightly.

    Raises
    ------
    ConversionError
        As for `bert.read`.
    """
    layout.refuse_switches(config)
    sizes = layout.read_sizes(config, num_token_types=-1, position_offset=_PAD + 1)
    layout.refuse_embedding_size(config, sizes.hidden_size)
    config.only("relative_attention_num_buckets", _BUCKETS, reason="distances fall into 32 buckets")
    reader = TensorReader.of_model(checkpoint, "mpnet", layout.WORD_EMBEDDINGS)
    metadata = layout.architecture(
        "mpnet",
        sizes,
        activation=layout.read_activation(config),
        norm_eps=config.positive_number("layer_norm_eps", default=1e-12),
    )
    return EncoderParts(
        metadata={**metadata, "distance_bias": "true"},
        tensors={
            **layout.read_embeddings(reader, sizes),
            "attention.distance_bias": _distance_bias(reader, sizes),
            **layout.read_layers(reader, sizes, layout.encoder_layers(sizes), _LAYER),
        },
        sizes=sizes,
        reader=reader,
        heads=_HEADS,
        unused=_UNUSED,
    )


def _distance_bias(reader: TensorReader, sizes: Sizes) -> RoleTensor:
    """[A, 2·M - 1]: the bias of each head and distance."""
    table = reader.take("encoder.relative_attention_bias.weight", (_BUCKETS, sizes.num_heads))
    buckets = t5_buckets(distances(sizes.longest_input))
    shape = (sizes.num_heads, len(buckets))
    part = rearranged(table, shape, lambda rows: np.ascontiguousarray(rows[buckets].T))
    return RoleTensor(shape, (part,))
