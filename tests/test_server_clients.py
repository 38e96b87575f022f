"""Clients as they are published, unmodified, against the server."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")

from http_server import RunningServer, bits, running

TEXTS = ["a man is running", "the quick red machine", "banana", "the river under the world"]
KEY = "geheim"


@pytest.fixture(scope="module")
def server(tiny_encoder: vlt.Encoder) -> Iterator[RunningServer]:
    with running(tiny_encoder, {"model_name": "tiny", "api_key": KEY}) as server:
        yield server


@pytest.fixture(scope="module")
def expected(tiny_encoder: vlt.Encoder) -> bytes:
    vectors: bytes = tiny_encoder.encode(TEXTS, normalize_embeddings=True).tobytes()
    return vectors


# ---- OpenAI's ------------------------------------------------------------------------------------


@pytest.fixture
def openai_client(server: RunningServer) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_openai_embeddings(openai_client: Any, expected: bytes, options: dict[str, str]) -> None:
    """Its own choice, if none is asked for, is base64."""
    found = openai_client.embeddings.create(model="tiny", input=TEXTS, **options)
    assert bits([each.embedding for each in found.data]) == expected
    assert [each.index for each in found.data] == [0, 1, 2, 3]
    assert found.model == "tiny"
    assert found.usage.prompt_tokens == found.usage.total_tokens > 4


def test_openai_takes_ids_and_dimensions(openai_client: Any, tiny_encoder: vlt.Encoder) -> None:
    ids = tiny_encoder.tokenize(TEXTS)
    found = openai_client.embeddings.create(model="tiny", input=ids, dimensions=6)
    right = tiny_encoder.encode(TEXTS, normalize_embeddings=True, truncate_dim=6)
    assert bits([each.embedding for each in found.data]) == right.tobytes()


def test_openai_models_and_errors(openai_client: Any, server: RunningServer) -> None:
    import openai

    assert [model.id for model in openai_client.models.list()] == ["tiny"]
    assert openai_client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("large")
    with pytest.raises(openai.BadRequestError, match="cannot be empty"):
        openai_client.embeddings.create(model="tiny", input="")
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="other", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.embeddings.create(model="tiny", input="a")


def test_openai_waits_and_comes_again(
    tiny_encoder: vlt.Encoder, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 429 it does so by itself."""
    openai = pytest.importorskip("openai")
    from vlt.server.gate import Gate

    calls: list[int] = []
    work = Gate.work

    def refuse_first(self: Gate) -> Any:
        calls.append(self.working)
        if len(calls) == 1:
            monkeypatch.setattr(self, "_max_working", 0)
        else:
            monkeypatch.undo()
        return work(self)

    monkeypatch.setattr(Gate, "work", refuse_first)
    with (
        running(tiny_encoder) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=1) as client,
    ):
        found = client.embeddings.create(model="tiny", input=TEXTS)
    assert bits([each.embedding for each in found.data]) == expected
    assert len(calls) == 2


def test_langchains_openai_embeddings(server: RunningServer, expected: bytes) -> None:
    langchain_openai = pytest.importorskip("langchain_openai")
    # Without check_embedding_ctx_length=False it sends token ids of OpenAI's own models.
    embeddings = langchain_openai.OpenAIEmbeddings(
        model="tiny", base_url=f"{server.url}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    assert bits(embeddings.embed_documents(TEXTS)) == expected
    assert bits(embeddings.embed_query(TEXTS[0])) == expected[: len(expected) // 4]


def test_llama_indexes_openai_like_embeddings(
    server: RunningServer, expected: bytes, tiny_encoder: vlt.Encoder
) -> None:
    package = pytest.importorskip("llama_index.embeddings.openai_like")
    embeddings = package.OpenAILikeEmbedding(
        model_name="tiny", api_base=f"{server.url}/v1", api_key=KEY, embed_batch_size=3
    )
    assert bits(embeddings.get_text_embedding_batch(TEXTS)) == expected
    first = expected[: len(expected) // len(TEXTS)]
    assert bits(embeddings.get_query_embedding(TEXTS[0])) == first
    assert bits(asyncio.run(embeddings.aget_text_embedding(TEXTS[0]))) == first
    short = package.OpenAILikeEmbedding(
        model_name="tiny", api_base=f"{server.url}/v1", api_key=KEY, dimensions=6
    )
    right = tiny_encoder.encode(TEXTS[:1], normalize_embeddings=True, truncate_dim=6)
    assert bits(short.get_text_embedding(TEXTS[0])) == right.tobytes()


# ---- Hugging Face's ------------------------------------------------------------------------------


def test_huggingface_feature_extraction(
    server: RunningServer, expected: bytes, tiny_encoder: vlt.Encoder
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(server.url, token=KEY)
    found = client.feature_extraction(TEXTS)
    assert found.dtype == np.float32
    assert found.tobytes() == expected
    options: dict[str, Any] = {"normalize": False, "prompt_name": "query", "truncate": True}
    single = client.feature_extraction(TEXTS[0], truncation_direction="left", **options)
    right = tiny_encoder.encode_query([TEXTS[0]])
    assert single.tobytes() == right.tobytes()
    with pytest.raises(hub.errors.HfHubHTTPError, match="no prompt 'poem'"):
        client.feature_extraction(TEXTS, prompt_name="poem")


def test_huggingface_sentence_similarity(server: RunningServer, tiny_encoder: vlt.Encoder) -> None:
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(f"{server.url}/similarity", token=KEY)
    found = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    vectors = tiny_encoder.encode(TEXTS)
    assert bits(found) == tiny_encoder.similarity(vectors[0], vectors[1:]).tobytes()


# ---- curl ----------------------------------------------------------------------------------------


def test_curl(server: RunningServer, expected: bytes) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    body = json.dumps({"inputs": TEXTS})
    command = ["curl", "-s", f"{server.url}/embed", "-H", f"Authorization: Bearer {KEY}"]
    found = subprocess.run([*command, "-d", body], capture_output=True, check=True).stdout
    assert bits(json.loads(found)) == expected
    large = json.dumps({"inputs": "a " * 300_000})  # curl asks first, with Expect: 100-continue
    asked = subprocess.run([*command, "-d", "@-"], input=large.encode(), capture_output=True)
    assert np.array(json.loads(asked.stdout)).shape == (1, 32)
