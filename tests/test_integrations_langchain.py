"""`VltEmbeddings` and `VltReranker` with LangChain's own stores and tests."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_goes_on import result_while_the_loop_goes_on
from tiny_model import PROMPTS

import vlt

pytest.importorskip("langchain_core", reason="needs langchain-core: pip install '.[langchain]'")

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from vlt.integrations.langchain import VltEmbeddings, VltReranker

TEXTS = ["a man is running", "the quick red machine", "", "banana", "the river under the world"]
QUERY = "what can one dog do?"


@pytest.fixture(scope="module")
def embeddings(tiny_weights: Path) -> VltEmbeddings:
    return VltEmbeddings(tiny_weights)


def bits(vectors: list[Any]) -> bytes:
    """Of lists of numbers, which all are float32."""
    array = np.array(vectors)
    assert (array == array.astype(np.float32)).all()
    return array.astype(np.float32).tobytes()


# ---- Embeddings ----------------------------------------------------------------------------------


def test_vectors_are_the_encoders(embeddings: VltEmbeddings, tiny_encoder: vlt.Encoder) -> None:
    documents, query = embeddings.embed_documents(TEXTS), embeddings.embed_query(QUERY)
    assert isinstance(documents[0][0], float)
    assert (
        bits(documents) == tiny_encoder.encode([PROMPTS["document"] + t for t in TEXTS]).tobytes()
    )
    assert bits(query) == tiny_encoder.encode(PROMPTS["query"] + QUERY).tobytes()
    assert embeddings.embed_documents([]) == []


def test_prompts_and_options(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    embeddings = VltEmbeddings(
        tiny_weights,
        query_prompt="red ",
        document_prompt="",
        normalize_embeddings=True,
        truncate_dim=8,
        max_length=9,
        num_threads=1,
        device="cpu",
        dtype="float32",
        show_progress_bar=False,
    )
    with vlt.Encoder(tiny_weights, max_length=9) as encoder:
        options: dict[str, Any] = {"normalize_embeddings": True, "truncate_dim": 8}
        expected = encoder.encode(["red " + QUERY, *TEXTS], **options)
    assert bits([embeddings.embed_query(QUERY)]) == expected[:1].tobytes()
    assert bits(embeddings.embed_documents(TEXTS)) == expected[1:].tobytes()


def test_wrong_settings_fail_at_once(
    tiny_weights: Path, tmp_path: Path, headed: Callable[..., Path]
) -> None:
    with pytest.raises(vlt.FileError, match="there is no"):
        VltEmbeddings(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="truncate_dim"):
        VltEmbeddings(tiny_weights, truncate_dim=0)
    with pytest.raises(vlt.UnsupportedError, match="CrossEncoder needs"):
        VltReranker(tiny_weights)
    with pytest.raises(vlt.UnsupportedError, match="one score, and this one has 3"):
        VltReranker(headed("moods"))
    for wrong in (0, "many"):
        with pytest.raises(ValidationError, match="top_n"):
            VltReranker(headed("rerank"), top_n=wrong)


def test_pickles(embeddings: VltEmbeddings) -> None:
    content = pickle.dumps(embeddings)
    assert len(content) < 1000
    arrived = pickle.loads(content)
    assert bits(arrived.embed_documents(TEXTS)) == bits(embeddings.embed_documents(TEXTS))
    assert repr(arrived) == repr(embeddings)
    assert "tiny.bin" in repr(arrived)


def test_search_in_a_store(embeddings: VltEmbeddings) -> None:
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    vectors = np.array(embeddings.embed_documents(TEXTS))
    query = np.array(embeddings.embed_query(QUERY))
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
    found = [document.page_content for document in store.similarity_search(QUERY, k=3)]
    assert found == [TEXTS[place] for place in np.argsort(-cosines)[:3]]


def test_minilm_finds_the_passage(minilm_weights: Path, minilm_encoder: vlt.Encoder) -> None:
    embeddings = VltEmbeddings(minilm_weights)
    texts = ["A man is eating food.", "A cheetah runs behind its prey.", "The girl plays violin."]
    assert bits(embeddings.embed_documents(texts)) == minilm_encoder.encode(texts).tobytes()
    store = InMemoryVectorStore.from_texts(texts, embeddings)
    found = store.as_retriever(search_kwargs={"k": 1}).invoke("Which animal is fast?")
    assert found[0].page_content == texts[1]


# ---- Reranking -----------------------------------------------------------------------------------


def test_documents_are_ranked(headed: Callable[..., Path]) -> None:
    documents = [
        Document(text, id=str(place), metadata={"place": place}) for place, text in enumerate(TEXTS)
    ]
    path = headed("rerank")
    reranker = VltReranker(path, max_length=20, num_threads=1)
    with vlt.CrossEncoder(path, max_length=20) as encoder:
        ranked = encoder.rank(QUERY, TEXTS)
    found = reranker.compress_documents(documents, QUERY)
    assert [document.page_content for document in found] == [
        TEXTS[place["corpus_id"]] for place in ranked[:3]
    ]
    assert [document.id for document in found] == [str(place["corpus_id"]) for place in ranked[:3]]
    assert [document.metadata for document in found] == [
        {"place": place["corpus_id"], "relevance_score": place["score"]} for place in ranked[:3]
    ]
    assert all("relevance_score" not in document.metadata for document in documents)
    everything = VltReranker(path, top_n=None).compress_documents(documents, QUERY)
    assert len(everything) == len(TEXTS)
    assert reranker.compress_documents([], QUERY) == []


def test_reranker_pickles_and_is_copied(headed: Callable[..., Path]) -> None:
    documents = [Document(text) for text in TEXTS]
    reranker = VltReranker(headed("rerank"), top_n=2)
    expected = reranker.compress_documents(documents, QUERY)
    for twin in (pickle.loads(pickle.dumps(reranker)), reranker.model_copy(deep=True)):
        assert twin.compress_documents(documents, QUERY) == expected


# ---- Asynchronous --------------------------------------------------------------------------------


def test_loop_goes_on_meanwhile(
    embeddings: VltEmbeddings, headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker, documents = VltReranker(headed("rerank")), [Document(text) for text in TEXTS]
    expected = (
        embeddings.embed_query(QUERY),
        embeddings.embed_documents(TEXTS),
        reranker.compress_documents(documents, QUERY),
    )
    calls = (
        lambda: embeddings.aembed_query(QUERY),
        lambda: embeddings.aembed_documents(TEXTS),
        lambda: reranker.acompress_documents(documents, QUERY),
    )
    for call, result in zip(calls, expected, strict=True):
        assert result_while_the_loop_goes_on(call, monkeypatch) == result
