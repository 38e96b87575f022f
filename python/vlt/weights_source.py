"""Where weights come from: a file, a folder that is converted in memory, or bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import FileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Source = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8]

IN_MEMORY = "weights in memory"  # instead of a path, for people


def weights_of(source: Source) -> str | NDArray[np.uint8]:
    """The path of a weights file, or the bytes of one.

    Parameters
    ----------
    source : path-like, bytes or [bytes] uint8
        A weights file, a model folder, which is converted in memory, or what a weights file holds.

    Raises
    ------
    FileError
        There is no such file or folder.
    TypeError
        An array of something else than bytes.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _content_of(source)
    path = Path(source)
    if path.is_dir():
        from .converter import convert_to_memory

        return convert_to_memory(path, dtype="keep")
    if not path.exists():
        raise FileError(
            f"there is no {path} (looked for {path.absolute()}); it should be a weights file or a "
            "Hugging Face model folder"
        )
    return str(path)


def describe(source: Source) -> str:
    """The path as it was given, or that there is none."""
    return repr(str(Path(source))) if isinstance(source, (str, os.PathLike)) else IN_MEMORY


def _content_of(source: Any) -> NDArray[np.uint8]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return np.frombuffer(source, np.uint8)
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 1:
        return np.ascontiguousarray(source)
    kind = (
        f"an array of {source.dtype} of shape {source.shape}"
        if isinstance(source, np.ndarray)
        else type(source).__name__
    )
    raise TypeError(
        f"weights must be a path, bytes, or a one-dimensional array of uint8, not {kind}"
    )
