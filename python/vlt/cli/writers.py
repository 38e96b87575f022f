"""Files of embeddings that grow row by row and appear whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from vlt.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

# The header is rewritten at the end, when the number of rows is known; any number fits.
NPY_HEADER_BYTES = 128


class Writer(Protocol):
    """Takes rows; closing without an exception completes the file."""

    def write(self, texts: list[str], rows: NDArray[Any]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class PartFile:
    """A file written under the name OUT.part, and renamed to OUT when it is complete."""

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise FileError(f"cannot write {path}: there is no folder {path.parent}")
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self.file: BinaryIO = self._part.open("wb")

    def finish(self, complete: bool) -> None:
        self.file.close()
        if complete:
            self._part.replace(self._path)
        else:
            self._part.unlink()


class NpyWriter:
    """A .npy file of an array [rows, columns]."""

    def __init__(self, path: Path) -> None:
        self._part = PartFile(path)
        self._rows = 0
        self._columns = 0
        self._dtype = np.dtype(np.float32)
        self._part.file.write(bytes(NPY_HEADER_BYTES))

    def write(self, texts: list[str], rows: NDArray[Any]) -> None:
        """Append rows; all of one width and dtype."""
        self._columns, self._dtype = rows.shape[1], rows.dtype
        self._rows += len(rows)
        self._part.file.write(np.ascontiguousarray(rows).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._part.file.seek(0)
            self._part.file.write(self._header())
        self._part.finish(kind is None)

    def _header(self) -> bytes:
        """Version 1.0 of numpy's format: magic, length, a Python dict padded with spaces."""
        fields = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, self._columns),
        }
        magic = np.lib.format.magic(1, 0)
        length = NPY_HEADER_BYTES - len(magic) - 2
        text = repr(fields).ljust(length - 1) + "\n"
        return magic + length.to_bytes(2, "little") + text.encode("ascii")


class LinesWriter:
    """A file of lines; "-" is standard output."""

    def __init__(self, name: str) -> None:
        self._part = None if name == "-" else PartFile(Path(name))
        self._file = self._part.file if self._part else sys.stdout.buffer

    def write_line(self, line: str) -> None:
        """Append a line."""
        self._file.write(f"{line}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part is not None:
            self._part.finish(kind is None)


class JsonLinesWriter(LinesWriter):
    """One JSON object a line: {"text": ..., "embedding": [...]}."""

    def write(self, texts: list[str], rows: NDArray[Any]) -> None:
        """Append rows; float32 with as many digits as it takes to read the same number back."""
        number = "%.9g" if rows.dtype == np.float32 else "%d"
        template = ", ".join([number] * rows.shape[1])
        for text, row in zip(texts, rows, strict=True):
            embedding = template % tuple(row.tolist())
            self.write_line(
                f'{{"text": {json.dumps(text, ensure_ascii=False)}, "embedding": [{embedding}]}}'
            )


class ObjectsWriter(LinesWriter):
    """One JSON object a line, of what texts were found to be."""

    def write(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Append results; scores are float32 and get the digits that tell them apart."""
        for result in results:
            self.write_line(json.dumps(_shortened(result), ensure_ascii=False))


def _shortened(value: Any) -> Any:
    """The value with its numbers in as few digits as read back to the same float32."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value
