"""Small random folders of every family and head, as transformers would save them.

Names of tensors and fields are written out here once more, on purpose: they are what the converter
is tested against. `model_folders` has the parts that all folders share.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from model_folders import (
    VOCABULARY,
    Array,
    RandomWeights,
    as_tensor,
    write_checkpoint,
    write_json,
    write_tokenizer,
)

CLASSES = {
    None: "Model",
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "question": "ForQuestionAnswering",
    "vocabulary": "ForMaskedLM",
}


class FamilyNames(NamedTuple):
    """What a family's classes, fields and tensors are called."""

    class_name: str
    base: str
    layer: str  # {} is the layer's number
    projections: tuple[str, ...]  # of queries, keys and values
    after_attention: tuple[str, str, str, str, str]  # output, norm, up, down, norm
    transform: str  # the dense layer of the vocabulary head
    transform_norm: str
    decoder: str
    decoder_bias: str
    sequence: tuple[str, str]  # the dense layers of the sequence head
    config: dict[str, Any]


_SELF = ("attention.self.query", "attention.self.key", "attention.self.value")
_AFTER = (
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_BERT = FamilyNames(
    "Bert",
    "bert",
    "encoder.layer.{}",
    _SELF,
    _AFTER,
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder.weight",
    "cls.predictions.bias",
    ("bert.pooler.dense", "classifier"),
    {"type_vocab_size": 2},
)
_ROBERTA = _BERT._replace(
    class_name="Roberta",
    base="roberta",
    transform="lm_head.dense",
    transform_norm="lm_head.layer_norm",
    decoder="lm_head.decoder.weight",
    decoder_bias="lm_head.bias",
    sequence=("classifier.dense", "classifier.out_proj"),
    config={"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
)
_DEBERTA = _BERT._replace(
    class_name="Deberta",
    base="deberta",
    sequence=("pooler.dense", "classifier"),
    config={"type_vocab_size": 0, "pad_token_id": 0, "relative_attention": True},
)
FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA._replace(class_name="XLMRoberta"),
    "camembert": _ROBERTA._replace(class_name="Camembert"),
    "distilbert": FamilyNames(
        "DistilBert",
        "distilbert",
        "transformer.layer.{}",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        ("attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
        "vocab_transform",
        "vocab_layer_norm",
        "vocab_projector.weight",
        "vocab_projector.bias",
        ("pre_classifier", "classifier"),
        {},
    ),
    "albert": FamilyNames(
        "Albert",
        "albert",
        "encoder.albert_layer_groups.{}.albert_layers.{}",
        ("attention.query", "attention.key", "attention.value"),
        (
            "attention.dense",
            "attention.LayerNorm",
            "ffn",
            "ffn_output",
            "full_layer_layer_norm",
        ),
        "predictions.dense",
        "predictions.LayerNorm",
        "predictions.decoder.weight",
        "predictions.bias",
        ("albert.pooler", "classifier"),
        {"type_vocab_size": 2, "hidden_act": "gelu_new"},
    ),
    "electra": _BERT._replace(
        class_name="Electra",
        base="electra",
        transform="generator_predictions.dense",
        transform_norm="generator_predictions.LayerNorm",
        decoder="generator_lm_head.weight",
        decoder_bias="generator_lm_head.bias",
        sequence=("classifier.dense", "classifier.out_proj"),
    ),
    "mpnet": _ROBERTA._replace(
        class_name="MPNet",
        base="mpnet",
        projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        after_attention=("attention.attn.o", "attention.LayerNorm", *_AFTER[2:]),
        config={"pad_token_id": 1, "relative_attention_num_buckets": 32},
    ),
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA._replace(
        class_name="DebertaV2",
        projections=tuple(f"attention.self.{kind}_proj" for kind in ("query", "key", "value")),
    ),
}


class Sizes(NamedTuple):
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int = len(VOCABULARY)
    max_positions: int = 64
    num_labels: int = 5


def write_family_folder(
    path: Path,
    family: str,
    sizes: Sizes,
    *,
    seed: int,
    head: str | None = None,
    prefix: str | None = None,
    dtype: str = "F32",
    num_shards: int = 1,
    tokenizer: bool = False,
    untied: bool = False,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model whose every weight is random; the same arguments give the same bytes.

    Parameters
    ----------
    path : pathlib.Path
        The folder; created where it does not exist.
    family : str
        A ``model_type``.
    head : {None, "sequence", "token", "question", "vocabulary"}
        None is the encoder alone, whose tensors have no prefix.
    prefix : str, optional
        What the names of the encoder's tensors begin with, instead of what transformers writes.
    untied : bool
        The vocabulary head has a decoder of its own.
    config : mapping, optional
        Fields of ``config.json`` to add or replace; those that add tensors count.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    fields = family_config(family, sizes, head) | {"tie_word_embeddings": not untied}
    fields |= config or {}
    write_json(path / "config.json", {k: v for k, v in fields.items() if v is not None})
    arrays = family_tensors(family, sizes, fields, seed=seed, head=head, untied=untied)
    base = f"{FAMILIES[family].base}."
    if prefix is None:
        prefix = base if head else ""
    if prefix != base:
        arrays = {
            prefix + name.removeprefix(base) if name.startswith(base) else name: array
            for name, array in arrays.items()
        }
    tensors = {name: as_tensor(array, dtype) for name, array in arrays.items()}
    write_checkpoint(path, tensors, num_shards=num_shards)
    if tokenizer:
        write_tokenizer(path, max_length=sizes.max_positions - 2)
    return path


def family_config(family: str, sizes: Sizes, head: str | None) -> dict[str, Any]:
    """The fields of ``config.json`` that say what is computed."""
    names = FAMILIES[family]
    fields: dict[str, Any] = {
        "architectures": [names.class_name + CLASSES[head]],
        "model_type": family,
        "vocab_size": sizes.vocab_size,
        "max_position_embeddings": sizes.max_positions,
    }
    if family == "distilbert":
        fields |= {
            "dim": sizes.hidden_size,
            "n_heads": sizes.num_heads,
            "hidden_dim": sizes.intermediate_size,
            "n_layers": sizes.num_layers,
            "activation": "gelu",
        }
    else:
        fields |= {
            "hidden_size": sizes.hidden_size,
            "num_attention_heads": sizes.num_heads,
            "intermediate_size": sizes.intermediate_size,
            "num_hidden_layers": sizes.num_layers,
            "hidden_act": "gelu",
        }
    if head in ("sequence", "token"):
        fields["id2label"] = {str(i): f"label {i}" for i in range(sizes.num_labels)}
    if family in ("albert", "electra"):
        fields["embedding_size"] = sizes.hidden_size // 3
    return fields | names.config


def family_tensors(
    family: str,
    sizes: Sizes,
    fields: Mapping[str, Any],
    *,
    seed: int,
    head: str | None,
    untied: bool = False,
) -> dict[str, Array]:
    """Weights by their names in transformers, the encoder's with its prefix.

    Biases and norms lie away from 0 and 1, so that none could be left out unnoticed.
    """
    names = FAMILIES[family]
    random = RandomWeights(seed)
    inside = _embeddings(random, sizes, fields)
    inside |= _between(random, family, sizes, fields)
    for at in _places(names, sizes, fields):
        inside |= _layer(random, family, at, sizes, fields)
    tensors = {f"{names.base}.{name}": array for name, array in inside.items()}
    if head == "sequence":
        dense, last = names.sequence
        tensors |= random.linear(dense, sizes.hidden_size, sizes.hidden_size)
        tensors |= random.linear(last, sizes.hidden_size, sizes.num_labels)
    elif head == "token":
        tensors |= random.linear("classifier", sizes.hidden_size, sizes.num_labels)
    elif head == "question":
        tensors |= random.linear("qa_outputs", sizes.hidden_size, 2)
    elif head == "vocabulary":
        tensors |= _vocabulary_head(random, names, sizes, fields, untied)
    return tensors


def _embedding_size(sizes: Sizes, fields: Mapping[str, Any]) -> int:
    return int(fields.get("embedding_size", sizes.hidden_size))


def _embeddings(random: RandomWeights, sizes: Sizes, fields: Mapping[str, Any]) -> dict[str, Array]:
    size = _embedding_size(sizes, fields)
    at = "embeddings"
    tensors = {f"{at}.word_embeddings.weight": random.normal((sizes.vocab_size, size), 0.5)}
    if fields.get("position_biased_input", True):
        shape = (sizes.max_positions, size)
        tensors[f"{at}.position_embeddings.weight"] = random.normal(shape, 0.3)
    types = fields.get("type_vocab_size", 0)
    if types:
        tensors[f"{at}.token_type_embeddings.weight"] = random.normal((types, size), 0.2)
    return tensors | random.norm(f"{at}.LayerNorm", size)


def _between(
    random: RandomWeights, family: str, sizes: Sizes, fields: Mapping[str, Any]
) -> dict[str, Array]:
    """What lies beside the layers: projections, tables of distances, a convolution."""
    hidden, size = sizes.hidden_size, _embedding_size(sizes, fields)
    tensors: dict[str, Array] = {}
    if family == "albert":
        tensors |= random.linear("encoder.embedding_hidden_mapping_in", size, hidden)
    elif family == "electra" and size != hidden:
        tensors |= random.linear("embeddings_project", size, hidden)
    elif family == "mpnet":
        shape = (32, sizes.num_heads)
        tensors["encoder.relative_attention_bias.weight"] = random.normal(shape, 0.7)
    elif family.startswith("deberta") and fields["relative_attention"]:
        span = fields.get("max_relative_positions", sizes.max_positions)
        span = fields.get("position_buckets", span)
        tensors["encoder.rel_embeddings.weight"] = random.normal((2 * span, hidden), 0.5)
    if fields.get("norm_rel_ebd") == "layer_norm":
        tensors |= random.norm("encoder.LayerNorm", hidden)
    width = fields.get("conv_kernel_size", 0)
    if width:
        scale = (hidden * width) ** -0.5
        tensors["encoder.conv.conv.weight"] = random.normal((hidden, hidden, width), scale)
        tensors["encoder.conv.conv.bias"] = random.normal((hidden,), 0.1)
        tensors |= random.norm("encoder.conv.LayerNorm", hidden)
    return tensors


def _places(names: FamilyNames, sizes: Sizes, fields: Mapping[str, Any]) -> list[str]:
    """What the tensors' names of each stored layer begin with."""
    if names.base != "albert":
        return [names.layer.format(layer) for layer in range(sizes.num_layers)]
    groups, inner = fields.get("num_hidden_groups", 1), fields.get("inner_group_num", 1)
    return [names.layer.format(i, j) for i in range(groups) for j in range(inner)]


def _layer(
    random: RandomWeights, family: str, at: str, sizes: Sizes, fields: Mapping[str, Any]
) -> dict[str, Array]:
    names, hidden = FAMILIES[family], sizes.hidden_size
    tensors: dict[str, Array] = {}
    if family == "deberta":
        tensors |= random.linear(f"{at}.attention.self.in_proj", hidden, 3 * hidden, bias=False)
        for bias in ("q_bias", "v_bias"):
            tensors[f"{at}.attention.self.{bias}"] = random.normal((hidden,), 0.3)
    else:
        for name in names.projections:
            tensors |= random.linear(f"{at}.{name}", hidden, hidden)
    if names.base == "deberta" and not fields.get("share_att_key", False):
        first = family == "deberta"
        for term in fields.get("pos_att_type", []):
            name = {"c2p": "pos_proj", "p2c": "pos_q_proj"}[term]
            if not first:
                name = {"c2p": "pos_key_proj", "p2c": "pos_query_proj"}[term]
            has_bias = not first or term == "p2c"
            tensors |= random.linear(f"{at}.attention.self.{name}", hidden, hidden, has_bias)
    output, output_norm, up, down, down_norm = (f"{at}.{name}" for name in names.after_attention)
    tensors |= random.linear(output, hidden, hidden)
    tensors |= random.norm(output_norm, hidden)
    tensors |= random.linear(up, hidden, sizes.intermediate_size)
    tensors |= random.linear(down, sizes.intermediate_size, hidden)
    return tensors | random.norm(down_norm, hidden)


def _vocabulary_head(
    random: RandomWeights,
    names: FamilyNames,
    sizes: Sizes,
    fields: Mapping[str, Any],
    untied: bool,
) -> dict[str, Array]:
    size = _embedding_size(sizes, fields)
    if not fields.get("legacy", True):
        at = "lm_predictions.lm_head"
        names = names._replace(
            transform=f"{at}.dense", transform_norm=f"{at}.LayerNorm", decoder_bias=f"{at}.bias"
        )
    tensors = random.linear(names.transform, sizes.hidden_size, size)
    tensors |= random.norm(names.transform_norm, size)
    tensors[names.decoder_bias] = random.normal((sizes.vocab_size,), 0.3)
    if untied:
        tensors[names.decoder] = random.normal((sizes.vocab_size, size), size**-0.5)
        own = names.decoder.replace(".weight", ".bias")
        tensors[own] = tensors[names.decoder_bias]
    return tensors


def make_splade(path: Path, *, layout: str = "current") -> None:
    """Make a folder with a vocabulary head one of a sparse encoder of sentence-transformers."""
    legacy = layout == "legacy"
    package = "sentence_transformers."
    first = package + "base.modules.transformer.Transformer"
    if legacy:
        first = package + "sparse_encoder.models.MLMTransformer"
    pooling = package + "sparse_encoder.models.SpladePooling"
    write_json(
        path / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": first},
            {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": pooling},
        ],
    )
    settings: dict[str, Any] = {"max_seq_length": None, "do_lower_case": False}
    if not legacy:
        settings = {
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
        }
    write_json(path / "sentence_bert_config.json", settings)
    write_json(path / "config_sentence_transformers.json", {"model_type": "SparseEncoder"})
    folder = path / "1_SpladePooling"
    folder.mkdir()
    config = {"pooling_strategy": "max", "activation_function": "relu"}
    write_json(folder / "config.json", config | {"embedding_dimension": None})
