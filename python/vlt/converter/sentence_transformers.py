"""A sentence-transformers folder: modules.json, and the settings shared by all modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from .embedding_head import EmbeddingHead
from .errors import ConversionError
from .json_config import JsonConfig, load_json

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# Prompts that every model of sentence-transformers has; empty where the folder sets none.
_BUILT_IN_PROMPTS = ("query", "document")

_SETTINGS = "config_sentence_transformers.json"


class Kind(Enum):
    """What a folder is for, by what sentence-transformers calls such a model."""

    EMBEDDING = "SentenceTransformer"
    SPARSE = "SparseEncoder"
    PAIRS = "CrossEncoder"


# The modules that a folder of each kind has first.
_FIRST_MODULES = {
    Kind.EMBEDDING: (["Transformer", "Pooling"],),
    Kind.SPARSE: (["Transformer", "SpladePooling"], ["MLMTransformer", "SpladePooling"]),
    Kind.PAIRS: (["Transformer"],),
}


@dataclass(frozen=True)
class Module:
    """An entry of modules.json: the last part of its class path, and its folder."""

    kind: str
    folder: Path


@dataclass(frozen=True)
class Layout:
    """How a folder is laid out.

    Attributes
    ----------
    kind : Kind or None
        None for a folder of transformers alone.
    modules : list of Module
        The encoder's first; empty where there is no modules.json.
    """

    kind: Kind | None
    modules: list[Module]


_STEPS: dict[str, Callable[[EmbeddingHead, Path], None]] = {
    "Dense": EmbeddingHead.add_dense,
    "Normalize": EmbeddingHead.add_normalize,
    "Dropout": lambda head, folder: None,  # acts in training only
}


def read_layout(folder: Path) -> Layout:
    """What kind of model the folder holds, and its modules.

    Raises
    ------
    ConversionError
        If a module is of a kind that vlt does not have, or the order is another.
    """
    settings = JsonConfig.load_if_present(folder / _SETTINGS)
    path = folder / "modules.json"
    if not path.exists():
        # Only cross-encoders may lack their modules.
        pairs = settings.fields.get("model_type") == Kind.PAIRS.value
        return Layout(Kind.PAIRS if pairs else None, [])
    entries = load_json(path)
    if not isinstance(entries, list):
        raise ConversionError(f"{path} holds no list of modules")
    modules = [_read_module(JsonConfig(path, entry)) for entry in entries]
    return Layout(_find_kind(path, modules, settings), modules)


def _find_kind(path: Path, modules: list[Module], settings: JsonConfig) -> Kind:
    """The kind that the settings name, or else the modules; they must not contradict it."""
    kinds = [module.kind for module in modules]
    known = [kind.value for kind in Kind]
    value = settings.text("model_type", default="")
    if value and value not in known:
        settings.refuse("model_type", "one of " + ", ".join(known))
    sparse = kinds[1:2] == ["SpladePooling"]
    kind = Kind(value) if value else Kind.SPARSE if sparse else Kind.EMBEDDING
    count = len(_FIRST_MODULES[kind][0])
    rest = set(_STEPS) if kind is Kind.EMBEDDING else set()
    if kinds[:count] not in _FIRST_MODULES[kind] or not set(kinds[count:]) <= rest:
        expected = ", ".join(_FIRST_MODULES[kind][0])
        if rest:
            expected += f", then any of {', '.join(_STEPS)}"
        raise ConversionError(
            f"{path} lists {', '.join(kinds) or 'nothing'}; expected {expected} in a {kind.value}"
        )
    return kind


def read_embedding_head(modules: list[Module], hidden_size: int) -> EmbeddingHead:
    """The embedding head; without modules the mean of the tokens' states."""
    head = EmbeddingHead(hidden_size)
    if not modules:
        head.steps.append("pool:mean")
        return head
    head.add_pooling(modules[1].folder)
    for module in modules[2:]:
        _STEPS[module.kind](head, module.folder)
    return head


