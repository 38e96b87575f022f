"""Takes tensors out of a checkpoint by name and gives them their roles in the weights file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import dtypes
from ..safetensors_writer import Part
from .checkpoint import TensorSource
from .errors import ConversionError


@dataclass(frozen=True)
class RoleTensor:
    """A tensor of the weights file: the rows of its parts, one part after another."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...]


class TensorReader:
    """Takes tensors out of a checkpoint, checks them, and remembers which were taken.

    Parameters
    ----------
    checkpoint : TensorSource
    prefix : str
        What the names of all tensors begin with, such as ``bert.``.
    outer_prefix : str
        The same for the tensors of heads, which lie beside the base model.
    taken : set of str
        Full names of the tensors that were taken; several readers may share one.
    """

    def __init__(
        self, checkpoint: TensorSource, prefix: str, outer_prefix: str, taken: set[str]
    ) -> None:
        self._checkpoint = checkpoint
        self._prefix = prefix
        self._outer_prefix = outer_prefix
        self._taken = taken

    @classmethod
    def of_model(cls, checkpoint: TensorSource, base: str, anchor: str) -> TensorReader:
        """A reader of the only model in a checkpoint.

        Parameters
        ----------
        checkpoint : TensorSource
        base : str
            What transformers calls the base model inside one with a head, such as ``bert``.
        anchor : str
            A tensor that every model of the family has; what stands before it is the prefix.
        """
        found = [name for name in checkpoint if name == anchor or name.endswith("." + anchor)]
        if len(found) != 1:
            raise ConversionError(
                f"{checkpoint.place}: {len(found)} tensors are named {anchor}, with or without a "
                f"prefix, expected one ({', '.join(found or list(checkpoint)[:3])})"
            )
        prefix = found[0].removesuffix(anchor)
        inside = re.fullmatch(rf"(|.*\.){re.escape(base)}\.", prefix)
        return cls(checkpoint, prefix, inside[1] if inside else prefix, set())

    @property
    def outside(self) -> TensorReader:
        """A reader of the tensors beside the base model."""
        return TensorReader(self._checkpoint, self._outer_prefix, self._outer_prefix, self._taken)

    def has(self, name: str) -> bool:
        return self._prefix + name in self._checkpoint

    def take(self, name: str, shape: tuple[int, ...]) -> Part:
        """The tensor `name`, which must have `shape` and hold weights."""
        full_name = self._prefix + name
        where = f"{self._checkpoint.place}: the tensor {full_name}"
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

    def single(self, role: str, name: str, shape: tuple[int, ...]) -> dict[str, RoleTensor]:
        """One tensor as it is."""
        return {role: RoleTensor(shape, (self.take(name, shape),))}

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
                    f"{self._checkpoint.place}: the tensor {name} is not part of the model "
                    "that config.json describes; vlt would compute something else than this model"
                )
