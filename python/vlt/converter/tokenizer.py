"""The tokenizer of a model folder: its tokenizer.json and the longest input it asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConversionError
from .json_config import JsonConfig, load_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# transformers builds these from their settings and takes only the vocabulary from tokenizer.json.
_BERT_CLASSES = [
    f"{family}Tokenizer{speed}"
    for family in ("Bert", "DistilBert", "Electra", "MPNet")
    for speed in ("", "Fast")
]
# The class of a model whose folder names none, where its settings matter.
_DEFAULT_CLASSES = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
}
# Where a folder does not say which it is.
_MASK_TOKENS = ("[MASK]", "<mask>")
# BertNormalizer's field -> the setting of tokenizer_config.json and its default.
_BERT_NORMALIZER: dict[str, tuple[str, bool | None]] = {
    "lowercase": ("do_lower_case", True),
    "strip_accents": ("strip_accents", None),
    "handle_chinese_chars": ("tokenize_chinese_chars", True),
}


@dataclass(frozen=True)
class TokenizerParts:
    """What a folder says of its tokenizer.

    Attributes
    ----------
    json : bytes or None
        The tokenizer.json to put into the weights file; None where the folder has none.
    longest_input : int or None
        ``model_max_length``, special tokens included; None where it is not said.
    mask_token : int or None
        Id of the token that stands for a word to be found; None where there is none.
    """

    json: bytes | None = None
    longest_input: int | None = None
    mask_token: int | None = None


def read_tokenizer(folder: Path, model_type: str) -> TokenizerParts:
    """Read ``tokenizer.json`` and ``tokenizer_config.json``; either may be absent.

    Truncation and padding baked into the file are taken out, as they would act beside the
    encoder's own. Where transformers overrules the file with ``tokenizer_config.json``, the
    result is what transformers would use.

    Raises
    ------
    ConversionError
        If a file is broken, or the tokenizer cuts texts at their beginning.
    """
    config = JsonConfig.load_if_present(folder / "tokenizer_config.json")
    path = folder / "tokenizer.json"
    if not path.exists():
        return TokenizerParts(longest_input=_longest_input(config))
    content = _read_content(path, config, model_type)
    mask_token = _mask_token(folder, config, _load(path, content))
    return TokenizerParts(content, _longest_input(config), mask_token)


def _mask_token(folder: Path, config: JsonConfig, tokenizer: Tokenizer) -> int | None:
    """The id of ``mask_token``, which older folders keep in a file of its own."""
    older = JsonConfig.load_if_present(folder / "special_tokens_map.json")
    token = config.fields.get("mask_token") or older.fields.get("mask_token")
    if isinstance(token, dict):
        token = token.get("content")
    names = [token] if isinstance(token, str) else list(_MASK_TOKENS)
    ids = [tokenizer.token_to_id(name) for name in names]
    return next((number for number in ids if number is not None), None)


def _longest_input(config: JsonConfig) -> int | None:
    key = "model_max_length" if config.has("model_max_length") else "max_len"
    if not config.has(key):
        return None
    value = config.fields[key]
    # "No limit" is written as 1e30, as an integer or not.
    if isinstance(value, float) and value.is_integer() and value > 0:
        return int(value)
    return config.integer(key, minimum=1)


def _read_content(path: Path, config: JsonConfig, model_type: str) -> bytes:
    tokenizer = JsonConfig(path, load_json(path))
    _refuse_left_truncation(tokenizer, config)
    changes: dict[str, Any] = {key: None for key in ("truncation", "padding") if tokenizer.has(key)}
    tokenizer_class = config.text("tokenizer_class", default=_DEFAULT_CLASSES.get(model_type, ""))
    normalizer = tokenizer.fields.get("normalizer")
    if tokenizer_class in _BERT_CLASSES and isinstance(normalizer, dict):
        changes |= _bert_normalizer(normalizer, config)
    content = path.read_bytes()
    if changes:
        text = json.dumps({**tokenizer.fields, **changes}, ensure_ascii=False)
        content = text.encode("utf-8", "surrogatepass")  # _load refuses what this lets by
    return content


def _refuse_left_truncation(tokenizer: JsonConfig, config: JsonConfig) -> None:
    config.only("truncation_side", "right", reason="vlt cuts long texts at their end")
    truncation = tokenizer.fields.get("truncation")
    if isinstance(truncation, dict) and truncation.get("direction", "Right") != "Right":
        tokenizer.refuse("truncation", "the direction Right: vlt cuts long texts at their end")


def _bert_normalizer(normalizer: dict[str, Any], config: JsonConfig) -> dict[str, Any]:
    """The changed field of tokenizer.json; empty where it agrees with the configuration."""
    if normalizer.get("type") != "BertNormalizer":
        return {}
    wanted = {
        field: config.fields.get(key, default) for field, (key, default) in _BERT_NORMALIZER.items()
    }
    changed = {**normalizer, **wanted}
    return {} if changed == normalizer else {"normalizer": changed}


def _load(path: Path, content: bytes) -> Tokenizer:
    import tokenizers  # not needed for folders without a tokenizer

    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises Exception itself
        raise ConversionError(f"{path} is no tokenizer: {error}") from error