def check_splade_pooling(module: Module) -> None:
    """Refuse another way to sparse embeddings than the largest of log(1 + max(score, 0))."""
    config = JsonConfig.load(module.folder / "config.json")
    sizes = ("embedding_dimension", "word_embedding_dimension")
    config.no_other_keys(["pooling_strategy", "activation_function", "chunk_size", *sizes])
    config.only("pooling_strategy", "max", reason="vlt takes the largest of a text's tokens")
    config.only("activation_function", "relu", reason="vlt takes the logarithm once")


def read_score_problem(folder: Path, config: JsonConfig, num_labels: int) -> str | None:
    """The `problem` of a cross-encoder: what its scores go through.

    A sigmoid makes each label a question of its own; the scores as they are, a regression. For
    several labels they may mean a choice of one: then `config` says, and this is None.
    """
    settings = JsonConfig.load_if_present(folder / _SETTINGS)
    own = config.fields.get("sentence_transformers") or {}
    places = (
        (settings, "activation_fn"),
        (JsonConfig(config.path, own), "activation_fn"),
        (config, "sbert_ce_default_activation_function"),
    )
    default = "torch.nn.Sigmoid" if num_labels == 1 else "torch.nn.Identity"
    source, key = next(((place, key) for place, key in places if place.has(key)), places[0])
    path = source.text(key, default=default)
    name = path.removeprefix("torch.nn.").rpartition(".")[2]
    if not path.startswith("torch.nn.") or name not in ("Sigmoid", "Identity"):
        source.refuse(key, "torch.nn.Sigmoid or torch.nn.Identity")
    if name == "Sigmoid":
        return "multi_label"
    return "regression" if num_labels == 1 else None


def is_cross_encoder(config: JsonConfig) -> bool:
    """Does ``config.json`` have what older versions of cross-encoders wrote into it?"""
    own = config.fields.get("sentence_transformers")
    return (isinstance(own, dict) and "activation_fn" in own) or config.has(
        "sbert_ce_default_activation_function"
    )


def read_shared_settings(folder: Path, kind: Kind) -> dict[str, str]:
    """Prompts and similarity of ``config_sentence_transformers.json``, as metadata.

    Raises
    ------
    ConversionError
        If the folder asks for what vlt does not do.
    """
    config = JsonConfig.load_if_present(folder / _SETTINGS)
    config.only("truncate_dim", None, reason="vlt has no default for it; truncate when encoding")
    metadata = _read_prompts(config)
    if kind is Kind.PAIRS:
        if any(metadata.values()):
            config.refuse("prompts", "none: vlt puts nothing before pairs of texts")
        return {}
    default = "dot" if kind is Kind.SPARSE else "cosine"
    similarity = config.text("similarity_fn_name", default=default)
    if similarity not in SIMILARITIES:
        config.refuse("similarity_fn_name", "one of " + ", ".join(SIMILARITIES))
    return {**metadata, "similarity": similarity}


def _read_prompts(config: JsonConfig) -> dict[str, str]:
    prompts = config.fields.get("prompts") or {}
    if not isinstance(prompts, dict) or "" in prompts:
        config.refuse("prompts", "an object from names to texts")
    texts = {name: "" if text is None else text for name, text in prompts.items()}
    if not all(isinstance(text, str) and "\0" not in name + text for name, text in texts.items()):
        config.refuse("prompts", "an object from names to texts without NUL characters")
    default = config.text("default_prompt_name", default="")
    if default in _BUILT_IN_PROMPTS:
        texts.setdefault(default, "")
    if default and default not in texts:
        config.refuse("default_prompt_name", "one of " + ", ".join(texts))
    metadata = {f"prompt.{name}": text for name, text in texts.items()}
    return {**metadata, "default_prompt": default} if default else metadata


def _read_module(entry: JsonConfig) -> Module:
    class_path = entry.text("type")
    if not class_path.startswith("sentence_transformers."):
        entry.refuse("type", "a class of sentence_transformers: vlt runs no code of a model")
    path = PurePosixPath(entry.text("path", default=""))
    if path.is_absolute() or ".." in path.parts:
        entry.refuse("path", "a folder inside the model's")
    return Module(class_path.rpartition(".")[2], entry.path.parent / path)
