"""Embeddings and reranking for LlamaIndex."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from vlt.encoder import Encoder

from .absent import absent
from .portable import Portable, open_reranker, options_of

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise absent(__name__, "llama-index-core", "llama-index", error) from error

# LlamaIndex hands over this many texts at once; it allows no more. vlt divides them as suits it.
MOST_TEXTS = 2048


class VltEmbedding(BaseEmbedding):  # type: ignore[misc]
    """Embeds queries and nodes with `vlt.Encoder`.

    May be used from many threads and pickled, and goes through `to_dict` and `from_dict`. The
    asynchronous methods run in a thread of their own, and the loop goes on meanwhile.

    Parameters
    ----------
    path : path-like
        A weights file or a model folder; see `vlt.Encoder`.
    query_prompt, document_prompt : str, optional
        What to put before queries and before nodes. If left out: what the model has for them, see
        `Encoder.encode_query` and `Encoder.encode_document`.
    normalize_embeddings : bool
        Scale the vectors to length 1.
    truncate_dim : int, optional
        Keep only this many leading dimensions.
    device, dtype, num_threads, max_length
        As for `vlt.Encoder`.
    **fields
        Those of `BaseEmbedding`: `model_name` (the path if left out), `embed_batch_size`, …

    Raises
    ------
    VltError
        The weights cannot be opened or make no embeddings, or an option is wrong.
    ValidationError
        An option has the wrong type.

    Examples
    --------
    >>> index = VectorStoreIndex(nodes, embed_model=VltEmbedding("weights.bin"))
    >>> index.as_retriever(similarity_top_k=1).retrieve("fast animals")[0].text
    'A cheetah runs.'
    """

    path: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int | None = None
    max_length: int | None = None
    embed_batch_size: int = Field(default=MOST_TEXTS, gt=0, le=MOST_TEXTS)

    _encoder: Any = PrivateAttr()

    def __init__(self, path: str | os.PathLike[str], **fields: Any) -> None:
        name = os.fspath(path)
        super().__init__(path=name, **{"model_name": name, **fields})
        self._encoder = Portable(Encoder, self.path, **options_of(self))
        self._get_text_embeddings([])  # what is wrong with the model or the options fails here

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's own serialisation."""
        return "VltEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector = self._encoder.open().encode_query(query, prompt=self.query_prompt, **self._options)
        return vector.tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors = self._encoder.open().encode_document(
            texts, prompt=self.document_prompt, **self._options
        )
        return vectors.tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    @property
    def _options(self) -> dict[str, Any]:
        """Of `Encoder.encode`; LlamaIndex shows progress itself."""
        return {
            "normalize_embeddings": self.normalize_embeddings,
            "truncate_dim": self.truncate_dim,
            "show_progress_bar": False,
        }


class VltRerank(BaseNodePostprocessor):  # type: ignore[misc]
    """Keeps the nodes that answer a query best, by the scores of `vlt.CrossEncoder`.

    May be used from many threads and pickled; `apostprocess_nodes` runs in a thread of its own.

    Parameters
    ----------
    path : path-like
        A weights file or a model folder, with one score for a pair.
    top_n : int, optional
        Nodes to keep, the best; None keeps all of them, in order.
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
    >>> engine = index.as_query_engine(node_postprocessors=[VltRerank("reranker.bin", top_n=3)])
    """

    path: str
    top_n: int | None = Field(default=2, gt=0)
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int | None = None
    max_length: int | None = None

    _encoder: Any = PrivateAttr()

    def __init__(self, path: str | os.PathLike[str], **fields: Any) -> None:
        super().__init__(path=os.fspath(path), **fields)
        self._encoder = open_reranker(self.path, options_of(self))

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's own serialisation."""
        return "VltRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """Nodes that were given keep the scores that they have; new ones have the new scores."""
        if query_bundle is None:
            raise ValueError("reranking needs the query: give query_str or query_bundle")
        query = query_bundle.query_str
        payload = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.path,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            texts = [each.node.get_content(metadata_mode=MetadataMode.EMBED) for each in nodes]
            ranked = self._encoder.open().rank(query, texts, self.top_n, show_progress_bar=False)
            best = [
                NodeWithScore(node=nodes[place["corpus_id"]].node, score=place["score"])
                for place in ranked
            ]
            event.on_end(payload={EventPayload.NODES: best})
        return best
