"""Small random BERT folders in the Hugging Face and sentence-transformers formats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlt import dtypes
from vlt.safetensors_file import Tensor
from vlt.safetensors_writer import SafetensorsWriter, StoredTensor

Array = NDArray[np.float32]

_WORDS = """
and are banana blue can cat do dog every fast for green how in is it large little machine man not
of on one paper quick red river run small the to two under water what who world you
"""
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
VOCABULARY = [*_SPECIAL, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *_WORDS.split()]

# One Dense module: input size, output size, activation (a torch class path), has a bias.
DenseSpec = tuple[int, int, str, bool]

_LEGACY_POOLING = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_MODULE_PATHS = {
    "legacy": {
        "Transformer": "sentence_transformers.models.Transformer",
        "Pooling": "sentence_transformers.models.Pooling",
        "Dense": "sentence_transformers.models.Dense",
        "Dropout": "sentence_transformers.models.Dropout",
        "Normalize": "sentence_transformers.models.Normalize",
    },
    "current": {
        "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
        "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "Dense": "sentence_transformers.base.modules.dense.Dense",
        "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
        "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    },
}


def write_bert_folder(
    path: Path,
    *,
    seed: int,
    num_layers: int,
    hidden_size: int,
    num_heads: int,
    intermediate_size: int,
    vocab_size: int = len(VOCABULARY),
    max_positions: int = 64,
    num_token_types: int = 2,
    activation: str = "gelu",
    norm_eps: float = 1e-12,
    dtype: str = "F32",
    num_shards: int = 1,
    prefix: str = "",
    legacy_names: bool = False,
    pooler: bool = True,
    tokenizer: bool = True,
    config: Mapping[str, Any] | None = None,
    extra_tensors: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a BERT whose every weight is random; the same arguments give the same bytes.

    Parameters
    ----------
    path : pathlib.Path
        The folder; created where it does not exist.
    dtype : {"F32", "F16", "BF16"}
        How the checkpoint stores the weights.
    num_shards : int
        More than 1 splits the checkpoint and adds ``model.safetensors.index.json``.
    prefix : str
        Put before every tensor name, for example ``"bert."``.
    legacy_names : bool
        Norms are called ``gamma`` and ``beta``.
    pooler : bool
        Adds the pooler's weights, which no embedding uses.
    tokenizer : bool
        Adds ``tokenizer.json`` and ``tokenizer_config.json``: lower-casing WordPiece over
        `VOCABULARY`.
    config : mapping, optional
        Fields of ``config.json`` to add or replace; one that is None is left out.
    extra_tensors : mapping of str to Tensor, optional
        Further tensors of the checkpoint; their names get no prefix.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    fields = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": activation,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "layer_norm_eps": norm_eps,
        "max_position_embeddings": max_positions,
        "num_attention_heads": num_heads,
        "num_hidden_layers": num_layers,
        "pad_token_id": 0,
        "type_vocab_size": num_token_types,
        "vocab_size": vocab_size,
        **(config or {}),
    }
    write_json(path / "config.json", {k: v for k, v in fields.items() if v is not None})
    arrays = random_bert_tensors(
        seed=seed,
        num_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        vocab_size=vocab_size,
        max_positions=max_positions,
        num_token_types=num_token_types,
        pooler=pooler,
    )
    tensors = {
        prefix + (_legacy_name(name) if legacy_names else name): as_tensor(array, dtype)
        for name, array in arrays.items()
    }
    write_checkpoint(path, {**tensors, **(extra_tensors or {})}, num_shards=num_shards)
    if tokenizer:
        write_tokenizer(path, max_length=max_positions)
    return path


def random_bert_tensors(
    *,
    seed: int,
    num_layers: int,
    hidden_size: int,
    intermediate_size: int,
    vocab_size: int,
    max_positions: int,
    num_token_types: int,
    pooler: bool,
) -> dict[str, Array]:
    """Weights by their Hugging Face names, at scales that keep activations lively.

    Linear weights have standard deviation 1/sqrt(fan-in), biases 0.1, norm weights lie around 1
    with deviation 0.2: no term of the forward pass may vanish unnoticed.
    """
    random = RandomWeights(seed)
    tensors = {
        "embeddings.word_embeddings.weight": random.normal((vocab_size, hidden_size), 0.5),
        "embeddings.position_embeddings.weight": random.normal((max_positions, hidden_size), 0.3),
        "embeddings.token_type_embeddings.weight": random.normal(
            (num_token_types, hidden_size), 0.2
        ),
        **random.norm("embeddings.LayerNorm", hidden_size),
    }
    for layer in range(num_layers):
        at = f"encoder.layer.{layer}"
        for role in ("query", "key", "value"):
            tensors |= random.linear(f"{at}.attention.self.{role}", hidden_size, hidden_size)
        tensors |= random.linear(f"{at}.attention.output.dense", hidden_size, hidden_size)
        tensors |= random.norm(f"{at}.attention.output.LayerNorm", hidden_size)
        tensors |= random.linear(f"{at}.intermediate.dense", hidden_size, intermediate_size)
        tensors |= random.linear(f"{at}.output.dense", intermediate_size, hidden_size)
        tensors |= random.norm(f"{at}.output.LayerNorm", hidden_size)
    if pooler:
        tensors |= random.linear("pooler.dense", hidden_size, hidden_size)
    return tensors


class RandomWeights:
    """Float32 draws from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def normal(self, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> Array:
        return self._generator.normal(mean, scale, shape).astype(np.float32)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, Array]:
        tensors = {f"{name}.weight": self.normal((outputs, inputs), inputs**-0.5)}
        if bias:
            tensors[f"{name}.bias"] = self.normal((outputs,), 0.1)
        return tensors

    def norm(self, name: str, size: int) -> dict[str, Array]:
        return {
            f"{name}.weight": self.normal((size,), 0.2, mean=1.0),
            f"{name}.bias": self.normal((size,), 0.1),
        }


