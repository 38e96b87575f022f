"""A checkpoint: the tensors of one safetensors file or of several shards, read when used."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..safetensors_file import SafetensorsError, SafetensorsFile, Tensor
from ..safetensors_writer import Part
from .errors import ConversionError
from .json_config import JsonConfig

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_OTHER_FORMATS = ("pytorch_model*.bin", "tf_model*.h5", "flax_model*.msgpack", "*.ckpt*")

# What TensorFlow called the weight and bias of a layer norm.
_LEGACY_NORM = {"gamma": "weight", "beta": "bias"}


class TensorSource(Mapping[str, Part]):
    """Tensor name -> its dtype, shape and numbers: the weights of a model, wherever they are.

    Norm weights named ``gamma`` and ``beta`` appear as ``weight`` and ``bias``.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the weights are, for messages."""


class Checkpoint(TensorSource):
    """The tensors of safetensors files, whatever file holds them.

    Files are mapped, not read: a tensor costs memory only while it is looked at.

    Parameters
    ----------
    files : iterable of SafetensorsFile

    Attributes
    ----------
    paths : list of pathlib.Path
        The files.
    """

    def __init__(self, files: list[SafetensorsFile]) -> None:
        self.paths = [file.path for file in files]
        self._places: dict[str, tuple[SafetensorsFile, str]] = {}
        for file in files:
            for name in file:
                modern = modern_name(name)
                if modern in self._places:
                    other, other_name = self._places[modern]
                    raise ConversionError(
                        f"the tensor {name} of {file.path} is also there as {other_name} of "
                        f"{other.path}"
                    )
                self._places[modern] = (file, name)

    @property
    def place(self) -> str:
        first, *others = self.paths
        return f"{first} and {len(others)} more" if others else str(first)

    def __getitem__(self, name: str) -> Tensor:
        file, stored_name = self._places[name]
        return file[stored_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open ``model.safetensors``, or else the shards that its index lists.

    Raises
    ------
    ConversionError
        If there is neither, if a shard is missing or broken, or if the weights are stored in
        another format only; the message says how to save them as safetensors.
    """
    if (folder / _SINGLE).exists():
        return Checkpoint([_open_file(folder / _SINGLE)])
    if (folder / _INDEX).exists():
        return _open_shards(JsonConfig.load(folder / _INDEX))
    for pattern in _OTHER_FORMATS:
        for found in sorted(folder.glob(pattern)):
            raise ConversionError(
                f"{folder} has its weights in {found.name} only; vlt reads safetensors. Save "
                f"them so with transformers: AutoModel.from_pretrained({str(folder)!r})"
                f".save_pretrained({str(folder)!r})"
            )
    raise ConversionError(f"{folder} has no weights: looked for {_SINGLE} and {_INDEX}")


def modern_name(name: str) -> str:
    """The name with a norm's ``gamma`` and ``beta`` replaced by ``weight`` and ``bias``."""
    return re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda m: _LEGACY_NORM[m.group()], name)


def _open_shards(index: JsonConfig) -> Checkpoint:
    weight_map = index.fields.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        index.refuse("weight_map", "an object from tensor names to shard files")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or shard != Path(shard).name:
            raise ConversionError(
                f"{index.path}: weight_map puts {name} in {shard!r}, expected a file of this folder"
            )
    checkpoint = Checkpoint(
        [_open_file(index.path.with_name(shard)) for shard in sorted(set(weight_map.values()))]
    )
    missing = [name for name in weight_map if modern_name(name) not in checkpoint]
    if missing:
        raise ConversionError(
            f"{index.path} puts the tensor {missing[0]} in {weight_map[missing[0]]}, which lacks it"
        )
    return checkpoint


def _open_file(path: Path) -> SafetensorsFile:
    try:
        return SafetensorsFile(path)
    except FileNotFoundError:
        raise ConversionError(f"{path} does not exist: the checkpoint is incomplete") from None
    except (SafetensorsError, OSError) as error:
        raise ConversionError(str(error)) from error
