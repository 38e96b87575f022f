"""Layers' weights as 8-bit integers, as the library makes them when it loads a model in int8.

The same arithmetic as in cpp/model/quantize.cpp, step by step in float32: a file stored so gives
the vectors, to the bit, that the float32 file gives in int8. Letters: N outputs, K inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import dtypes
from ..safetensors_writer import Part, StoredTensor
from .computed import ComputedTensor
from .tensor_reader import RoleTensor

# Up to here sums of products with 0 ... 255 fit an int32; wider layers stay float32.
MOST_INPUTS = 65536
# What is much smaller than the largest counts as this part of it, so that no factor is extreme.
SMALLEST = np.float32(1e-3)

_LAYER_LINEAR = re.compile(
    r"layers\.(\d+)\.(attention\.qkv|attention\.output|ffn\.up|ffn\.down)\.weight"
)
_TABLE = re.compile(r"embeddings\.(word|position|token_type)")


@dataclass(frozen=True)
class LayerLinear:
    """A linear layer to be quantised, and what its inputs come from."""

    weight: RoleTensor  # [N, K]
    norm: tuple[RoleTensor, RoleTensor] | None  # weight and bias, [K]
    first_output: int  # of those that are to be exact

    def factors(self) -> NDArray[np.float32] | None:
        """What inputs are multiplied by, [K], or None for ones; see `smoothing_factors`."""
        if self.norm is None:
            return None
        weight, bias = (_read(part) for part in self.norm)
        exact = _read(self.weight)[self.first_output :]
        return smoothing_factors(exact, np.hypot(weight, bias))

    def quantized(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """The numbers [N, K], and their scales [N]."""
        weight, factors = _read(self.weight), self.factors()
        if factors is not None:
            weight = weight / factors
        scales = np.abs(weight).max(axis=1) / np.float32(127)
        divisors = np.where(scales > 0, scales, np.float32(1))
        return np.rint(weight / divisors[:, None]).astype(np.int8), scales


def smoothing_factors(
    weight: NDArray[np.float32], sizes: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Factors that bring inputs of about `sizes` [K] nearer to each other; None for no factors.

    Half of the difference, in powers, goes into the weights [N, K] (Xiao et al. 2022, SmoothQuant,
    arXiv:2211.10438, eq. 4, with sizes from the model itself in place of measured ones).
    """
    squares = np.add.reduce(weight.astype(np.float64) ** 2, axis=0)
    of_weights = np.sqrt(squares / len(weight)).astype(np.float32)
    raised = [np.maximum(part, SMALLEST * part.max()) for part in (of_weights, sizes)]
    if not all(part.min() > 0 for part in raised):
        return None
    factors: NDArray[np.float32] = np.sqrt(raised[0] / raised[1])
    return factors


def quantize_layers(
    tensors: Mapping[str, RoleTensor], metadata: Mapping[str, str]
) -> dict[str, StoredTensor]:
    """All tensors of an encoder and its heads: layers' weights in int8, other matrices and tables
    in bfloat16, vectors and what attention adds in float32."""
    stored: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        match = _LAYER_LINEAR.fullmatch(name)
        if match and tensor.shape[1] <= MOST_INPUTS:
            layer = LayerLinear(tensor, *_inputs(int(match[1]), match[2], tensors, metadata))
            stored |= _store(name.removesuffix(".weight"), layer)
        else:
            narrow = len(tensor.shape) == 2 and (name.endswith(".weight") or _TABLE.fullmatch(name))
            stored[name] = StoredTensor("BF16" if narrow else "F32", tensor.shape, tensor.parts)
    return stored


def _store(prefix: str, layer: LayerLinear) -> dict[str, StoredTensor]:
    rows, columns = layer.weight.shape
    parts: dict[str, Part] = {
        "weight": ComputedTensor("I8", (rows, columns), lambda: layer.quantized()[0]),
        "scales": ComputedTensor("F32", (rows,), lambda: layer.quantized()[1]),
    }
    if layer.norm is not None:
        parts["input_factors"] = ComputedTensor("F32", (columns,), lambda: _factors_or_ones(layer))
    return {
        f"{prefix}.{name}": StoredTensor(part.dtype, part.shape, (part,))
        for name, part in parts.items()
    }


def _factors_or_ones(layer: LayerLinear) -> NDArray[np.float32]:
    factors = layer.factors()
    return np.ones(layer.weight.shape[1], np.float32) if factors is None else factors


def _inputs(
    layer: int, role: str, tensors: Mapping[str, RoleTensor], metadata: Mapping[str, str]
) -> tuple[tuple[RoleTensor, RoleTensor] | None, int]:
    """The norm whose results a layer's product takes, if any, and the first exact output."""
    norms = {
        "attention.qkv": _norm_before(layer, metadata),
        "ffn.up": f"layers.{layer}.attention.norm",
    }
    name = norms.get(role)
    norm = (tensors[f"{name}.weight"], tensors[f"{name}.bias"]) if name else None
    # Queries and keys bear 8 bits well; values are what a token's state becomes.
    heads = int(metadata["num_heads"]) * int(metadata["head_size"])
    return norm, 2 * heads if role == "attention.qkv" else 0


def _norm_before(layer: int, metadata: Mapping[str, str]) -> str | None:
    """The norm before a stored layer where it runs last."""
    numbers = [str(i) for i in range(int(metadata["num_layers"]))]
    order = metadata["layer_order"].split(" ") if "layer_order" in metadata else numbers
    place = len(order) - 1 - order[::-1].index(str(layer))
    if place == 0:
        return None if "embedding_size" in metadata else "embeddings.norm"
    if place == 1 and "convolution" in metadata:
        return "convolution.norm"
    return f"layers.{order[place - 1]}.ffn.norm"


def _read(tensor: RoleTensor) -> NDArray[np.float32]:
    parts = [dtypes.to_float32(part.array, part.dtype) for part in tensor.parts]
    return np.concatenate(parts).reshape(tensor.shape)
