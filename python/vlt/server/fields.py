"""A request's JSON, read field by field; whatever is wrong is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from .failures import EMPTY, MALFORMED, VALIDATION, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlt.serving.preparing import Item

    Text = str | tuple[str, str]

Choice = TypeVar("Choice", bound=str)


class Fields:
    """The fields of a JSON object. One that is null counts as left out; unknown ones are ignored.

    Every method raises a RequestError for a value that it is not for.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    @classmethod
    def parse(cls, body: bytes) -> Fields:
        """Of a request's body."""
        try:
            values = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(MALFORMED, f"the body is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise RequestError(VALIDATION, f"the body must be a JSON object, not {shown(values)}")
        return cls(values)

    def has(self, name: str) -> bool:
        """Is it there?"""
        return self._values.get(name) is not None

    def required(self, name: str) -> Any:
        """Any value but null."""
        value = self._values.get(name)
        if value is None:
            raise RequestError(VALIDATION, f"the field `{name}` is missing")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        if default is not None and self._values.get(name) is None:
            return default
        return _string(self.required(name), name)

    def optional_text(self, name: str) -> str | None:
        """A string, or None where it is left out."""
        return None if self._values.get(name) is None else self.text(name)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise RequestError(VALIDATION, f"`{name}` must be true or false, not {shown(value)}")
        return value

    def choice(self, name: str, choices: Sequence[Choice]) -> Choice | None:
        """One of several words, in any case of letters; None where it is left out."""
        text = self.optional_text(name)
        for choice in choices:
            if text is not None and text.lower() == choice.lower():
                return choice
        if text is None:
            return None
        known = " or ".join(f'"{choice}"' for choice in choices)
        raise RequestError(VALIDATION, f"`{name}` must be {known}, not {shown(text)}")

    def integer(self, name: str, low: int, high: int) -> int | None:
        """An integer within bounds; None where it is left out."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise RequestError(
                VALIDATION, f"`{name}` must be an integer, {low} ... {high}, not {shown(value)}"
            )
        return value

    def nested(self, name: str) -> Fields:
        """The fields of an object."""
        value = self.required(name)
        if not isinstance(value, dict):
            raise RequestError(VALIDATION, f"`{name}` must be an object, not {shown(value)}")
        return Fields(value)

    def optional_nested(self, name: str) -> Fields:
        """The same; none where it is left out."""
        return Fields({}) if self._values.get(name) is None else self.nested(name)

    def filled_list(self, name: str) -> list[Any]:
        """A list of anything, one at least."""
        return _filled_list(self.required(name), name)

    def texts(self, name: str) -> list[str]:
        """A list of strings, one at least."""
        value = self.filled_list(name)
        return [_string(text, f"{name}[{index}]") for index, text in enumerate(value)]

    def text_or_texts(self, name: str) -> list[str]:
        """A string or a list of them, none of them empty."""
        value = self.required(name)
        texts = [value] if isinstance(value, str) else self.texts(name)
        for index, text in enumerate(texts):
            require_filled(text, f"{name}[{index}]")
        return texts

    def inputs(self, name: str) -> tuple[list[Item], bool]:
        """Texts or token ids: a string, ids, or a list of either; was it a list?"""
        value = self.required(name)
        if isinstance(value, str):
            require_filled(value, name)
            return [value], False
        items = _filled_list(value, name)
        if isinstance(items[0], int):
            return [_ids(items, name)], False
        return [_item(item, f"{name}[{index}]") for index, item in enumerate(items)], True

    def id_lists(self, name: str) -> list[list[int]]:
        """Token ids: a list of integers, or a list of such lists."""
        items = self.filled_list(name)
        if isinstance(items[0], list):
            return [_ids(item, f"{name}[{index}]") for index, item in enumerate(items)]
        return [_ids(items, name)]

    def pairs(self, name: str) -> tuple[list[Text], bool]:
        """Texts or pairs, and was it a batch? "a", ["a", "b"] (a pair), [["a"], ["b", "c"]]."""
        value = self.required(name)
        if isinstance(value, str) or (isinstance(value, list) and _begins_with_text(value)):
            return [_text_or_pair(value, name)], False
        items = _filled_list(value, name)
        return [_text_or_pair(item, f"{name}[{index}]") for index, item in enumerate(items)], True


def require_filled(value: str, name: str) -> None:
    """Refuse a text of no characters."""
    if not value:
        raise RequestError(EMPTY, f"`{name}` cannot be empty")


def shown(value: Any) -> str:
    """A value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _filled_list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(VALIDATION, f"`{name}` must be a list, not {shown(value)}")
    if not value:
        raise RequestError(EMPTY, f"`{name}` cannot be empty")
    return value


def _begins_with_text(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], str)


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RequestError(VALIDATION, f"`{name}` must be a string, not {shown(value)}")
    return value


def _item(value: Any, name: str) -> Item:
    if isinstance(value, str):
        require_filled(value, name)
        return value
    return _ids(_filled_list(value, name), name)


def _ids(value: Any, name: str) -> list[int]:
    for each in _filled_list(value, name):
        if type(each) is not int:
            raise RequestError(VALIDATION, f"`{name}` must hold token ids, not {shown(each)}")
    ids: list[int] = value
    return ids


def _text_or_pair(value: Any, name: str) -> Text:
    parts = [value] if isinstance(value, str) else _filled_list(value, name)
    texts = [_string(part, name) for part in parts]
    if len(texts) > 2:
        raise RequestError(
            VALIDATION, f"`{name}` must be a text or a pair of them, not {len(texts)} texts"
        )
    if not any(texts):
        raise RequestError(EMPTY, f"`{name}` cannot be empty")
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])
