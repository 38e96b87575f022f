"""Tensors of a weights file that are made of others, while the file is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import dtypes
from ..safetensors_file import Tensor
from ..safetensors_writer import Part


@dataclass(frozen=True, eq=False)
class ComputedTensor:
    """A tensor that takes memory only while it is written.

    Attributes
    ----------
    dtype : str
        As `Tensor.dtype`.
    shape : tuple of int
    compute : callable
        Gives the array; of numpy type ``dtypes.STORAGE[dtype]`` and of `shape`.
    """

    dtype: str
    shape: tuple[int, ...]
    compute: Callable[[], NDArray[Any]]

    @property
    def array(self) -> NDArray[Any]:
        return self.compute()


def rearranged(
    tensor: Part, shape: tuple[int, ...], change: Callable[[NDArray[Any]], NDArray[Any]]
) -> ComputedTensor:
    """The numbers of `tensor` in another order, which `change` brings them into."""
    return ComputedTensor(tensor.dtype, shape, lambda: change(tensor.array).reshape(shape))


def zeros(dtype: str, size: int) -> Tensor:
    """A vector of zeros, in any format all bits 0."""
    return Tensor(dtype, np.zeros(size, dtypes.STORAGE[dtype]))


def to_float64(tensor: Part) -> NDArray[np.float64]:
    """The values as float64, for ``F32``, ``F16`` and ``BF16``."""
    return dtypes.to_float32(tensor.array, tensor.dtype).astype(np.float64)