def add_sentence_transformers(
    path: Path,
    *,
    layout: str = "legacy",
    pooling: Sequence[str] = ("mean",),
    include_prompt: bool = True,
    dense: Sequence[DenseSpec] = (),
    dropout: bool = False,
    normalize: bool = False,
    max_seq_length: int | None = None,
    lower_case: bool = False,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
    similarity: str | None = None,
    seed: int = 0,
) -> None:
    """Make a folder of `write_bert_folder` one of sentence-transformers.

    Parameters
    ----------
    layout : {"legacy", "current"}
        The class paths and configuration fields of versions 2 to 5, or of version 6.
    pooling : sequence of str
        Modes as version 6 names them.
    dense : sequence of (inputs, outputs, activation, bias)
        Dense modules in order, with random weights from `seed`.
    """
    legacy = layout == "legacy"
    modules: list[tuple[str, Path]] = [("Transformer", path)]
    for kind, count in (
        ("Pooling", 1),
        ("Dense", len(dense)),
        ("Dropout", int(dropout)),
        ("Normalize", int(normalize)),
    ):
        for _ in range(count):
            modules.append((kind, path / f"{len(modules)}_{kind}"))
    write_json(
        path / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": "" if folder == path else folder.name,
                "type": _MODULE_PATHS[layout][kind],
            }
            for index, (kind, folder) in enumerate(modules)
        ],
    )
    bert_config: dict[str, Any] = {"max_seq_length": max_seq_length, "do_lower_case": lower_case}
    if not legacy:
        bert_config = {"transformer_task": "feature-extraction", **bert_config}
    write_json(path / "sentence_bert_config.json", bert_config)
    write_json(
        path / "config_sentence_transformers.json",
        {
            "__version__": {"sentence_transformers": "2.2.2" if legacy else "6.0.0"},
            **({} if legacy else {"model_type": "SentenceTransformer"}),
            "prompts": dict(prompts or {}),
            "default_prompt_name": default_prompt,
            "similarity_fn_name": similarity,
        },
    )
    hidden_size = json.loads((path / "config.json").read_text())["hidden_size"]
    specs = iter(dense)
    random = RandomWeights(seed)
    for kind, folder in modules[1:]:
        folder.mkdir()
        if kind == "Pooling":
            write_json(
                folder / "config.json",
                _pooling_config(hidden_size, pooling, include_prompt, legacy),
            )
        elif kind == "Dense":
            _write_dense(folder, next(specs), random)
        elif kind == "Dropout":
            write_json(folder / "config.json", {"dropout": 0.1})


def _pooling_config(
    hidden_size: int, modes: Sequence[str], include_prompt: bool, legacy: bool
) -> dict[str, Any]:
    if legacy:
        flags = {key: mode in modes for mode, key in _LEGACY_POOLING.items()}
        return {"word_embedding_dimension": hidden_size, **flags, "include_prompt": include_prompt}
    return {
        "embedding_dimension": hidden_size,
        "pooling_mode": modes[0] if len(modes) == 1 else list(modes),
        "include_prompt": include_prompt,
    }


def _write_dense(folder: Path, spec: DenseSpec, random: RandomWeights) -> None:
    inputs, outputs, activation, bias = spec
    write_json(
        folder / "config.json",
        {
            "in_features": inputs,
            "out_features": outputs,
            "bias": bias,
            "activation_function": activation,
        },
    )
    arrays = random.linear("linear", inputs, outputs, bias)
    write_checkpoint(folder, {name: as_tensor(array, "F32") for name, array in arrays.items()})


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], *, num_shards: int = 1) -> None:
    """Write ``model.safetensors``, or shards and their index, into the folder `path`."""
    if num_shards == 1:
        _write_tensors(path / "model.safetensors", tensors.items())
        return
    items = list(tensors.items())
    weight_map: dict[str, str] = {}
    for shard in range(num_shards):
        name = f"model-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        part = items[shard::num_shards]
        _write_tensors(path / name, part)
        weight_map |= dict.fromkeys((key for key, _ in part), name)
    total = sum(tensor.array.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(path / "model.safetensors.index.json", index)


def write_tokenizer(path: Path, *, max_length: int, padded: bool = False) -> None:
    """Write a lower-casing WordPiece ``tokenizer.json`` and its ``tokenizer_config.json``.

    With `padded`, truncation to 16 tokens and padding to 16 are baked into the file.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    if padded:
        tokenizer.enable_truncation(16)
        tokenizer.enable_padding(length=16)
    tokenizer.save(str(path / "tokenizer.json"))
    write_json(
        path / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": max_length,
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "unk_token": "[UNK]",
        },
    )


def as_tensor(array: Array, dtype: str) -> Tensor:
    """The float32 array rounded to `dtype` ("F32", "F16" or "BF16")."""
    return Tensor(dtype, dtypes.from_float32(array, dtype))


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_tensors(path: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    stored = {name: StoredTensor(t.dtype, t.shape, (t,)) for name, t in tensors}
    SafetensorsWriter(stored, {"format": "pt"}, align_tensors=False).save(path)


def _legacy_name(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )
