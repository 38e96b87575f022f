"""The settings sentence-transformers keeps of its first module, the encoder and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .json_config import JsonConfig
from .sentence_transformers import Kind, Module

# One of these holds the settings; older versions named the file after the model family.
_FILES = [
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]

# What the encoder is asked for in a folder of each kind: the task, what the model gives, what the
# module calls it.
_TASKS = {
    Kind.EMBEDDING: ("feature-extraction", "last_hidden_state", "token_embeddings"),
    Kind.SPARSE: ("fill-mask", "logits", "token_embeddings"),
    Kind.PAIRS: ("sequence-classification", "logits", "scores"),
}

# Settings with the only value that leaves the result what vlt computes, and why.
_FIXED: dict[str, tuple[object, str]] = {
    "processing_kwargs": ({}, "vlt has the tokenizer's usual settings only"),
    "query_length": (None, "vlt has one longest input for all texts"),
    "document_length": (None, "vlt has one longest input for all texts"),
    "query_expansion": (None, "vlt adds no tokens to queries"),
    "tokenizer_name_or_path": (None, "put the tokenizer's files into the folder"),
}

_TASK_KEYS = ("transformer_task", "modality_config", "module_output_name")

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


def read_transformer_settings(module: Module, kind: Kind) -> TransformerSettings:
    """Read the module's settings; one that would change the result is a `ConversionError`."""
    folder = module.folder
    paths = [folder / name for name in _FILES if (folder / name).exists()]
    config = JsonConfig.load_if_present(paths[0] if paths else folder / _FILES[0])
    others = ["max_seq_length", "do_lower_case", "unpad_inputs"]
    config.no_other_keys([*_FIXED, *_TASK_KEYS, *_ARGUMENTS, *others])
    _check_task(config, module, kind)
    for key, (allowed, reason) in _FIXED.items():
        config.only(key, allowed, reason=reason)
    for key in _ARGUMENTS:
        _check_arguments(config, key)
    has_length = config.has("max_seq_length")
    return TransformerSettings(
        config.integer("max_seq_length", minimum=1) if has_length else None,
        config.flag("do_lower_case", default=False),
    )


def _check_task(config: JsonConfig, module: Module, kind: Kind) -> None:
    task, output, name = _TASKS[kind]
    reason = f"what a {kind.value} asks its encoder for"
    # Without a task the module reads the encoder's states, unless its class says otherwise.
    default = _TASKS[Kind.EMBEDDING if module.kind == "Transformer" else Kind.SPARSE][0]
    if config.text("transformer_task", default=default) != task:
        config.refuse("transformer_task", f"{task}: {reason}")
    texts = {"text": {"method": "forward", "method_output_name": output}}
    config.only("modality_config", texts, reason="vlt reads plain texts")
    config.only("module_output_name", name, reason=reason)


def _check_arguments(config: JsonConfig, key: str) -> None:
    arguments: Any = config.fields.get(key) or {}
    if not isinstance(arguments, dict) or set(arguments) - _HARMLESS:
        config.refuse(key, "none but " + ", ".join(sorted(_HARMLESS)))
