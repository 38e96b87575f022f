"""The routes beside embeddings: fields as text-embeddings-inference, Cohere and Jina have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import PROMPTS

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")

from headed_models import write_headed
from http_server import Client, bits, running

QUERY = "what can one dog do?"
TEXTS = ["a dog can run", "banana", "the river under the world"]

Serve = Callable[[str], tuple[Client, Path]]


@pytest.fixture(scope="module")
def serve(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Serves the tiny model with a head, once for all tests; "plain" has none."""
    folder = tmp_path_factory.mktemp("headed")
    started: dict[str, tuple[Client, Path]] = {}
    with ExitStack() as stack:

        def start(name: str) -> tuple[Client, Path]:
            if name not in started:
                path = tiny_weights
                if name != "plain":
                    path = write_headed(tiny_weights, folder / f"{name}.bin", name)
                encoder = stack.enter_context(vlt.Encoder(path))
                server = stack.enter_context(running(encoder, {"model_name": name}))
                started[name] = server.client(), path
            return started[name]

        yield start


def score_bits(rows: list[dict[str, Any]], name: str = "score") -> bytes:
    return bits([row[name] for row in rows])


# ---- States and words ----------------------------------------------------------------------------


def test_embed_all_gives_every_state(serve: Serve, tiny_encoder: vlt.Encoder) -> None:
    client, _ = serve("plain")
    found = client.post("/embed_all", {"inputs": TEXTS, "prompt_name": "query"}).json
    texts = [PROMPTS["query"] + text for text in TEXTS]
    expected = tiny_encoder.encode(texts, output_value="token_embeddings")
    assert [bits(each) for each in found] == [each.tobytes() for each in expected]
    (single,) = client.post("/embed_all", {"inputs": "banana"}).json
    assert np.array(single).shape == tiny_encoder.run([tiny_encoder.tokenize("banana")])[0].shape


def test_large_answers_are_written_in_parts(
    serve: Serve, tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = serve("plain")
    whole = client.post("/embed_all", {"inputs": TEXTS})
    monkeypatch.setattr("vlt.server.reply.NUMBERS_AT_ONCE", 32)
    assert client.post("/embed_all", {"inputs": TEXTS}).body == whole.body


def test_embed_sparse_gives_words_and_weights(serve: Serve) -> None:
    client, path = serve("splade")
    found = client.post("/embed_sparse", {"inputs": TEXTS}).json
    with vlt.SparseEncoder(path) as encoder:
        expected = encoder.encode(TEXTS)
    for row, vector in zip(found, expected, strict=True):
        assert row[0].keys() == {"index", "value"}
        assert [each["index"] for each in row] == vector.indices.tolist()
        assert score_bits(row, "value") == vector.values.tobytes()
    assert client.get("/info").json["model_type"] == {"embedding": {"pooling": "splade"}}


# ---- Pairs ---------------------------------------------------------------------------------------


def test_rerank_orders_texts(serve: Serve) -> None:
    client, path = serve("rerank")
    found = client.post("/rerank", {"query": QUERY, "texts": TEXTS}).json
    with vlt.CrossEncoder(path) as reranker:
        ranked = reranker.rank(QUERY, TEXTS)
        logits = reranker.predict([(QUERY, t) for t in TEXTS], activation_fn=vlt.scores.identity)
    assert [row.keys() for row in found] == [{"index", "score"}] * 3
    assert [row["index"] for row in found] == [row["corpus_id"] for row in ranked]
    assert score_bits(found) == bits([row["score"] for row in ranked])
    raw = client.post(
        "/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": True, "return_text": True}
    ).json
    assert [row["text"] for row in raw] == [TEXTS[row["index"]] for row in raw]
    assert score_bits(raw) == logits[[row["index"] for row in raw]].tobytes()
    info = client.get("/info").json["model_type"]
    assert info == {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}


