"""Puts a weights file together from what the other modules read in a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..safetensors_file import Tensor
from ..safetensors_writer import SafetensorsWriter, StoredTensor
from .checkpoint import open_checkpoint
from .errors import ConversionError
from .family import RoleTensor
from .json_config import JsonConfig
from .registry import find_family
from .sentence_transformers import read_head, read_modules, read_shared_settings
from .tokenizer import read_tokenizer
from .transformer_module import TransformerSettings, read_transformer_settings

# The dtype argument -> its name in the file; None keeps each tensor's own.
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "keep": None}


@dataclass(frozen=True)
class Assembly:
    """A weights file ready to be written, and the files its weights are read from meanwhile."""

    writer: SafetensorsWriter
    sources: list[Path]


def assemble(folder: Path, dtype: str) -> Assembly:
    """Read everything but the weights themselves, and lay the weights file out."""
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    if not folder.is_dir():
        raise ConversionError(f"{folder} is no folder; expected one with config.json and weights")
    modules = read_modules(folder)
    encoder_folder = modules[0].folder if modules else folder
    settings = read_transformer_settings(encoder_folder) if modules else TransformerSettings()
    config = _read_config(encoder_folder)
    family = find_family(config)
    checkpoint = open_checkpoint(encoder_folder)
    encoder = family(config, checkpoint)
    head = read_head(modules, encoder.hidden_size)
    tokenizer = read_tokenizer(encoder_folder, config.text("model_type"))

    asked = settings.longest_input or tokenizer.longest_input or encoder.longest_input
    metadata = {
        "format": "vlt",
        "format_version": "1",
        **encoder.metadata,
        "embedding_head": " ".join(head.steps),
        "max_length": str(min(asked, encoder.longest_input)),
        "pooling_include_prompt": _boolean(head.include_prompt),
        "lower_case": _boolean(settings.lower_case),
        **(read_shared_settings(folder) if modules else {}),
        "name": folder.resolve().name,
    }
    tensors = {
        name: _stored(tensor, DTYPES[dtype])
        for name, tensor in {**encoder.tensors, **head.tensors}.items()
    }
    if tokenizer.json is not None:
        raw = Tensor("U8", np.frombuffer(tokenizer.json, np.uint8))
        tensors["tokenizer.json"] = StoredTensor("U8", raw.shape, (raw,))
    return Assembly(SafetensorsWriter(tensors, metadata), checkpoint.paths)


def _read_config(folder: Path) -> JsonConfig:
    path = folder / "config.json"
    if not path.exists():
        raise ConversionError(f"{folder} has no config.json: it is not a transformers model")
    if (folder / "adapter_config.json").exists():
        raise ConversionError(
            f"{folder} has an adapter_config.json: merge the adapter into the model and save that"
        )
    return JsonConfig.load(path)


def _stored(tensor: RoleTensor, dtype: str | None) -> StoredTensor:
    if dtype is None:
        own = {part.dtype for part in tensor.parts}
        # Parts that differ meet in the one format that holds both exactly.
        dtype = own.pop() if len(own) == 1 else "F32"
    return StoredTensor(dtype, tensor.shape, tensor.parts)


def _boolean(value: bool) -> str:
    return "true" if value else "false"
