"""JSON objects of a model folder, read field by field with errors that name file and field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .errors import ConversionError

_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


def load_json(path: Path) -> Any:
    """The value in a JSON file, or a `ConversionError` that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} cannot be read as JSON: {error}") from error


class JsonConfig:
    """One JSON object. A field that is ``null`` counts as absent.

    Parameters
    ----------
    path : pathlib.Path
        Where the object comes from, for messages.
    fields : object
        The parsed JSON; anything but an object is an error.
    """

    def __init__(self, path: Path, fields: object) -> None:
        if not isinstance(fields, dict):
            raise ConversionError(f"{path} holds {_shown(fields)}, expected a JSON object")
        self.path = path
        self.fields: dict[str, Any] = fields

    @classmethod
    def load(cls, path: Path) -> JsonConfig:
        return cls(path, load_json(path))

    @classmethod
    def load_if_present(cls, path: Path) -> JsonConfig:
        """Like `load`; an empty object where the file does not exist."""
        return cls.load(path) if path.exists() else cls(path, {})

    def has(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def integer(self, key: str, *, minimum: int, default: int | None = None) -> int:
        value = self._get(key, default)
        if type(value) is not int or value < minimum:
            self.refuse(key, f"an integer, at least {minimum}")
        return value

    def positive_number(self, key: str, *, default: float | None = None) -> float:
        value = self._get(key, default)
        in_range = type(value) in (int, float) and _SMALLEST <= value <= _LARGEST
        if not in_range:  # NaN is not, either
            self.refuse(key, "a number above 0 that float32 can hold")
        return float(value)

    def text(self, key: str, *, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            self.refuse(key, "a string")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def only(self, key: str, allowed: object, *, reason: str) -> None:
        """Refuse a field that is present with another value than `allowed`."""
        if self.has(key) and self.fields[key] != allowed:
            self.refuse(key, f"{_shown(allowed)}: {reason}")

    def no_other_keys(self, known: Iterable[str]) -> None:
        """Refuse fields whose meaning is not known: they may change the result."""
        unknown = sorted(key for key in set(self.fields) - set(known) if self.has(key))
        if unknown:
            self.refuse(unknown[0], "no such field: vlt does not know what it does")

    def refuse(self, key: str, expected: str) -> NoReturn:
        raise ConversionError(
            f"{self.path}: {key} is {_shown(self.fields.get(key))}, expected {expected}"
        )

    def _get(self, key: str, default: Any) -> Any:
        if self.has(key):
            return self.fields[key]
        if default is None:
            raise ConversionError(f"{self.path} lacks the field {key}")
        return default


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."
