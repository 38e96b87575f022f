"""A sentence-transformers folder: modules.json, and the settings shared by all modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .embedding_head import EmbeddingHead
from .errors import ConversionError
from .json_config import JsonConfig, load_json

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# Prompts that every model of sentence-transformers has; empty where the folder sets none.
_BUILT_IN_PROMPTS = ("query", "document")


@dataclass(frozen=True)
class Module:
    """An entry of modules.json: the last part of its class path, and its folder."""

    kind: str
    folder: Path


_STEPS: dict[str, Callable[[EmbeddingHead, Path], None]] = {
    "Dense": EmbeddingHead.add_dense,
    "Normalize": EmbeddingHead.add_normalize,
    "Dropout": lambda head, folder: None,  # acts in training only
}


def read_modules(folder: Path) -> list[Module] | None:
    """The modules, the encoder's first and pooling second; None for a plain folder.

    Raises
    ------
    ConversionError
        If a module is of a kind that vlt does not have, or the order is another.
    """
    path = folder / "modules.json"
    if not path.exists():
        return None
    entries = load_json(path)
    if not isinstance(entries, list):
        raise ConversionError(f"{path} holds no list of modules")
    modules = [_read_module(JsonConfig(path, entry)) for entry in entries]
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(_STEPS):
        raise ConversionError(
            f"{path} lists {', '.join(kinds) or 'nothing'}; expected Transformer, Pooling, then "
            f"any of {', '.join(_STEPS)}"
        )
    return modules


def read_head(modules: list[Module] | None, hidden_size: int) -> EmbeddingHead:
    """The embedding head; a plain folder gets the mean of its tokens' states."""
    head = EmbeddingHead(hidden_size)
    if modules is None:
        head.steps.append("pool:mean")
        return head
    head.add_pooling(modules[1].folder)
    for module in modules[2:]:
        _STEPS[module.kind](head, module.folder)
    return head


def read_shared_settings(folder: Path) -> dict[str, str]:
    """Prompts and similarity of ``config_sentence_transformers.json``, as metadata.

    Raises
    ------
    ConversionError
        If the folder holds another kind of model, such as a cross-encoder, or asks for what vlt
        does not do.
    """
    config = JsonConfig.load_if_present(folder / "config_sentence_transformers.json")
    config.only("model_type", "SentenceTransformer", reason="vlt converts no other kind")
    config.only("truncate_dim", None, reason="vlt has no default for it; truncate when encoding")
    metadata = _read_prompts(config)
    similarity = config.text("similarity_fn_name", default="cosine")
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
