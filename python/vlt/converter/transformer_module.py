"""The settings sentence-transformers keeps of its first module, the encoder and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .json_config import JsonConfig

# One of these holds the settings; older versions named the file after the model family.
_FILES = [
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]

_TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

# Settings with the only value that leaves the result what vlt computes, and why.
_FIXED: dict[str, tuple[object, str]] = {
    "transformer_task": ("feature-extraction", "vlt reads the encoder's states, not a head's"),
    "modality_config": (_TEXT_ONLY, "vlt reads plain texts"),
    "module_output_name": ("token_embeddings", "vlt reads the states of all tokens"),
    "processing_kwargs": ({}, "vlt has the tokenizer's usual settings only"),
    "query_length": (None, "vlt has one longest input for all texts"),
    "document_length": (None, "vlt has one longest input for all texts"),
    "query_expansion": (None, "vlt adds no tokens to queries"),
    "tokenizer_name_or_path": (None, "put the tokenizer's files into the folder"),
}

# Arguments that choose how transformers runs, not what it computes.
_HARMLESS = {"add_pooling_layer", "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage",
             "torch_dtype", "trust_remote_code", "use_fast", "use_safetensors"}  # fmt: skip
_ARGUMENTS = (
    "model_args",
    "model_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
)


@dataclass(frozen=True)
class TransformerSettings:
    """Settings of the encoder module; the defaults are those of a plain folder.

    Attributes
    ----------
    longest_input : int or None
        Replaces what the tokenizer says.
    lower_case : bool
        Are texts lower-cased before the tokenizer?
    """

    longest_input: int | None = None
    lower_case: bool = False


def read_transformer_settings(folder: Path) -> TransformerSettings:
    """Read the module's settings; one that would change the result is a `ConversionError`."""
    paths = [folder / name for name in _FILES if (folder / name).exists()]
    config = JsonConfig.load_if_present(paths[0] if paths else folder / _FILES[0])
    config.no_other_keys([*_FIXED, *_ARGUMENTS, "max_seq_length", "do_lower_case", "unpad_inputs"])
    for key, (allowed, reason) in _FIXED.items():
        config.only(key, allowed, reason=reason)
    for key in _ARGUMENTS:
        _check_arguments(config, key)
    has_length = config.has("max_seq_length")
    return TransformerSettings(
        config.integer("max_seq_length", minimum=1) if has_length else None,
        config.flag("do_lower_case", default=False),
    )


def _check_arguments(config: JsonConfig, key: str) -> None:
    arguments: Any = config.fields.get(key) or {}
    if not isinstance(arguments, dict) or set(arguments) - _HARMLESS:
        config.refuse(key, "none but " + ", ".join(sorted(_HARMLESS)))