def test_rerank_as_cohere_and_jina_have_it(serve: Serve) -> None:
    client, path = serve("rerank")
    asked = {"model": "any", "query": QUERY, "documents": TEXTS}
    found = client.post("/v1/rerank", asked).json
    with vlt.CrossEncoder(path) as reranker:
        ranked = reranker.rank(QUERY, TEXTS)
        count = sum(map(len, reranker.tokenize([(QUERY, text) for text in TEXTS])))
    assert found.keys() == {"id", "model", "results", "usage"}
    assert found["model"] == "rerank"
    assert found["usage"] == {"prompt_tokens": count, "total_tokens": count}
    assert [row.keys() for row in found["results"]] == [{"index", "relevance_score"}] * 3
    assert score_bits(found["results"], "relevance_score") == bits([r["score"] for r in ranked])
    documents: list[Any] = [TEXTS[0], {"text": TEXTS[1]}, {"text": TEXTS[2], "title": "x"}]
    top = client.post(
        "/v1/rerank", {**asked, "documents": documents, "top_n": 2, "return_documents": True}
    ).json["results"]
    assert [(row["index"], row["document"]) for row in top] == [
        (row["corpus_id"], {"text": TEXTS[row["corpus_id"]]}) for row in ranked[:2]
    ]
    wrong = client.post("/v1/rerank", {**asked, "documents": [{"title": "x"}]})
    assert wrong.status == 400
    assert "`documents[0]` must be a string or an object" in wrong.json["error"]["message"]


@pytest.mark.parametrize("name", ["moods", "topics", "rerank"])
def test_predict_gives_labels_best_first(serve: Serve, name: str) -> None:
    client, path = serve(name)
    with vlt.Classifier(path) as classifier:
        expected = classifier.predict(TEXTS, top_k=None)
        raw = classifier.predict(TEXTS, top_k=None, function_to_apply="none")
        pair = classifier.predict([("a dog", "banana")], top_k=None)
    batch = client.post("/predict", {"inputs": [[text] for text in TEXTS]}).json
    for row, right in zip(batch, expected, strict=True):
        assert [each["label"] for each in row] == [each["label"] for each in right]
        assert score_bits(row) == score_bits(right)
    assert client.post("/predict", {"inputs": TEXTS[0]}).json == batch[0]
    assert client.post("/predict", {"inputs": [TEXTS[0]]}).json == batch[0]
    of_pair = client.post("/predict", {"inputs": ["a dog", "banana"]}).json
    assert score_bits(of_pair) == score_bits(pair[0])
    assert client.post("/predict", {"inputs": [["a dog", "banana"]]}).json == [of_pair]
    unscaled = client.post("/predict", {"inputs": [[t] for t in TEXTS], "raw_scores": True}).json
    assert score_bits(unscaled[0]) == score_bits(raw[0])


# ---- Similarity and tokens -----------------------------------------------------------------------


def test_similarity_is_the_cosine(serve: Serve, tiny_encoder: vlt.Encoder) -> None:
    client, _ = serve("plain")
    inputs = {"source_sentence": QUERY, "sentences": TEXTS}
    found = client.post("/similarity", {"inputs": inputs}).json
    vectors = tiny_encoder.encode(TEXTS)
    assert bits(found) == tiny_encoder.similarity(tiny_encoder.encode(QUERY), vectors).tobytes()
    prompted = client.post(
        "/similarity", {"inputs": inputs, "parameters": {"prompt_name": "query"}}
    ).json
    assert prompted != found


