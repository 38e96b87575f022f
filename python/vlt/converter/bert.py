"""The BERT family: ``model_type`` "bert" of the transformers library."""

from __future__ import annotations

import re

from .checkpoint import Checkpoint
from .errors import ConversionError
from .family import EncoderParts, RoleTensor, TensorReader
from .json_config import JsonConfig

# transformers' names -> vlt's; names of one function differ in how its code is written.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

# Buffers, and the heads of pre-training, which no token's state passes through.
_UNUSED = re.compile(r"embeddings\.(position_ids|token_type_ids)$|pooler\.|cls\.")


def read(config: JsonConfig, checkpoint: Checkpoint) -> EncoderParts:
    """Describe a BERT encoder.

    ``hidden_act``, ``layer_norm_eps`` and ``type_vocab_size`` default to what transformers takes
    for them: gelu, 1e-12 and 2. Every other size must be there.

    Raises
    ------
    ConversionError
        If the configuration asks for what vlt does not compute or contradicts itself, if a tensor
        is missing or has another shape, or if the checkpoint has weights that belong to no role.
    """
    _refuse_switches(config)
    sizes = _sizes(config)
    return EncoderParts(
        metadata=_architecture(config, sizes),
        tensors=_tensors(checkpoint, sizes),
        hidden_size=sizes["hidden_size"],
        longest_input=sizes["num_positions"],
    )


def _refuse_switches(config: JsonConfig) -> None:
    config.only("position_embedding_type", "absolute", reason="vlt adds a table of positions")
    for key in ("is_decoder", "is_causal", "is_encoder_decoder", "add_cross_attention"):
        config.only(key, False, reason="vlt runs encoders, whose tokens see the whole text")
    config.only("pruned_heads", {}, reason="save the model with its heads removed from the config")
    if config.has("quantization_config"):
        config.refuse("quantization_config", "none: save the weights in float32, float16, bfloat16")
    if config.has("embedding_size"):
        hidden_size = config.integer("hidden_size", minimum=1)
        config.only("embedding_size", hidden_size, reason="embeddings are not projected in BERT")
    custom = config.fields.get("auto_map") or {}
    if "AutoModel" in custom:
        config.refuse("auto_map", "no AutoModel: the model runs code of its own")


def _sizes(config: JsonConfig) -> dict[str, int]:
    """The integers of the weights file's metadata, by their names there."""
    hidden_size = config.integer("hidden_size", minimum=1)
    num_heads = config.integer("num_attention_heads", minimum=1)
    if hidden_size % num_heads != 0:
        raise ConversionError(
            f"{config.path}: hidden_size is {hidden_size}, expected a multiple of "
            f"num_attention_heads, {num_heads}"
        )
    return {
        "num_layers": config.integer("num_hidden_layers", minimum=1),
        "hidden_size": hidden_size,
        "num_heads": num_heads,
        "head_size": hidden_size // num_heads,
        "intermediate_size": config.integer("intermediate_size", minimum=1),
        "vocab_size": config.integer("vocab_size", minimum=1),
        "num_positions": config.integer("max_position_embeddings", minimum=1),
        "num_token_types": config.integer("type_vocab_size", minimum=1, default=2),
        "position_offset": 0,
    }


def _architecture(config: JsonConfig, sizes: dict[str, int]) -> dict[str, str]:
    activation = config.text("hidden_act", default="gelu")
    if activation not in ACTIVATIONS:
        config.refuse("hidden_act", "one of " + ", ".join(ACTIVATIONS))
    return {
        "family": "bert",
        **{key: str(value) for key, value in sizes.items()},
        "position_kind": "absolute",
        "norm_kind": "layernorm",
        "norm_place": "post",
        "norm_eps": repr(config.positive_number("layer_norm_eps", default=1e-12)),
        "activation": ACTIVATIONS[activation],
    }


def _tensors(checkpoint: Checkpoint, sizes: dict[str, int]) -> dict[str, RoleTensor]:
    reader = TensorReader(checkpoint, "embeddings.word_embeddings.weight")
    hidden = sizes["hidden_size"]
    tensors: dict[str, RoleTensor] = {}
    for role, name, rows in (
        ("word", "word_embeddings", sizes["vocab_size"]),
        ("position", "position_embeddings", sizes["num_positions"]),
        ("token_type", "token_type_embeddings", sizes["num_token_types"]),
    ):
        table = reader.take(f"embeddings.{name}.weight", (rows, hidden))
        tensors[f"embeddings.{role}"] = RoleTensor((rows, hidden), (table,))
    tensors |= reader.norm("embeddings.norm", "embeddings.LayerNorm", hidden)
    for layer in range(sizes["num_layers"]):
        tensors |= _layer(reader, layer, hidden, sizes["intermediate_size"])
    reader.check_rest(_UNUSED)
    return tensors


def _layer(reader: TensorReader, layer: int, hidden: int, inner: int) -> dict[str, RoleTensor]:
    role, name = f"layers.{layer}", f"encoder.layer.{layer}"
    attention = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    return {
        **reader.linear(f"{role}.attention.qkv", attention, hidden, hidden),
        **reader.linear(
            f"{role}.attention.output", [f"{name}.attention.output.dense"], hidden, hidden
        ),
        **reader.norm(f"{role}.attention.norm", f"{name}.attention.output.LayerNorm", hidden),
        **reader.linear(f"{role}.ffn.up", [f"{name}.intermediate.dense"], inner, hidden),
        **reader.linear(f"{role}.ffn.down", [f"{name}.output.dense"], hidden, inner),
        **reader.norm(f"{role}.ffn.norm", f"{name}.output.LayerNorm", hidden),
    }
