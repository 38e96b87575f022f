"""torch, for callers who ask for its tensors or bring its functions; never imported otherwise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


def import_torch() -> Any:
    """The module torch, only where tensors are asked for."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "convert_to_tensor=True and convert_to_numpy=False give torch tensors, and torch is "
            f"not installed ({error}); leave them out for numpy arrays"
        ) from error
    return torch


def call_on_array(function: Callable[[Any], Any], array: Float32Array) -> Float32Array:
    """A function of arrays, or a module of torch, applied to an array; float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(function, torch.nn.Module):
        with torch.inference_mode():
            return np.asarray(function(torch.from_numpy(array)), np.float32)
    return np.asarray(function(array), np.float32)