def test_tokenize_tells_tokens_and_places(serve: Serve, tiny_encoder: vlt.Encoder) -> None:
    client, _ = serve("plain")
    text = "Small ünder dogs"
    (tokens,) = client.post("/tokenize", {"inputs": text}).json
    assert [token["id"] for token in tokens] == tiny_encoder.tokenize(text)
    assert tokens[0] == {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert [token["text"] for token in tokens[-3:-1]] == ["dog", "s"]
    for token in tokens[1:-1]:
        assert token["text"] == text[token["start"] : token["stop"]]
        assert token["special"] is False
    plain = client.post("/tokenize", {"inputs": [text, "a"], "add_special_tokens": False}).json
    assert plain[0] == tokens[1:-1]
    longer = " ".join(["red"] * 100)
    assert len(client.post("/tokenize", {"inputs": longer}).json[0]) == 102


def test_decode_undoes_tokenize(serve: Serve, tiny_encoder: vlt.Encoder) -> None:
    client, _ = serve("plain")
    ids = tiny_encoder.tokenize("a dog can run")
    assert client.post("/decode", {"ids": ids}).json == ["a dog can run"]
    whole = client.post("/decode", {"ids": [ids, [3]], "skip_special_tokens": False}).json
    assert whole == ["[CLS] a dog can run [SEP]", "[SEP]"]
    wrong = client.post("/decode", {"ids": [10**6]})
    assert (wrong.status, wrong.json["error_type"]) == (422, "Validation")


# ---- What a model is not for ---------------------------------------------------------------------

ASKED: dict[str, Any] = {
    "/embed": {"inputs": "a"},
    "/embed_sparse": {"inputs": "a"},
    "/predict": {"inputs": "a"},
    "/rerank": {"query": "a", "texts": ["b"]},
}


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("plain", {"/embed"}),
        ("splade", {"/embed", "/embed_sparse"}),
        ("moods", {"/embed", "/predict"}),
        ("rerank", {"/embed", "/predict", "/rerank"}),
    ],
)
def test_routes_that_a_model_cannot_serve_say_so(serve: Serve, name: str, served: set[str]) -> None:
    client, _ = serve(name)
    for path, fields in ASKED.items():
        response = client.post(path, fields)
        if path in served:
            assert response.status == 200
        else:
            assert (response.status, response.json["error_type"]) == (424, "Backend")
            assert "the model is not" in response.json["error"]


def test_the_root_does_what_the_model_is_for(serve: Serve) -> None:
    for name, path, fields in (
        ("plain", "/embed", {"inputs": "a dog"}),
        ("moods", "/predict", {"inputs": "a dog"}),
        ("rerank", "/rerank", {"query": QUERY, "texts": TEXTS}),
    ):
        client, _ = serve(name)
        assert client.post("/", fields).json == client.post(path, fields).json


@pytest.mark.parametrize(
    ("path", "fields", "status", "word"),
    [
        ("/rerank", {"query": QUERY, "texts": []}, 400, "`texts` cannot be empty"),
        ("/rerank", {"query": "", "texts": TEXTS}, 400, "`query` cannot be empty"),
        ("/rerank", {"query": QUERY, "texts": "a"}, 422, "`texts` must be a list, not 'a'"),
        ("/rerank", {"query": QUERY, "texts": ["a", 3]}, 422, "`texts[1]` must be a string, not 3"),
        ("/rerank", {"query": QUERY, "texts": ["a"] * 33}, 422, "32 inputs, not 33"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "not 3 texts"),
        ("/predict", {"inputs": [["a"], "b", []]}, 400, "`inputs[2]` cannot be empty"),
        ("/predict", {"inputs": [["a", 2]]}, 422, "`inputs[0]` must be a string, not 2"),
        ("/similarity", {"inputs": {"sentences": ["a"]}}, 422, "`source_sentence` is missing"),
        ("/similarity", {"inputs": "a"}, 422, "`inputs` must be an object, not 'a'"),
        ("/tokenize", {"inputs": [[1]]}, 422, "`inputs[0]` must be a string, not [1]"),
        ("/decode", {"ids": ["a"]}, 422, "`ids` must hold token ids, not 'a'"),
    ],
)
def test_wrong_fields_are_named(
    serve: Serve, path: str, fields: Any, status: int, word: str
) -> None:
    client, _ = serve("rerank")
    response = client.post(path, fields)
    assert response.status == status
    assert word in response.json["error"]
