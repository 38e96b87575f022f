"""What BERT and its relatives share: sizes and switches of config.json, embeddings and layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .errors import ConversionError
from .family import Sizes
from .json_config import JsonConfig
from .tensor_reader import RoleTensor, TensorReader

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
# Buffers, and the pooler, which no token's state passes through.
UNUSED = r"embeddings\.(position_ids|token_type_ids)$|pooler\."

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


def refuse_switches(config: JsonConfig) -> None:
    """Refuse what no family of vlt computes."""
    config.only("position_embedding_type", "absolute", reason="vlt adds a table of positions")
    for key in ("is_decoder", "is_causal", "is_encoder_decoder", "add_cross_attention"):
        config.only(key, False, reason="vlt runs encoders, whose tokens see the whole text")
    config.only("pruned_heads", {}, reason="save the model with its heads removed from the config")
    if config.has("quantization_config"):
        config.refuse("quantization_config", "none: save the weights in float32, float16, bfloat16")
    custom = config.fields.get("auto_map") or {}
    if any(name.startswith("AutoModel") for name in custom):
        config.refuse("auto_map", "no AutoModel: the model runs code of its own")


def read_sizes(
    config: JsonConfig,
    *,
    num_token_types: int,
    position_offset: int = 0,
    names: Mapping[str, str] | None = None,
) -> Sizes:
    """Read the sizes; every one must be there but ``type_vocab_size``.

    Parameters
    ----------
    config : JsonConfig
    num_token_types : int
        What transformers takes for ``type_vocab_size`` where it is absent; -1 in a family that
        has none, whatever the configuration says.
    position_offset : int
        The first token's row in the position table.
    names : mapping of str to str
        BERT's name of a field -> the family's, where they differ.
    """

    def integer(key: str) -> int:
        return config.integer((names or {}).get(key, key), minimum=1)

    hidden_size, num_heads = integer("hidden_size"), integer("num_attention_heads")
    if hidden_size % num_heads != 0:
        raise ConversionError(
            f"{config.path}: hidden_size is {hidden_size}, expected a multiple of "
            f"num_attention_heads, {num_heads}"
        )
    num_positions = integer("max_position_embeddings")
    if num_positions <= position_offset:
        config.refuse("max_position_embeddings", f"more than {position_offset}: the first rows of "
                      "the position table belong to no token")  # fmt: skip
    if num_token_types == -1:
        num_token_types = 0
    else:
        minimum = min(num_token_types, 1)
        num_token_types = config.integer(
            "type_vocab_size", minimum=minimum, default=num_token_types
        )
    return Sizes(
        num_layers=integer("num_hidden_layers"),
        hidden_size=hidden_size,
        num_heads=num_heads,
        intermediate_size=integer("intermediate_size"),
        vocab_size=integer("vocab_size"),
        num_positions=num_positions,
        num_token_types=num_token_types,
        position_offset=position_offset,
    )


def refuse_embedding_size(config: JsonConfig, hidden_size: int) -> None:
    """Refuse a projection where the family has none."""
    config.only("embedding_size", hidden_size, reason="embeddings are not projected in this family")


def read_activation(
    config: JsonConfig,
    key: str = "hidden_act",
    *,
    default: str = "gelu",
    others: Mapping[str, str] | None = None,
) -> str:
    """vlt's name of an activation; `others` are names that are right here beside the usual ones."""
    known = {**ACTIVATIONS, **(others or {})}
    activation = config.text(key, default=default)
    if activation not in known:
        config.refuse(key, "one of " + ", ".join(known))
    return known[activation]


def architecture(
    family: str,
    sizes: Sizes,
    *,
    activation: str,
    norm_eps: float,
    position_kind: str = "absolute",
) -> dict[str, str]:
    """The architecture keys that every file has, and `embedding_size` where there is one."""
    metadata = {
        "family": family,
        "num_layers": str(sizes.num_layers),
        "hidden_size": str(sizes.hidden_size),
        "num_heads": str(sizes.num_heads),
        "head_size": str(sizes.head_size),
        "intermediate_size": str(sizes.intermediate_size),
        "vocab_size": str(sizes.vocab_size),
        "num_positions": str(sizes.num_positions),
        "num_token_types": str(sizes.num_token_types),
        "position_offset": str(sizes.position_offset),
        "position_kind": position_kind,
        "norm_kind": "layernorm",
        "norm_place": "post",
        "norm_eps": repr(norm_eps),
        "activation": activation,
    }
    if sizes.embedding_size is not None:
        metadata["embedding_size"] = str(sizes.embedding_size)
    return metadata


def read_embeddings(
    reader: TensorReader, sizes: Sizes, *, positions: bool = True
) -> dict[str, RoleTensor]:
    """The tables and their norm; without positions where they are not added."""
    tables = [("word", "word_embeddings", sizes.vocab_size)]
    if positions:
        tables.append(("position", "position_embeddings", sizes.num_positions))
    if sizes.num_token_types > 0:
        tables.append(("token_type", "token_type_embeddings", sizes.num_token_types))
    tensors: dict[str, RoleTensor] = {}
    for role, name, rows in tables:
        shape = (rows, sizes.word_size)
        tensors |= reader.single(f"embeddings.{role}", f"embeddings.{name}.weight", shape)
    return tensors | reader.norm("embeddings.norm", "embeddings.LayerNorm", sizes.word_size)


class LayerNames(NamedTuple):
    """The parts of a layer as a checkpoint calls them."""

    queries: str = "attention.self.query"
    keys: str = "attention.self.key"
    values: str = "attention.self.value"
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"


BERT_NAMES = LayerNames()


def read_layers(
    reader: TensorReader,
    sizes: Sizes,
    places: list[str],
    names: LayerNames = BERT_NAMES,
) -> dict[str, RoleTensor]:
    """Every layer; `places` are what their tensors' names begin with."""
    tensors: dict[str, RoleTensor] = {}
    for layer, place in enumerate(places):
        tensors |= read_queries_keys_values(reader, sizes, layer, place, names)
        tensors |= read_after_attention(reader, sizes, layer, place, names)
    return tensors


def read_queries_keys_values(
    reader: TensorReader, sizes: Sizes, layer: int, place: str, names: LayerNames = BERT_NAMES
) -> dict[str, RoleTensor]:
    """The three projections, stacked."""
    stacked = [f"{place}.{name}" for name in (names.queries, names.keys, names.values)]
    hidden = sizes.hidden_size
    return reader.linear(f"layers.{layer}.attention.qkv", stacked, hidden, hidden)


def read_after_attention(
    reader: TensorReader, sizes: Sizes, layer: int, place: str, names: LayerNames = BERT_NAMES
) -> dict[str, RoleTensor]:
    """A layer without its queries, keys and values."""
    hidden, inner = sizes.hidden_size, sizes.intermediate_size
    role = f"layers.{layer}"
    output, up, down = (
        f"{place}.{name}" for name in (names.attention_output, names.up, names.down)
    )
    return {
        **reader.linear(f"{role}.attention.output", [output], hidden, hidden),
        **reader.norm(f"{role}.attention.norm", f"{place}.{names.attention_norm}", hidden),
        **reader.linear(f"{role}.ffn.up", [up], inner, hidden),
        **reader.linear(f"{role}.ffn.down", [down], hidden, inner),
        **reader.norm(f"{role}.ffn.norm", f"{place}.{names.norm}", hidden),
    }


def encoder_layers(sizes: Sizes) -> list[str]:
    """The places of layers in most families."""
    return [f"encoder.layer.{layer}" for layer in range(sizes.num_layers)]
