"""Encoders inside objects that are copied, pickled and sent to other processes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vlt.cross_encoder import CrossEncoder
from vlt.text_encoder import TextEncoder

if TYPE_CHECKING:
    from typing_extensions import Self

    from vlt.weights_source import Source

    Settings = tuple[Any, Source, dict[str, Any]]

E = TypeVar("E", bound=TextEncoder)


class Portable(Generic[E]):
    """An encoder that may be pickled: its settings travel, and it is opened where it arrives.

    A handle of the library means nothing in another process. What arrives there opens the weights
    when they are first needed: from the path as it was given, or from the bytes, which travel too.

    Parameters
    ----------
    kind : type
        The class of the encoder.
    path : path-like, bytes or [bytes] uint8
        As for `kind`.
    **options
        As for `kind`.

    Raises
    ------
    VltError
        As `kind` does: the first encoder is opened here, so that wrong settings fail at once.
    """

    _kind: type[E]
    _path: Source
    _options: dict[str, Any]
    _encoder: E | None

    def __init__(self, kind: type[E], path: Source, **options: Any) -> None:
        self.__setstate__((kind, path, options))
        self.open()

    def open(self) -> E:
        """The encoder, which stays open for the next call. From any thread."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._kind(self._path, **self._options)
            return self._encoder

    def __getstate__(self) -> Settings:
        return self._kind, self._path, self._options

    def __setstate__(self, state: Settings) -> None:
        self._kind, self._path, self._options = state
        self._lock = threading.Lock()
        self._encoder = None

    def __copy__(self) -> Self:
        """A copy in the same process shares the encoder, which any number of callers may use."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def options_of(holder: object) -> dict[str, Any]:
    """What an object that holds an encoder passes on to it: its attributes of these names."""
    names = ("device", "dtype", "num_threads", "max_length")
    return {name: getattr(holder, name) for name in names}


def open_reranker(path: str, options: dict[str, Any]) -> Portable[CrossEncoder]:
    """A cross-encoder; a model that does not give one score is refused here."""
    reranker = Portable(CrossEncoder, path, **options)
    reranker.open().rank("", [])
    return reranker
