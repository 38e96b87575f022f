"""Stands in for a library that knows no heads: they are computed in numpy after its states.

Where the library loads a weights file with heads, nothing is replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headed_models import HEAD_KEYS, apply_head, sparse_rows

import vlt
from vlt import _native
from vlt.packed_array import PackedArray
from vlt.safetensors_file import SafetensorsFile
from vlt.safetensors_writer import SafetensorsWriter, StoredTensor

HEAD_METADATA = (*HEAD_KEYS, "problem", "sparse", "mask_token", "label.")


def knows_heads(path: Path) -> bool:
    """Does the library load this file?"""
    try:
        _native.model_load(str(path), (_native.DEVICES["cpu"], 0), 0)
    except vlt.FileError:
        return False
    return True


class FakeHeads:
    """In place from construction until the monkeypatch is undone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._paths: dict[int, Path] = {}  # handle of a model or a session -> its weights file
        names = ("model_load", "model_info", "model_metadata", "session_create", "run")
        self._real: dict[str, Any] = {name: getattr(_native, name) for name in names}
        for name in names:
            monkeypatch.setattr(_native, name, getattr(self, name))

    def model_load(self, source: Any, *rest: Any) -> Any:
        if not isinstance(source, str):
            model = self._real["model_load"](source, *rest)
            self._paths.pop(model.value, None)  # handles are addresses, and come again
            return model
        path = Path(source)
        file = SafetensorsFile(path)
        kept = {
            name: StoredTensor(tensor.dtype, tensor.shape, (tensor,))
            for name, tensor in file.items()
            if not name.startswith((*HEAD_KEYS, "_pad."))
        }
        metadata = {k: v for k, v in file.metadata.items() if not k.startswith(HEAD_METADATA)}
        plain = path.with_suffix(".plain")
        SafetensorsWriter(kept, metadata).save(plain)
        model = self._real["model_load"](str(plain), *rest)
        self._paths[model.value] = path
        return model

    def model_info(self, model: Any) -> dict[str, Any]:
        info: dict[str, Any] = self._real["model_info"](model)
        path = self._paths.get(model.value)
        if path is None:
            return info
        file = SafetensorsFile(path)
        for key, field in (("sequence_head", "num_labels"), ("token_head", "num_token_labels")):
            weights = [name for name in file if name.startswith(key) and name.endswith("weight")]
            if key in file.metadata:
                info[field] = file[max(weights)].shape[0]
        if "vocabulary_head" in file.metadata:
            info["vocabulary_outputs"] = info["vocab_size"]
        if "sparse" in file.metadata:
            info["sparse_size"] = info["vocab_size"]
        return info

    def model_metadata(self, model: Any) -> dict[str, str]:
        path = self._paths.get(model.value)
        real: dict[str, str] = self._real["model_metadata"](model)
        return real if path is None else SafetensorsFile(path).metadata

    def session_create(self, model: Any, *rest: Any) -> Any:
        session = self._real["session_create"](model, *rest)
        self._paths.pop(session.value, None)
        if model.value in self._paths:
            self._paths[session.value] = self._paths[model.value]
        return session

    def run(
        self,
        session: Any,
        ids: Any,
        starts: Any,
        types: Any,
        pooling: Any,
        kind: int,
        out: Any,
        dtype: str = "float32",
        stream: int | None = None,
        chosen: Any = None,
    ) -> None:
        run, names = self._real["run"], {value: name for name, value in _native.OUTPUTS.items()}
        if names[kind] in ("hidden", "embedding"):
            run(session, ids, starts, types, pooling, kind, out, dtype, stream)
            return
        width = SafetensorsFile(self._paths[session.value])["embeddings.word"].shape[1]
        values = np.empty((len(ids), width), np.float32)
        run(session, ids, starts, types, None, _native.OUTPUTS["hidden"], values)
        states = PackedArray(values, starts)
        key = {"logits": "sequence_head", "token_logits": "token_head"}.get(
            names[kind], "vocabulary_head"
        )
        result = apply_head(self._paths[session.value], key, states)
        if names[kind] == "sparse":
            result = sparse_rows(result, states)
        out[...] = result if chosen is None else result[chosen]
