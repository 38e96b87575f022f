"""DistilBERT: ``model_type`` "distilbert" of the transformers library; BERT by other names.

Positions are a table in the checkpoint, sinusoidal ones too. Token types there are none.
"""

from __future__ import annotations

import re

from . import bert_layout as layout
from .checkpoint import TensorSource
from .family import DenseName, EncoderParts, HeadNames, VocabularyNames
from .json_config import JsonConfig
from .tensor_reader import TensorReader

_UNUSED = re.compile(rf"{layout.UNUSED}|vocab_(transform|layer_norm|projector)\.")
_FIELDS = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
}
_LAYER = layout.LayerNames(
    queries="attention.q_lin",
    keys="attention.k_lin",
    values="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
)
_NORM_EPS = 1e-12  # no field of the configuration


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe a DistilBERT encoder; ``activation`` defaults to gelu.

    Raises
    ------
    ConversionError
        As for `bert.read`.
    """
    layout.refuse_switches(config)
    sizes = layout.read_sizes(config, num_token_types=-1, names=_FIELDS)
    layout.refuse_embedding_size(config, sizes.hidden_size)
    activation = layout.read_activation(config, "activation")
    reader = TensorReader.of_model(checkpoint, "distilbert", layout.WORD_EMBEDDINGS)
    places = [f"transformer.layer.{layer}" for layer in range(sizes.num_layers)]
    return EncoderParts(
        metadata=layout.architecture(
            "distilbert", sizes, activation=activation, norm_eps=_NORM_EPS
        ),
        tensors={
            **layout.read_embeddings(reader, sizes),
            **layout.read_layers(reader, sizes, places, _LAYER),
        },
        sizes=sizes,
        reader=reader,
        heads=HeadNames(
            sequence=(DenseName("pre_classifier", "relu"), DenseName("classifier")),
            vocabulary=VocabularyNames(
                DenseName("vocab_transform", activation),
                norm="vocab_layer_norm",
                decoder="vocab_projector",
                bias="vocab_projector.bias",
            ),
        ),
        unused=_UNUSED,
    )
