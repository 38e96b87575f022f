"""Puts a weights file together from what the other modules read in a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..safetensors_file import Tensor
from ..safetensors_writer import SafetensorsWriter, StoredTensor
from . import sentence_transformers as st
from .checkpoint import TensorSource, open_checkpoint
from .errors import ConversionError
from .family import EncoderParts
from .heads import Head, read_labels, read_own_head, read_sequence_head, read_vocabulary_head
from .int8 import quantize_layers
from .json_config import JsonConfig
from .registry import find_family
from .sentence_transformers import Kind, Layout, Module
from .tensor_reader import RoleTensor
from .tokenizer import TokenizerParts, read_tokenizer
from .transformer_module import TransformerSettings, read_transformer_settings

# The dtype argument -> its name in the file; None keeps each tensor's own.
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "keep": None, "int8": "I8"}


@dataclass(frozen=True)
class Assembly:
    """A weights file ready to be written, and the files its weights are read from meanwhile."""

    writer: SafetensorsWriter
    sources: list[Path]


def assemble(folder: Path, dtype: str) -> Assembly:
    """Read everything but the weights themselves, and lay the weights file out."""
    check_dtype(dtype)
    if not folder.is_dir():
        raise ConversionError(f"{folder} is no folder; expected one with config.json and weights")
    layout = st.read_layout(folder)
    module = layout.modules[0] if layout.modules else Module("Transformer", folder)
    settings = TransformerSettings()
    if layout.modules and layout.kind is not None:
        settings = read_transformer_settings(module, layout.kind)
    config = _read_config(module.folder)
    checkpoint = open_checkpoint(module.folder)
    encoder = find_family(config)(config, checkpoint)
    tokenizer = read_tokenizer(module.folder, config.text("model_type"))
    head = _read_head(folder, layout, config, encoder)
    if "vocabulary_head" in head.metadata and tokenizer.mask_token is not None:
        head.metadata["mask_token"] = str(tokenizer.mask_token)

    asked = settings.longest_input or tokenizer.longest_input or encoder.sizes.longest_input
    metadata = {
        **head.metadata,
        "max_length": str(min(asked, encoder.sizes.longest_input)),
        "lower_case": _boolean(settings.lower_case),
        **(st.read_shared_settings(folder, layout.kind) if layout.kind else {}),
        "name": folder.resolve().name,
    }
    writer = lay_out(encoder, head.tensors, metadata, tokenizer, dtype)
    return Assembly(writer, checkpoint.paths)


def assemble_model(config: JsonConfig, weights: TensorSource, name: str, dtype: str) -> Assembly:
    """The same for a model that is in memory, without a tokenizer."""
    check_dtype(dtype)
    encoder = find_family(config)(config, weights)
    head = _read_plain_head(config, encoder)
    metadata = {
        **head.metadata,
        "max_length": str(encoder.sizes.longest_input),
        "name": name,
    }
    return Assembly(lay_out(encoder, head.tensors, metadata, TokenizerParts(), dtype), [])


def check_dtype(dtype: str) -> None:
    """Refuse a `dtype` that is none of `DTYPES`."""
    if dtype not in DTYPES:
        raise ConversionError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")


def lay_out(
    encoder: EncoderParts,
    head_tensors: dict[str, RoleTensor],
    metadata: dict[str, str],
    tokenizer: TokenizerParts,
    dtype: str,
) -> SafetensorsWriter:
    """The file of an encoder and its heads; nothing of the checkpoint may be left over."""
    encoder.reader.check_rest(encoder.unused)
    own = {**encoder.tensors, **head_tensors}
    if dtype == "int8":
        tensors = quantize_layers(own, encoder.metadata)
    else:
        tensors = {name: _stored(tensor, DTYPES[dtype]) for name, tensor in own.items()}
    if tokenizer.json is not None:
        raw = Tensor("U8", np.frombuffer(tokenizer.json, np.uint8))
        tensors["tokenizer.json"] = StoredTensor("U8", raw.shape, (raw,))
    fixed = {"format": "vlt", "format_version": "1"}
    return SafetensorsWriter(tensors, {**fixed, **encoder.metadata, **metadata})


def _read_head(folder: Path, layout: Layout, config: JsonConfig, encoder: EncoderParts) -> Head:
    """What the folder's kind asks for."""
    if layout.kind is Kind.EMBEDDING:
        return _read_embedding_head(layout.modules, encoder)
    if layout.kind is Kind.SPARSE:
        st.check_splade_pooling(layout.modules[1])
        head = read_vocabulary_head(config, encoder)
        head.metadata["sparse"] = "max"
        return head
    if layout.kind is Kind.PAIRS or st.is_cross_encoder(config):
        head = read_sequence_head(config, encoder)
        problem = st.read_score_problem(folder, config, len(read_labels(config)))
        if problem is not None:
            head.metadata["problem"] = problem
        return head
    return _read_plain_head(config, encoder)


def _read_plain_head(config: JsonConfig, encoder: EncoderParts) -> Head:
    """A classifier's own head; otherwise the mean of the states, and scores of words if it can."""
    own = read_own_head(config, encoder)
    if own is not None and "vocabulary_head" not in own.metadata:
        return own
    head = _read_embedding_head([], encoder)
    if own is not None:
        head.metadata |= own.metadata
        head.tensors |= own.tensors
    return head


def _read_embedding_head(modules: list[Module], encoder: EncoderParts) -> Head:
    head = st.read_embedding_head(modules, encoder.sizes.hidden_size)
    metadata = {
        "embedding_head": " ".join(head.steps),
        "pooling_include_prompt": _boolean(head.include_prompt),
    }
    return Head(metadata, head.tensors)


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
