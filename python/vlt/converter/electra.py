"""ELECTRA: ``model_type`` "electra" of the transformers library; BERT with small embeddings.

Embeddings are projected to the hidden size only where the two sizes differ.
"""

from __future__ import annotations

import re
from dataclasses import replace

from . import bert_layout as layout
from .checkpoint import TensorSource
from .family import DenseName, EncoderParts, HeadNames, VocabularyNames
from .json_config import JsonConfig
from .tensor_reader import RoleTensor, TensorReader

_UNUSED = re.compile(
    rf"{layout.UNUSED}|(generator|discriminator)_predictions\.|generator_lm_head\."
)

# The heads do not ask for the configuration's activation.
_HEADS = HeadNames(
    sequence=(DenseName("classifier.dense", "gelu"), DenseName("classifier.out_proj")),
    vocabulary=VocabularyNames(
        DenseName("generator_predictions.dense", "gelu"),
        norm="generator_predictions.LayerNorm",
        decoder="generator_lm_head",
        bias="generator_lm_head.bias",
    ),
)


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe an ELECTRA encoder: a discriminator or a generator.

    ``hidden_act``, ``layer_norm_eps``, ``type_vocab_size`` and ``embedding_size`` default to what
    transformers takes for them: gelu, 1e-12, 2 and 128.

    Raises
    ------
    ConversionError
        As for `bert.read`.
    """
    layout.refuse_switches(config)
    sizes = layout.read_sizes(config, num_token_types=2)
    embedding_size = config.integer("embedding_size", minimum=1, default=128)
    reader = TensorReader.of_model(checkpoint, "electra", layout.WORD_EMBEDDINGS)
    projection: dict[str, RoleTensor] = {}
    if embedding_size != sizes.hidden_size:
        sizes = replace(sizes, embedding_size=embedding_size)
        projection = reader.linear(
            "embeddings.projection", ["embeddings_project"], sizes.hidden_size, embedding_size
        )
    return EncoderParts(
        metadata=layout.architecture(
            "electra",
            sizes,
            activation=layout.read_activation(config),
            norm_eps=config.positive_number("layer_norm_eps", default=1e-12),
        ),
        tensors={
            **layout.read_embeddings(reader, sizes),
            **projection,
            **layout.read_layers(reader, sizes, layout.encoder_layers(sizes)),
        },
        sizes=sizes,
        reader=reader,
        heads=_HEADS,
        unused=_UNUSED,
    )
