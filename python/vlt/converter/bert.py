"""The BERT family: ``model_type`` "bert" of the transformers library."""

from __future__ import annotations

import re

from . import bert_layout as layout
from .checkpoint import TensorSource
from .family import DenseName, EncoderParts, HeadNames, VocabularyNames
from .json_config import JsonConfig
from .tensor_reader import TensorReader

_UNUSED = re.compile(rf"{layout.UNUSED}|cls\.")


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe a BERT encoder.

    ``hidden_act``, ``layer_norm_eps`` and ``type_vocab_size`` default to what transformers takes
    for them: gelu, 1e-12 and 2. Every other size must be there.

    Raises
    ------
    ConversionError
        If the configuration asks for what vlt does not compute or contradicts itself, if a tensor
        is missing or has another shape.
    """
    layout.refuse_switches(config)
    sizes = layout.read_sizes(config, num_token_types=2)
    layout.refuse_embedding_size(config, sizes.hidden_size)
    activation = layout.read_activation(config)
    reader = TensorReader.of_model(checkpoint, "bert", layout.WORD_EMBEDDINGS)
    return EncoderParts(
        metadata=layout.architecture(
            "bert",
            sizes,
            activation=activation,
            norm_eps=config.positive_number("layer_norm_eps", default=1e-12),
        ),
        tensors={
            **layout.read_embeddings(reader, sizes),
            **layout.read_layers(reader, sizes, layout.encoder_layers(sizes)),
        },
        sizes=sizes,
        reader=reader,
        heads=HeadNames(
            sequence=(DenseName("pooler.dense", "tanh", inside=True), DenseName("classifier")),
            vocabulary=VocabularyNames(
                DenseName("cls.predictions.transform.dense", activation),
                norm="cls.predictions.transform.LayerNorm",
                decoder="cls.predictions.decoder",
                bias="cls.predictions.bias",
            ),
        ),
        unused=_UNUSED,
    )
