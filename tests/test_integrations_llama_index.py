"""`VltEmbedding` and `VltRerank` with LlamaIndex's own index, without any network."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_goes_on import result_while_the_loop_goes_on
from tiny_model import PROMPTS

import vlt

pytest.importorskip("llama_index.core", reason="needs LlamaIndex: pip install '.[llama-index]'")

from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import ValidationError

from vlt.integrations.llama_index import VltEmbedding, VltRerank

TEXTS = ["a man is running", "the quick red machine", "", "banana", "the river under the world"]
QUERY = "what can one dog do?"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks up a host or connects to one fails the test."""

    def refuse(*arguments: Any, **options: Any) -> None:
        pytest.fail(f"something went to the network: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def embedding(tiny_weights: Path) -> VltEmbedding:
    return VltEmbedding(tiny_weights)


def bits(vectors: list[Any]) -> bytes:
    """Of lists of numbers, which all are float32."""
    array = np.array(vectors)
    assert (array == array.astype(np.float32)).all()
    return array.astype(np.float32).tobytes()


def nodes_of(texts: list[str]) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, id_=str(place)), score=0.5)
        for place, text in enumerate(texts)
    ]


# ---- Embeddings ----------------------------------------------------------------------------------


def test_vectors_are_the_encoders(embedding: VltEmbedding, tiny_encoder: vlt.Encoder) -> None:
    documents = tiny_encoder.encode([PROMPTS["document"] + text for text in TEXTS])
    query = tiny_encoder.encode(PROMPTS["query"] + QUERY)
    assert bits(embedding.get_text_embedding_batch(TEXTS)) == documents.tobytes()
    assert bits(embedding.get_text_embedding(TEXTS[0])) == documents[0].tobytes()
    assert bits(embedding.get_query_embedding(QUERY)) == query.tobytes()
    assert embedding.get_text_embedding_batch([]) == []
    embedding.embed_batch_size = 2
    assert bits(embedding.get_text_embedding_batch(TEXTS)) == documents.tobytes()
    asynchronous = asyncio.run(embedding.aget_text_embedding_batch(TEXTS))
    assert bits(asynchronous) == documents.tobytes()


def test_prompts_and_options(tiny_weights: Path) -> None:
    embedding = VltEmbedding(
        tiny_weights,
        query_prompt="red ",
        document_prompt="",
        normalize_embeddings=True,
        truncate_dim=8,
        max_length=9,
        num_threads=1,
        device="cpu",
        dtype="float32",
    )
    with vlt.Encoder(tiny_weights, max_length=9) as encoder:
        options: dict[str, Any] = {"normalize_embeddings": True, "truncate_dim": 8}
        expected = encoder.encode(["red " + QUERY, *TEXTS], **options)
    assert bits([embedding.get_query_embedding(QUERY)]) == expected[:1].tobytes()
    assert bits(embedding.get_text_embedding_batch(TEXTS)) == expected[1:].tobytes()


def test_name_of_the_model(tiny_weights: Path) -> None:
    assert VltEmbedding(tiny_weights).model_name == str(tiny_weights)
    assert VltEmbedding(tiny_weights, model_name="tiny").model_name == "tiny"


def test_wrong_settings_fail_at_once(
    tiny_weights: Path, tmp_path: Path, headed: Callable[..., Path]
) -> None:
    with pytest.raises(vlt.FileError, match="there is no"):
        VltEmbedding(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="truncate_dim"):
        VltEmbedding(tiny_weights, truncate_dim=0)
    with pytest.raises(ValidationError, match="embed_batch_size"):
        VltEmbedding(tiny_weights, embed_batch_size=0)
    with pytest.raises(vlt.UnsupportedError, match="CrossEncoder needs"):
        VltRerank(tiny_weights)
    with pytest.raises(vlt.UnsupportedError, match="one score, and this one has 3"):
        VltRerank(headed("moods"))
    with pytest.raises(ValidationError, match="top_n"):
        VltRerank(headed("rerank"), top_n=0)


def test_travels(tiny_weights: Path) -> None:
    embedding = VltEmbedding(tiny_weights, truncate_dim=8)
    content = pickle.dumps(embedding)
    assert len(content) < 5000  # without the weights
    arrived: list[BaseEmbedding] = [
        pickle.loads(content),
        embedding.model_copy(deep=True),
        VltEmbedding.from_dict(embedding.to_dict()),
        VltEmbedding.from_json(embedding.to_json()),
    ]
    expected = embedding.get_text_embedding_batch(TEXTS)
    for each in arrived:
        assert each.get_text_embedding_batch(TEXTS) == expected


