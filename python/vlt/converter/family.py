"""What a family module gives: an encoder's metadata and its tensors by role."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import dtypes
from ..safetensors_file import Tensor
from .checkpoint import Checkpoint
from .errors import ConversionError


@dataclass(frozen=True)
class RoleTensor:
    """A tensor of the weights file: the rows of its parts, one part after another."""

    shape: tuple[int, ...]
    parts: tuple[Tensor, ...]


@dataclass(frozen=True)
class EncoderParts:
    """An encoder in the terms of the weights file.

    A family module has one function, listed in `registry.FAMILIES`, from the parsed
    ``config.json`` and the checkpoint to this.

    Attributes
    ----------
    metadata : dict of str to str
        Every architecture key of the weights file.
    tensors : dict of str to RoleTensor
        Every ``embeddings.*`` and ``layers.*`` tensor of the weights file, in its order.
    hidden_size : int
    longest_input : int
        Tokens the position table covers.
    """

    metadata: dict[str, str]
    tensors: dict[str, RoleTensor]
    hidden_size: int
    longest_input: int


class TensorReader:
    """Takes tensors out of a checkpoint, checks them, and remembers which were taken.

    Parameters
    ----------
    checkpoint : Checkpoint
    anchor : str
        A tensor that every model of the family has. Whatever stands before it in the checkpoint,
        such as ``bert.``, is the prefix of all its names.
    """

    def __init__(self, checkpoint: Checkpoint, anchor: str) -> None:
        found = [name for name in checkpoint if name == anchor or name.endswith("." + anchor)]
        if len(found) != 1:
            raise ConversionError(
                f"{_files(checkpoint)}: {len(found)} tensors are named {anchor}, with or without a "
                f"prefix, expected one ({', '.join(found or list(checkpoint)[:3])})"
            )
        self._checkpoint = checkpoint
        self._prefix = found[0].removesuffix(anchor)
        self._taken: set[str] = set()

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`, which must have `shape` and hold weights."""
        full_name = self._prefix + name
        where = f"{_files(self._checkpoint)}: the tensor {full_name}"
        if full_name not in self._checkpoint:
            raise ConversionError(f"{where} is missing; its shape should be {list(shape)}")
        tensor = self._checkpoint[full_name]
        if tensor.shape != shape:
            raise ConversionError(
                f"{where} has shape {list(tensor.shape)}, expected {list(shape)} from config.json"
            )
        if tensor.dtype not in dtypes.WEIGHT_DTYPES:
            raise ConversionError(
                f"{where} has dtype {tensor.dtype}, expected {' or '.join(dtypes.WEIGHT_DTYPES)}"
            )
        self._taken.add(full_name)
        return tensor

    def linear(self, role: str, names: list[str], rows: int, columns: int) -> dict[str, RoleTensor]:
        """A linear layer; several names are stacked in order, `rows` rows each."""
        weights = tuple(self.take(f"{name}.weight", (rows, columns)) for name in names)
        biases = tuple(self.take(f"{name}.bias", (rows,)) for name in names)
        return {
            f"{role}.weight": RoleTensor((rows * len(names), columns), weights),
            f"{role}.bias": RoleTensor((rows * len(names),), biases),
        }

    def norm(self, role: str, name: str, size: int) -> dict[str, RoleTensor]:
        """The weight and bias of a layer norm."""
        return {
            f"{role}.{part}": RoleTensor((size,), (self.take(f"{name}.{part}", (size,)),))
            for part in ("weight", "bias")
        }

    def check_rest(self, unused: re.Pattern[str] | None = None) -> None:
        """Refuse a tensor that was not taken, unless its name without prefix matches `unused`."""
        for name in self._checkpoint:
            known = unused is not None and unused.match(name.removeprefix(self._prefix))
            if name not in self._taken and not known:
                raise ConversionError(
                    f"{_files(self._checkpoint)}: the tensor {name} is not part of the encoder "
                    "that config.json describes; vlt would compute something else than this model"
                )


def _files(checkpoint: Checkpoint) -> str:
    first, *others = checkpoint.paths
    return f"{first} and {len(others)} more" if others else str(first)
