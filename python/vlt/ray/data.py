"""Embeddings of a corpus with Ray Data: a column of texts or token ids -> a column of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vlt import vectors
from vlt.arguments import checked
from vlt.encoder import Encoder
from vlt.errors import InvalidArgumentError, UnsupportedError

from .placement import place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vlt.weights_source import Source

    Batch = dict[str, NDArray[Any]]

MOST_SHOWN = 200  # characters of a row that an error shows


class ColumnEncoder:
    """A callable class for `Dataset.map_batches`: each actor loads the model once.

    Parameters
    ----------
    path : path-like, bytes or [bytes] uint8
        A weights file or a model folder that every machine of the cluster can read, or what a
        weights file holds; see `vlt.Encoder`.
    column : str
        The column to read: texts, or lists of token ids, which are whole inputs with their special
        tokens, and are given no prompt.
    output_column : str
        The column to add, or to put in the place of one.
    prompt_name, prompt, normalize_embeddings, truncate_dim
        As for `Encoder.encode`.
    device, dtype, num_threads, workspace_limit, max_length
        As for `vlt.Encoder`; if left out, device and threads are those that Ray has given the
        actor (`num_gpus=` and `num_cpus=` of `map_batches`).

    Raises
    ------
    VltError
        The weights cannot be opened or make no embeddings, or an option is wrong.

    Examples
    --------
    >>> dataset.map_batches(
    ...     ColumnEncoder,
    ...     fn_constructor_kwargs={"path": "weights.bin", "column": "text"},
    ...     batch_size=512,
    ...     concurrency=4,
    ...     num_cpus=2,
    ... ).write_parquet("vectors/")
    """

    def __init__(
        self,
        path: Source,
        column: str = "text",
        output_column: str = "embedding",
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        max_length: int | None = None,
    ) -> None:
        device, num_threads = place(device, num_threads)
        self._encoder = Encoder(
            path, device, dtype, num_threads, workspace_limit, max_length=max_length
        )
        if "embedding" not in self._encoder.outputs:
            raise UnsupportedError(
                f"the model makes no embeddings; it gives {', '.join(self._encoder.outputs)}"
            )
        self._column = column
        self._output_column = output_column
        self._size = self._encoder.embedding_size
        if truncate_dim is not None:
            self._size = min(self._size, checked("truncate_dim", truncate_dim, 1))
        self._normalize = normalize_embeddings
        self._prompt = self._encoder._prompt(prompt_name, prompt)

    def __call__(self, batch: Batch) -> Batch:
        """A batch in Ray's format "numpy" -> the same with a column of [n, D] float32 vectors.

        Raises
        ------
        InvalidArgumentError, TypeError
            The column is missing, or a row that the message names and shows is neither text nor
            token ids, or is not what the model takes.
        """
        if not isinstance(batch, dict):
            raise TypeError(
                f"map_batches must have batch_format='numpy', not give {type(batch).__name__}"
            )
        if self._column not in batch:
            known = ", ".join(map(repr, batch)) or "none"
            raise InvalidArgumentError(f"there is no column {self._column!r}; there are: {known}")
        items = list(batch[self._column])
        texts = any(isinstance(item, str) for item in items)
        try:
            found = self._encode(items, texts)
        except (InvalidArgumentError, TypeError):
            self._blame(batch, items, texts)
            raise
        return {**batch, self._output_column: found}

    def _encode(self, items: list[Any], texts: bool) -> NDArray[np.float32]:
        """[n, D] for texts or token ids."""
        if texts:
            full = self._encoder.encode(items, prompt=self._prompt, show_progress_bar=False)
        else:
            full = self._encoder.run(items, output="embedding")
        kept = full[:, : self._size]
        return vectors.normalize(kept) if self._normalize else np.ascontiguousarray(kept)

    def _blame(self, batch: Batch, items: list[Any], texts: bool) -> None:
        """Raise an error that names the first row that fails by itself, if any does."""
        for index, item in enumerate(items):
            try:
                self._encode([item], texts)
            except (InvalidArgumentError, TypeError) as error:
                row = {name: values[index] for name, values in batch.items()}
                shown = str(row)
                if len(shown) > MOST_SHOWN:
                    shown = shown[:MOST_SHOWN] + "…"
                raise type(error)(
                    f"row {index} of a batch of {len(items)}, column {self._column!r}: {error}; "
                    f"the row is {shown}"
                ) from None