def test_search_in_an_index(embedding: VltEmbedding) -> None:
    texts = [text or "water" for text in TEXTS]  # an index leaves empty nodes out
    index = VectorStoreIndex([node.node for node in nodes_of(texts)], embed_model=embedding)
    vectors = np.array(embedding.get_text_embedding_batch(texts))
    query = np.array(embedding.get_query_embedding(QUERY))
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    retriever = index.as_retriever(similarity_top_k=3)
    best = [str(place) for place in np.argsort(-cosines)[:3]]
    assert [found.node_id for found in retriever.retrieve(QUERY)] == best
    assert [found.node_id for found in asyncio.run(retriever.aretrieve(QUERY))] == best


def test_minilm_finds_the_passage(minilm_weights: Path, minilm_encoder: vlt.Encoder) -> None:
    embedding = VltEmbedding(minilm_weights)
    texts = ["A man is eating food.", "A cheetah runs behind its prey.", "The girl plays violin."]
    assert bits(embedding.get_text_embedding_batch(texts)) == minilm_encoder.encode(texts).tobytes()
    index = VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=embedding)
    found = index.as_retriever(similarity_top_k=1).retrieve("Which animal is fast?")
    assert found[0].text == texts[1]


# ---- Reranking -----------------------------------------------------------------------------------


def test_nodes_are_ranked(headed: Callable[..., Path]) -> None:
    path = headed("rerank")
    with vlt.CrossEncoder(path, max_length=20) as encoder:
        ranked = [(str(place["corpus_id"]), place["score"]) for place in encoder.rank(QUERY, TEXTS)]
    rerank, nodes = VltRerank(path, max_length=20, num_threads=1), nodes_of(TEXTS)
    found = rerank.postprocess_nodes(nodes, query_str=QUERY)
    assert [(node.node_id, node.score) for node in found] == ranked[:2]
    assert rerank.postprocess_nodes(nodes, QueryBundle(QUERY)) == found
    assert {node.score for node in nodes} == {0.5}
    everything = VltRerank(path, max_length=20, top_n=None).postprocess_nodes(nodes, None, QUERY)
    assert [(node.node_id, node.score) for node in everything] == ranked
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(ValueError, match="give query_str"):
        rerank.postprocess_nodes(nodes)


def test_metadata_is_read_too(headed: Callable[..., Path]) -> None:
    """As by LlamaIndex's own: what the embedding sees of a node, the reranker sees."""
    path = headed("rerank")
    node = TextNode(text="banana", metadata={"colour": "red"})
    found = VltRerank(path).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    with vlt.CrossEncoder(path) as encoder:
        assert found[0].score == encoder.predict([(QUERY, "colour: red\n\nbanana")])[0]


def test_reranking_is_told_to_callbacks(headed: Callable[..., Path]) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = VltRerank(headed("rerank"), callback_manager=CallbackManager([debug]))
    found = rerank.postprocess_nodes(nodes_of(TEXTS), query_str=QUERY)
    ((start, end),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert start.payload["query_str"] == QUERY
    assert end.payload["nodes"] == found


def test_reranker_travels(headed: Callable[..., Path]) -> None:
    rerank = VltRerank(headed("rerank"), top_n=3)
    expected = rerank.postprocess_nodes(nodes_of(TEXTS), query_str=QUERY)
    for twin in (pickle.loads(pickle.dumps(rerank)), VltRerank.from_dict(rerank.to_dict())):
        assert twin.postprocess_nodes(nodes_of(TEXTS), query_str=QUERY) == expected


# ---- Asynchronous --------------------------------------------------------------------------------


def test_loop_goes_on_meanwhile(
    embedding: VltEmbedding, headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rerank, nodes = VltRerank(headed("rerank")), nodes_of(TEXTS)
    expected = (
        embedding.get_query_embedding(QUERY),
        embedding.get_text_embedding(QUERY),
        embedding.get_text_embedding_batch(TEXTS),
        rerank.postprocess_nodes(nodes, query_str=QUERY),
    )
    calls = (
        lambda: embedding.aget_query_embedding(QUERY),
        lambda: embedding.aget_text_embedding(QUERY),
        lambda: embedding.aget_text_embedding_batch(TEXTS),
        lambda: rerank.apostprocess_nodes(nodes, query_str=QUERY),
    )
    for call, result in zip(calls, expected, strict=True):
        assert result_while_the_loop_goes_on(call, monkeypatch) == result
