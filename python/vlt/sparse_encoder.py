"""Texts as weights of words (SPLADE): what sentence-transformers' SparseEncoder does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import outputs, scores, sparse_vectors
from .arguments import checked
from .blocks import MOST_NUMBERS, parts_of
from .errors import InvalidArgumentError
from .progress import ProgressBar
from .sentences import list_of
from .sparse_vectors import SparseVectors
from .text_encoder import PromptedEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from .weights_source import Source

    Float32Array = NDArray[np.float32]
    Text = str | tuple[str, str]
    Weights = list[tuple[str, float]]


class SparseEncoder(PromptedEncoder):
    """Embeds texts as a weight for each word of the vocabulary, most of them zero.

    A text's result is the same to the bit whatever it is encoded together with. See
    `vlt.text_encoder.TextEncoder` for the parameters, the errors and further attributes.

    Attributes
    ----------
    similarity_fn_name : str
        How `similarity` compares: "dot", "cosine", "euclidean" or "manhattan"; "dot" where the
        weights file does not say otherwise; may be changed.

    Raises
    ------
    UnsupportedError
        The weights file has no vocabulary head that makes sparse embeddings.

    Examples
    --------
    >>> encoder = vlt.SparseEncoder("splade.bin")
    >>> query = encoder.encode_query("cheetah speed")
    >>> encoder.decode(query, top_k=2)
    [('cheetah', 2.61), ('speed', 2.27)]
    >>> encoder.similarity(query, encoder.encode_document(["A cheetah runs fast."])).shape
    (1, 1)
    """

    def __init__(
        self,
        path: Source,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        disable_graphs: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__(
            path, device, dtype, num_threads, workspace_limit, disable_graphs, max_length
        )
        outputs.require(self._info, "sparse", "SparseEncoder")
        self.similarity_fn_name = self._model.metadata.get("similarity", "dot")

    def encode(
        self,
        sentences: Text | Sequence[Text] | NDArray[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        max_active_dims: int | None = None,
        device: str | None = None,
    ) -> SparseVectors:
        """Embed texts.

        Parameters
        ----------
        sentences, prompt_name, prompt, batch_size, show_progress_bar, device
            As for `Encoder.encode`.
        max_active_dims : int, optional
            Keep at most so many numbers of each vector, the largest; of equal ones the first.

        Returns
        -------
        SparseVectors
            Of shape (V,) for a single str, (n, V) for a list, in the order of the texts.

        Raises
        ------
        TypeError, InvalidArgumentError
            A sentence that is not text, an unknown prompt.
        UnsupportedError
            The weights file has no tokenizer.
        """
        checked("batch_size", batch_size, 1)
        self._check_device(device)
        if max_active_dims is not None:
            checked("max_active_dims", max_active_dims, 1)
        texts, single = list_of(sentences)
        text, size = self._prompt(prompt_name, prompt), self.get_embedding_dimension()
        parts: list[SparseVectors] = []
        with ProgressBar(len(texts), "texts", show_progress_bar) as bar:
            for _, ids, types in self._blocks(texts, text, bar):
                for _, part, part_types in parts_of(ids, types, [size] * len(ids), MOST_NUMBERS):
                    rows = self._compute(part, "sparse", part_types)
                    parts.append(SparseVectors.from_dense(rows, max_active_dims))
        result = SparseVectors.concatenate(parts, size)
        return result[0] if single else result

    def similarity(
        self, embeddings1: SparseVectors | ArrayLike, embeddings2: SparseVectors | ArrayLike
    ) -> Float32Array:
        """n and m embeddings, sparse or dense -> [n, m] float32 by `similarity_fn_name`."""
        first, second = (sparse_of(each) for each in (embeddings1, embeddings2))
        return sparse_vectors.similarity(first, second, self.similarity_fn_name)

    def decode(
        self, embeddings: SparseVectors | ArrayLike, top_k: int | None = None
    ) -> Weights | list[Weights]:
        """The words of embeddings with their weights, the largest first.

        Parameters
        ----------
        embeddings : SparseVectors, or [V] or [n, V] array
        top_k : int, optional
            Words of each at most; all that are not zero if left out.

        Returns
        -------
        list of (str, float) for a single embedding, otherwise a list of such lists
        """
        most = self.get_embedding_dimension() if top_k is None else checked("top_k", top_k, 1)
        of = sparse_of(embeddings)
        tokenizer = self._text_tokenizer()
        results: list[Weights] = []
        for begin, end in zip(of.indptr[:-1], of.indptr[1:], strict=True):
            values, words = of.values[begin:end], of.indices[begin:end]
            order = scores.largest(values, most)
            results.append(
                [(tokenizer.token(int(words[at])), float(values[at])) for at in order.tolist()]
            )
        return results[0] if len(of.shape) == 1 else results

    def get_embedding_dimension(self) -> int:
        """V: words of the vocabulary."""
        return int(self._info["sparse_size"])

    def get_sentence_embedding_dimension(self) -> int:
        """The same as `get_embedding_dimension`."""
        return self.get_embedding_dimension()


def sparse_of(embeddings: SparseVectors | ArrayLike) -> SparseVectors:
    """Sparse vectors as they are, or those of a [V] or [n, V] array."""
    if isinstance(embeddings, SparseVectors):
        return embeddings
    dense = np.asarray(embeddings, np.float32)
    if dense.ndim not in (1, 2):
        raise InvalidArgumentError(f"embeddings must be [V] or [n, V], not of shape {dense.shape}")
    rows = SparseVectors.from_dense(np.atleast_2d(dense))
    return rows[0] if dense.ndim == 1 else rows
