"""A model of transformers that is in memory -> a weights file, without a folder in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import dtypes
from ..safetensors_file import SafetensorsError
from .assemble import assemble_model
from .checkpoint import TensorSource, modern_name
from .computed import ComputedTensor
from .errors import ConversionError
from .json_config import JsonConfig

# How PyTorch prints a dtype -> its name in a weights file.
_DTYPES = {
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
}


def convert_model(model: Any, *, dtype: str = "keep") -> NDArray[np.uint8]:
    """The weights file of a model of transformers, as bytes.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        On any device; it is read, not changed. Dropout is left out, as in evaluation.
    dtype : {"float32", "float16", "bfloat16", "keep"}
        How weights are stored, as for `convert`.

    Returns
    -------
    ndarray, uint8, shape [bytes of the file]
        There is no tokenizer in it. Of an encoder alone embeddings are the mean of the states.

    Raises
    ------
    TypeError
        `model` is no model of transformers' own.
    ConversionError
        As for `convert`.
    """
    kind = type(model)
    if not kind.__module__.startswith("transformers.models."):
        raise TypeError(
            f"model is of type {kind.__module__}.{kind.__qualname__}; expected a model of "
            "transformers itself, whose code is known"
        )
    fields = json.loads(model.config.to_json_string(use_diff=False))
    fields["architectures"] = [kind.__name__]
    config = JsonConfig(Path(f"{kind.__name__}.config"), fields)
    weights = StateDict(model.state_dict(), kind.__name__)
    name = Path(model.config.name_or_path or kind.__name__).name
    assembly = assemble_model(config, weights, name, dtype)
    try:
        return assembly.writer.to_memory()
    except SafetensorsError as error:
        raise ConversionError(f"the model cannot be converted: {error}") from error


class StateDict(TensorSource):
    """The tensors of a PyTorch model, one at a time brought to the host and into numpy.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
    owner : str
        Whose they are, for messages.
    """

    def __init__(self, tensors: dict[str, Any], owner: str) -> None:
        self._tensors = {modern_name(name): tensor for name, tensor in tensors.items()}
        self._owner = owner

    @property
    def place(self) -> str:
        return f"the state of {self._owner}"

    def __getitem__(self, name: str) -> ComputedTensor:
        tensor = self._tensors[name]
        dtype = str(tensor.dtype)
        shape = tuple(tensor.shape)
        return ComputedTensor(_DTYPES.get(dtype, dtype), shape, lambda: _to_numpy(tensor))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _to_numpy(tensor: Any) -> NDArray[Any]:
    host = tensor.detach().cpu().contiguous()
    if str(host.dtype) == "torch.bfloat16":  # numpy has none: its bits
        import torch

        return host.view(torch.int16).numpy().view(dtypes.STORAGE["BF16"])
    return host.numpy()
