"""Models in memory: the same weights file as from the folder they would be saved to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from family_folders import CLASSES, FAMILIES, Sizes, write_family_folder

from vlt.converter import ConversionError, convert, convert_model
from vlt.safetensors_file import SafetensorsFile

SIZES = Sizes(2, 12, 2, 10, 40, 24)
TERMS = {"pos_att_type": ["c2p", "p2c"]}


def load(folder: Path, family: str, head: str | None, dtype: str = "float32") -> Any:
    """The folder's model, by transformers."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    name = FAMILIES[family].class_name + CLASSES[head]
    return getattr(transformers, name).from_pretrained(folder, dtype=getattr(torch, dtype))


def content(path: Path) -> dict[str, tuple[str, bytes]]:
    file = SafetensorsFile(path)
    return {name: (file[name].dtype, file[name].array.tobytes()) for name in file}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("head", list(CLASSES))
def test_the_same_as_by_way_of_a_folder(tmp_path: Path, family: str, head: str | None) -> None:
    config = TERMS if family.startswith("deberta") else {}
    folder = write_family_folder(
        tmp_path / "model", family, SIZES, seed=4, head=head, config=config
    )
    weights = tmp_path / "from_memory.bin"
    convert_model(load(folder, family, head)).tofile(weights)
    path = convert(folder, tmp_path / "from_folder.bin")
    assert content(weights) == content(path)
    ours, theirs = (SafetensorsFile(file).metadata for file in (weights, path))
    for metadata in (ours, theirs):
        metadata.pop("name")
        metadata.pop("lower_case", None)
    assert ours == theirs


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(tmp_path: Path, dtype: str) -> None:
    stored = {"float16": "F16", "bfloat16": "BF16"}[dtype]
    folder = write_family_folder(tmp_path / "model", "bert", SIZES, seed=4, dtype=stored)
    weights = tmp_path / "from_memory.bin"
    convert_model(load(folder, "bert", None, dtype)).tofile(weights)
    assert content(weights) == content(convert(folder, tmp_path / "file.bin", dtype="keep"))


def test_settings_vlt_does_not_honour_are_refused(tmp_path: Path) -> None:
    folder = write_family_folder(tmp_path / "model", "bert", SIZES, seed=4)
    model = load(folder, "bert", None)
    model.config.is_decoder = True
    with pytest.raises(ConversionError, match=r"BertModel\.config: is_decoder is true"):
        convert_model(model)


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match=r"builtins\.dict; expected a model of transformers itself"):
        convert_model({})
