"""Conversion of Hugging Face and sentence-transformers folders into vlt weights files.

Needs neither PyTorch nor transformers: safetensors files are read as they lie on disk. A model that
transformers has loaded already is converted from memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..safetensors_file import SafetensorsError
from .assemble import assemble
from .errors import ConversionError
from .from_transformers import convert_model

__all__ = ["ConversionError", "convert", "convert_model", "convert_to_memory"]

Dtype = Literal["float32", "float16", "bfloat16", "int8", "keep"]


def convert(
    folder: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    dtype: Dtype = "float32",
) -> Path:
    """Write the weights file of a model folder.

    Parameters
    ----------
    folder : path-like
        A folder that transformers or sentence-transformers can load: ``config.json``, the weights
        as ``model.safetensors`` or shards with their index, and where there are any
        ``tokenizer.json``, ``tokenizer_config.json``, ``modules.json`` and what it refers to. A
        folder without ``modules.json`` gets the head that ``architectures`` names: one of labels,
        or for a model of masked words that of the vocabulary. An encoder alone and a model of
        masked words get the embedding sentence-transformers gives them, the mean of the tokens'
        states.
    out_path : path-like
        The file to write. It appears whole or not at all; one that exists is replaced.
    dtype : {"float32", "float16", "bfloat16", "int8", "keep"}
        How weights are stored: rounded to the nearest number of that format, ties to even, or as
        the checkpoint has them. Widening loses nothing. "int8" stores the layers' weights as
        ``Encoder(..., dtype="int8")`` makes them of any file, and other matrices in bfloat16.

    Returns
    -------
    pathlib.Path
        `out_path`.

    Raises
    ------
    ConversionError
        If the folder is incomplete or broken, if it holds a model that vlt would compute
        differently, or if a weight is too large for `dtype`. The message names the file, the
        field or tensor, its value, and what is expected.
    OSError
        If `out_path` cannot be written.

    Notes
    -----
    Takes a few MiB of memory beside the tokenizer, whatever the size of the model: weights are
    mapped and go through in blocks.

    Examples
    --------
    >>> convert("all-MiniLM-L6-v2", "all-MiniLM-L6-v2.bin")  # doctest: +SKIP
    """
    target = Path(out_path)
    assembly = assemble(Path(folder), dtype)
    if target.exists() and any(target.samefile(source) for source in assembly.sources):
        raise ConversionError(f"{target} holds the model's own weights; write to another file")
    try:
        assembly.writer.save(target)
    except SafetensorsError as error:
        raise ConversionError(f"{folder} cannot be converted: {error}") from error
    return target


def convert_to_memory(
    folder: str | os.PathLike[str], *, dtype: Dtype = "float32"
) -> NDArray[np.uint8]:
    """The weights file of a model folder as bytes, with nothing written to disk.

    Parameters
    ----------
    folder, dtype
        As for `convert`.

    Returns
    -------
    ndarray, uint8, shape [bytes of the file]

    Raises
    ------
    ConversionError
        As for `convert`.

    Notes
    -----
    The peak of memory is the result and a few MiB: 4 bytes for each weight in float32, 2 in the
    others.
    """
    assembly = assemble(Path(folder), dtype)
    try:
        return assembly.writer.to_memory()
    except SafetensorsError as error:
        raise ConversionError(f"{folder} cannot be converted: {error}") from error
