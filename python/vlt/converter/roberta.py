"""RoBERTa and its twins XLM-RoBERTa and CamemBERT: BERT with positions counted from behind padding.

transformers counts as positions only the tokens that are not padding, and gives padding the row
``pad_token_id``. vlt knows no padding: an id equal to ``pad_token_id`` inside a text, which no
tokenizer writes, gets the row of its place here and another one there.
"""

from __future__ import annotations

import re

from . import bert_layout as layout
from .checkpoint import TensorSource
from .family import DenseName, EncoderParts, HeadNames, VocabularyNames
from .json_config import JsonConfig
from .tensor_reader import TensorReader

_UNUSED = re.compile(rf"{layout.UNUSED}|lm_head\.")

# The head does not ask for the configuration's activation.
HEADS = HeadNames(
    sequence=(DenseName("classifier.dense", "tanh"), DenseName("classifier.out_proj")),
    vocabulary=VocabularyNames(
        DenseName("lm_head.dense", "gelu"),
        norm="lm_head.layer_norm",
        decoder="lm_head.decoder",
        bias="lm_head.bias",
    ),
)


def read(config: JsonConfig, checkpoint: TensorSource) -> EncoderParts:
    """Describe an encoder of ``model_type`` "roberta", "xlm-roberta" or "camembert".

    The position of a text's first token is ``pad_token_id + 1``, hence 2 where nothing is said.

    Raises
    ------
    ConversionError
        As for `bert.read`.
    """
    layout.refuse_switches(config)
    offset = config.integer("pad_token_id", minimum=0, default=1) + 1
    sizes = layout.read_sizes(config, num_token_types=2, position_offset=offset)
    layout.refuse_embedding_size(config, sizes.hidden_size)
    reader = TensorReader.of_model(checkpoint, "roberta", layout.WORD_EMBEDDINGS)
    return EncoderParts(
        metadata=layout.architecture(
            config.text("model_type"),
            sizes,
            activation=layout.read_activation(config),
            norm_eps=config.positive_number("layer_norm_eps", default=1e-12),
        ),
        tensors={
            **layout.read_embeddings(reader, sizes),
            **layout.read_layers(reader, sizes, layout.encoder_layers(sizes)),
        },
        sizes=sizes,
        reader=reader,
        heads=HEADS,
        unused=_UNUSED,
    )
