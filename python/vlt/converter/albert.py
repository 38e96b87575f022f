"""ALBERT: ``model_type`` "albert" of the transformers library.

Small embeddings are projected to the hidden size, always, and layers share weights: a few groups
of layers take turns, each for a run of steps.
"""

from __future__ import annotations

import re
from dataclasses import replace

from . import bert_layout as layout
from .checkpoint import TensorSource
from .family import DenseName, EncoderParts, HeadNames, VocabularyNames
from .json_config import JsonConfig
from .tensor_reader import TensorReader

_UNUSED = re.compile(rf"{layout.UNUSED}|predictions\.|sop_classifier\.")
_LAYER = layout.LayerNames(
    queries="attention.query",
    keys="attention.key",
    values="attention.value",
    attention_output="attention.dense",
    attention_norm="attention.LayerNorm",
    up="ffn",
    down="ffn_output",
    norm="full_layer_layer_norm",
)


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe an ALBERT encoder.

    ``hidden_act``, ``layer_norm_eps``, ``type_vocab_size``, ``num_hidden_groups`` and
    ``inner_group_num`` default to what transformers takes for them: gelu_new, 1e-12, 2, 1 and 1.

    Raises
    ------
    ConversionError
        As for `bert.read`.
    """
    layout.refuse_switches(config)
    sizes = layout.read_sizes(config, num_token_types=2)
    groups = config.integer("num_hidden_groups", minimum=1, default=1)
    inner = config.integer("inner_group_num", minimum=1, default=1)
    if groups > sizes.num_layers:
        config.refuse("num_hidden_groups", f"at most num_hidden_layers, {sizes.num_layers}")
    order = layer_order(sizes.num_layers, groups, inner)
    sizes = replace(
        sizes,
        num_layers=len(order),
        embedding_size=config.integer("embedding_size", minimum=1),
    )
    activation = layout.read_activation(config, default="gelu_new")
    reader = TensorReader.of_model(checkpoint, "albert", layout.WORD_EMBEDDINGS)
    metadata = layout.architecture(
        "albert",
        sizes,
        activation=activation,
        norm_eps=config.positive_number("layer_norm_eps", default=1e-12),
    )
    if order != list(range(len(order))):
        metadata["layer_order"] = " ".join(map(str, order))
    places = [
        f"encoder.albert_layer_groups.{group}.albert_layers.{layer}"
        for group in range(groups)
        for layer in range(inner)
    ]
    return EncoderParts(
        metadata=metadata,
        tensors={
            **layout.read_embeddings(reader, sizes),
            **reader.linear(
                "embeddings.projection",
                ["encoder.embedding_hidden_mapping_in"],
                sizes.hidden_size,
                sizes.word_size,
            ),
            **layout.read_layers(reader, sizes, places, _LAYER),
        },
        sizes=sizes,
        reader=reader,
        heads=HeadNames(
            sequence=(DenseName("pooler", "tanh", inside=True), DenseName("classifier")),
            vocabulary=VocabularyNames(
                DenseName("predictions.dense", activation),
                norm="predictions.LayerNorm",
                decoder="predictions.decoder",
                bias="predictions.bias",
            ),
        ),
        unused=_UNUSED,
    )


def layer_order(num_steps: int, groups: int, inner: int) -> list[int]:
    """The stored layer of each layer: every step runs all `inner` layers of its group.

    Steps are divided over the groups as transformers does it, by a quotient of two floats.
    """
    steps_per_group = num_steps / groups
    return [
        int(step / steps_per_group) * inner + layer
        for step in range(num_steps)
        for layer in range(inner)
    ]
