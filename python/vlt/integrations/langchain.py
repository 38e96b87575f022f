"""Embeddings and reranking for LangChain."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vlt.encoder import Encoder

from .absent import absent
from .portable import Portable, open_reranker, options_of

try:
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings
    from pydantic import Field, PrivateAttr
except ImportError as error:
    raise absent(__name__, "langchain-core", "langchain", error) from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.callbacks import Callbacks

    from vlt.weights_source import Source


class VltEmbeddings(Embeddings):  # type: ignore[misc]
    """Embeds queries and documents with `vlt.Encoder`.

    May be used from many threads and pickled. The asynchronous methods run in a thread of the
    loop's executor, and the loop goes on meanwhile.

    Parameters
    ----------
    path : path-like, bytes or [bytes] uint8
        A weights file, a model folder, or what a weights file holds; see `vlt.Encoder`.
    query_prompt, document_prompt : str, optional
        What to put before queries and before documents. If left out: what the model has for them,
        see `Encoder.encode_query` and `Encoder.encode_document`.
    normalize_embeddings : bool
        Scale the vectors to length 1.
    truncate_dim : int, optional
        Keep only this many leading dimensions.
    show_progress_bar : bool, optional
        If left out: only on a terminal, and only for work of more than a second.
    device, dtype, num_threads, max_length
        As for `vlt.Encoder`.

    Raises
    ------
    VltError
        The weights cannot be opened or make no embeddings, or an option is wrong.

    Examples
    --------
    >>> store = InMemoryVectorStore(VltEmbeddings("weights.bin"))
    >>> store.add_texts(["A man is eating food.", "A cheetah runs."])
    >>> store.similarity_search("fast animals", k=1)[0].page_content
    'A cheetah runs.'
    """

    def __init__(
        self,
        path: Source,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        max_length: int | None = None,
    ) -> None:
        self._encoder = Portable(
            Encoder,
            path,
            device=device,
            dtype=dtype,
            num_threads=num_threads,
            max_length=max_length,
        )
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._options: dict[str, Any] = {
            "normalize_embeddings": normalize_embeddings,
            "truncate_dim": truncate_dim,
            "show_progress_bar": show_progress_bar,
        }
        self.embed_documents([])  # what is wrong with the model or the options fails here

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """n documents -> n lists of D numbers, those of `Encoder.encode_document`."""
        encoder = self._encoder.open()
        prompt = self._prompts["document"]
        return encoder.encode_document(list(texts), prompt=prompt, **self._options).tolist()

    def embed_query(self, text: str) -> list[float]:
        """One query -> D numbers, those of `Encoder.encode_query`."""
        encoder = self._encoder.open()
        return encoder.encode_query(text, prompt=self._prompts["query"], **self._options).tolist()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._encoder.open()!r})"


class VltReranker(BaseDocumentCompressor):  # type: ignore[misc]
    """Keeps the documents that answer a query best, by the scores of `vlt.CrossEncoder`.

    May be used from many threads and pickled; `acompress_documents` runs in a thread of the loop's
    executor.

    Parameters
    ----------
    path : path-like
        A weights file or a model folder, with one score for a pair.
    top_n : int, optional
        Documents to keep, the best; None keeps all of them, in order.
    device, dtype, num_threads, max_length
        As for `vlt.CrossEncoder`.

    Raises
    ------
    VltError
        The weights cannot be opened, or do not give one score.
    ValidationError
        `top_n` is less than 1, or an option has the wrong type.

    Examples
    --------
    >>> reranker = VltReranker("reranker.bin", top_n=1)
    >>> reranker.compress_documents(documents, "How fast is a cheetah?")
    [Document(metadata={'relevance_score': 0.97}, page_content='A cheetah runs at 104 km/h.')]
    """

    path: str
    top_n: int | None = Field(default=3, gt=0)
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int | None = None
    max_length: int | None = None

    _encoder: Any = PrivateAttr()

    def __init__(self, path: str | os.PathLike[str], **fields: Any) -> None:
        super().__init__(path=os.fspath(path), **fields)
        self._encoder = open_reranker(self.path, options_of(self))

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents for a query, the best first.

        Parameters
        ----------
        documents : list of Document
            Left as they are.
        query : str
        callbacks
            Ignored: nothing in here calls back.

        Returns
        -------
        list of Document
            Copies, with their score, as `CrossEncoder.rank` gives it, in the metadata
            "relevance_score".
        """
        texts = [document.page_content for document in documents]
        ranked = self._encoder.open().rank(query, texts, self.top_n)
        return [_with_score(documents[place["corpus_id"]], place["score"]) for place in ranked]


def _with_score(document: Document, score: float) -> Document:
    metadata = {**document.metadata, "relevance_score": score}
    return document.model_copy(update={"metadata": metadata})
