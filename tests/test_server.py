"""The HTTP server: embeddings by both interfaces, limits, errors, state."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny_model import PROMPTS

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")

from held_runs import HeldRuns
from http_server import Client, RunningServer, bits, running, wait_until

from vlt.token_encoder import TokenEncoder

TEXTS = ["a man is running", "the quick red machine", "banana", "the river under the world"]


@pytest.fixture(scope="module")
def server(tiny_encoder: vlt.Encoder) -> Iterator[RunningServer]:
    with running(tiny_encoder, {"model_name": "tiny", "payload_limit": 50_000}) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Client:
    return server.client()


def expect_error(
    client: Client, path: str, fields: Any, status: int, kind: str, *words: str
) -> None:
    """An error of text-embeddings-inference's shape."""
    response = client.post(path, fields)
    assert (response.status, response.json.keys()) == (status, {"error", "error_type"})
    assert response.json["error_type"] == kind
    assert response.headers["content-type"] == "application/json"
    for word in words:
        assert word in response.json["error"]


def expect_openai_error(client: Client, fields: Any, status: int, kind: str, *words: str) -> None:
    response = client.post("/v1/embeddings", fields)
    assert (response.status, response.json.keys()) == (status, {"error"})
    error = response.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == kind
    for word in words:
        assert word in error["message"]


# ---- Embeddings ----------------------------------------------------------------------------------


def test_embed_gives_the_encoders_bits(client: Client, tiny_encoder: vlt.Encoder) -> None:
    one = client.post("/embed", {"inputs": "a dog", "normalize": False})
    assert bits(one.json) == tiny_encoder.encode(["a dog"]).tobytes()
    many = client.post("/embed", {"inputs": TEXTS})
    assert bits(many.json) == tiny_encoder.encode(TEXTS, normalize_embeddings=True).tobytes()
    short = client.post("/embed", {"inputs": TEXTS, "dimensions": 5})
    expected = tiny_encoder.encode(TEXTS, normalize_embeddings=True, truncate_dim=5)
    assert bits(short.json) == expected.tobytes()
    raw = client.post("/embed", {"inputs": TEXTS, "dimensions": 5, "normalize": False})
    assert bits(raw.json) == np.ascontiguousarray(tiny_encoder.encode(TEXTS)[:, :5]).tobytes()


def test_embed_takes_prompts_ids_and_mixtures(client: Client, tiny_encoder: vlt.Encoder) -> None:
    prompted = client.post("/embed", {"inputs": TEXTS, "prompt_name": "query", "normalize": False})
    expected = tiny_encoder.encode([PROMPTS["query"] + text for text in TEXTS])
    assert bits(prompted.json) == expected.tobytes()
    ids = [[2, 70, 3], [2, 3]]
    single = client.post("/embed", {"inputs": ids[0], "normalize": False})
    assert bits(single.json) == tiny_encoder.run(ids[:1], output="embedding").tobytes()
    mixed = client.post("/embed", {"inputs": [ids[0], "a dog", ids[1]], "normalize": False})
    expected = [
        tiny_encoder.run(ids[:1], output="embedding"),
        tiny_encoder.encode(["a dog"]),
        tiny_encoder.run(ids[1:], output="embedding"),
    ]
    assert bits(mixed.json) == np.concatenate(expected).tobytes()


def test_embed_truncates_as_asked(client: Client, tiny_encoder: vlt.Encoder) -> None:
    words = ["red", "blue", "green", "quick", "small"] * 10
    text, longest = " ".join(words), tiny_encoder.max_seq_length
    cut = client.post("/embed", {"inputs": text, "normalize": False})
    assert bits(cut.json) == tiny_encoder.encode([text]).tobytes()
    tail = " ".join(words[-(longest - 2) :])
    for direction in ("left", "Left"):
        left = client.post(
            "/embed", {"inputs": text, "normalize": False, "truncation_direction": direction}
        )
        assert bits(left.json) == tiny_encoder.encode([tail]).tobytes()
    refused = {"inputs": text, "truncate": False}
    expect_error(client, "/embed", refused, 422, "Validation", f"at most {longest} tokens, not 52")
    ids = tiny_encoder.tokenize(" ".join(words[: longest - 2]))
    long_ids = client.post("/embed", {"inputs": ids + [3] * 99, "normalize": False})
    assert bits(long_ids.json) == tiny_encoder.run([ids], output="embedding").tobytes()


def test_openai_floats_and_base64(client: Client, tiny_encoder: vlt.Encoder) -> None:
    expected = tiny_encoder.encode(TEXTS, normalize_embeddings=True)
    floats = client.post("/v1/embeddings", {"input": TEXTS, "model": "any"}).json
    assert floats.keys() == {"object", "data", "model", "usage"}
    assert (floats["object"], floats["model"]) == ("list", "tiny")
    count = sum(map(len, tiny_encoder.tokenize(TEXTS)))
    assert floats["usage"] == {"prompt_tokens": count, "total_tokens": count}
    assert [each.keys() for each in floats["data"]] == [{"object", "index", "embedding"}] * 4
    assert [(each["object"], each["index"]) for each in floats["data"]] == [
        ("embedding", index) for index in range(4)
    ]
    assert bits([each["embedding"] for each in floats["data"]]) == expected.tobytes()
    encoded = client.post(
        "/v1/embeddings", {"input": TEXTS, "model": "any", "encoding_format": "base64"}
    ).json
    found = b"".join(base64.b64decode(each["embedding"]) for each in encoded["data"])
    assert found == expected.tobytes()
    short = client.post("/v1/embeddings", {"input": "a dog", "dimensions": 4, "user": "me"}).json
    expected = tiny_encoder.encode("a dog", normalize_embeddings=True, truncate_dim=4)
    assert bits(short["data"][0]["embedding"]) == expected.tobytes()
    ids = [[2, 70, 3], [2, 3]]
    of_ids = client.post("/v1/embeddings", {"input": ids}).json
    vectors = vlt.vectors.normalize(tiny_encoder.run(ids, output="embedding"))
    assert bits([each["embedding"] for each in of_ids["data"]]) == vectors.tobytes()


def test_many_clients_at_once_get_the_encoders_bits(
    server: RunningServer, tiny_encoder: vlt.Encoder
) -> None:
    words = ["a", "man", "is", "running", "the", "quick", "red", "machine", "banana"]
    problems: list[str] = []

    def ask(seed: int) -> None:
        rng, client = random.Random(seed), server.client()
        for _ in range(15):
            texts = [
                " ".join(rng.choices(words, k=rng.randrange(1, 30)))
                for _ in range(rng.randrange(1, 12))
            ]
            response = client.post("/embed", {"inputs": texts, "normalize": False})
            if bits(response.json) != tiny_encoder.encode(texts).tobytes():
                problems.append(f"{texts}: {response.status}")

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_numbers_in_json_read_back_to_the_same_bits() -> None:
    from vlt.server.reply import dumps

    patterns = np.random.default_rng(3).integers(0, 1 << 32, 200_000, np.uint32)
    floats = patterns.view(np.float32)
    floats = floats[np.isfinite(floats)]
    assert bits(json.loads(dumps(floats))) == floats.tobytes()


def test_headers_tell_what_it_took(client: Client, tiny_encoder: vlt.Encoder) -> None:
    headers = client.post("/embed", {"inputs": TEXTS}).headers
    assert headers["x-compute-type"] == "cpu"
    assert headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert headers["x-compute-tokens"] == str(sum(map(len, tiny_encoder.tokenize(TEXTS))))
    for name in ("compute", "total", "tokenization", "queue", "inference"):
        assert headers[f"x-{name}-time"].isdecimal()


# ---- Errors and limits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "kind", "word"),
    [
        (b"", 400, "Validation", "not JSON"),
        (b'{"inputs": "a"', 400, "Validation", "not JSON"),
        (b'{"inputs": "\xff\xfe"}', 400, "Validation", "not JSON"),
        (b'{"inputs": "\\ud800"}', 400, "Validation", "not JSON"),
        (b"[" * 10_000, 400, "Validation", "not JSON"),
        (b'["a"]', 422, "Validation", "must be a JSON object"),
        (b"{}", 422, "Validation", "`inputs` is missing"),
        (b'{"inputs": null}', 422, "Validation", "`inputs` is missing"),
        (b'{"inputs": 3}', 422, "Validation", "`inputs` must be a list, not 3"),
        (b'{"inputs": [3.5]}', 422, "Validation", "`inputs[0]` must be a list, not 3.5"),
        (b'{"inputs": [true]}', 422, "Validation", "token ids, not True"),
        (
            b'{"inputs": [[1], [1.5]]}',
            422,
            "Validation",
            "`inputs[1]` must hold token ids, not 1.5",
        ),
        (b'{"inputs": [1, "a"]}', 422, "Validation", "`inputs` must hold token ids, not 'a'"),
        (b'{"inputs": [-1]}', 422, "Validation", "token ids must be 0 ..."),
        (b'{"inputs": [99999]}', 422, "Validation", "token ids must be 0 ..."),
        (b'{"inputs": [123456789012]}', 422, "Validation", "must fit 32 bits"),
        (b'{"inputs": ""}', 400, "Empty", "`inputs` cannot be empty"),
        (b'{"inputs": []}', 400, "Empty", "`inputs` cannot be empty"),
        (b'{"inputs": ["a", ""]}', 400, "Empty", "`inputs[1]` cannot be empty"),
        (b'{"inputs": [[]]}', 400, "Empty", "`inputs[0]` cannot be empty"),
        (
            b'{"inputs": "a", "normalize": 1}',
            422,
            "Validation",
            "`normalize` must be true or false",
        ),
        (b'{"inputs": "a", "truncate": "yes"}', 422, "Validation", "`truncate` must be true"),
        (b'{"inputs": "a", "prompt_name": "poem"}', 422, "Validation", "no prompt 'poem'"),
        (b'{"inputs": "a", "truncation_direction": "up"}', 422, "Validation", "not 'up'"),
        (b'{"inputs": "a", "dimensions": 33}', 422, "Validation", "1 ... 32, not 33"),
        (b'{"inputs": "a", "dimensions": 0}', 422, "Validation", "1 ... 32, not 0"),
        (b'{"inputs": "a", "dimensions": true}', 422, "Validation", "not True"),
    ],
)
def test_what_is_wrong_is_named(
    client: Client, body: bytes, status: int, kind: str, word: str
) -> None:
    expect_error(client, "/embed", body, status, kind, word)
    assert client.post("/embed", {"inputs": "a dog"}).status == 200


def test_openai_errors_have_openais_shape(client: Client) -> None:
    invalid = "invalid_request_error"
    expect_openai_error(client, b"{", 400, invalid, "not JSON")
    expect_openai_error(client, {"input": []}, 400, invalid, "`input` cannot be empty")
    expect_openai_error(client, {"input": ["a"] * 2049}, 400, invalid, "2048 inputs, not 2049")
    expect_openai_error(
        client, {"input": "a", "encoding_format": "int8"}, 400, invalid, '"float" or "base64"'
    )
    expect_openai_error(client, {"input": "a " * 30_000}, 413, invalid, "at most 50000 bytes")


def test_batches_and_bodies_are_bounded(server: RunningServer, client: Client) -> None:
    assert client.post("/embed", {"inputs": ["a"] * 32}).status == 200
    expect_error(client, "/embed", {"inputs": ["a"] * 33}, 422, "Validation", "32 inputs, not 33")
    expect_error(client, "/embed", {"inputs": "a" * 50_001}, 413, "Validation", "50000 bytes")
    assert server.client().post("/embed", {"inputs": "a " * 20_000}).status == 200


def test_unknown_routes_and_methods(client: Client) -> None:
    expect_error(client, "/embeds", {}, 404, "Validation", "POST /embeds: not found")
    response = client.get("/embed")
    assert (response.status, response.headers["allow"]) == (405, "POST")


def test_a_key_is_asked_for(tiny_encoder: vlt.Encoder) -> None:
    right = {"Authorization": "Bearer geheim"}
    with running(tiny_encoder, {"api_key": "geheim"}) as server:
        client = server.client()
        for wrong in ({}, {"Authorization": "Bearer other"}, {"Authorization": "geheim"}):
            refused = client.post("/embed", {"inputs": "a" * 100_000}, **wrong)
            assert (refused.status, refused.json["error_type"]) == (401, "Unauthorized")
            assert client.post("/v1/embeddings", {"input": "a"}, **wrong).status == 401
            assert client.get("/info", **wrong).status == 401
            assert client.get("/v1/models", **wrong).status == 401
        assert client.post("/embed", {"inputs": "a"}, **right).status == 200
        assert client.get("/info", **right).status == 200
        assert client.get("/health").status == 200
        assert client.get("/metrics").status == 200


@pytest.mark.parametrize(
    ("options", "settings"), [({"max_concurrent_requests": 1}, {}), ({}, {"max_queue": 1})]
)
def test_too_much_is_refused_at_once(
    tiny_encoder: vlt.Encoder,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    held = HeldRuns(monkeypatch)
    with running(tiny_encoder, options, **settings) as server:
        answers: list[int] = []
        first = threading.Thread(
            target=lambda: answers.append(server.client().post("/embed", {"inputs": "a"}).status)
        )
        first.start()
        assert held.begun.wait(20)
        client = server.client()
        refused = client.post("/embed", {"inputs": ["a", "b"]})
        assert (refused.status, refused.json["error_type"]) == (429, "Overloaded")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/health").status == 200
        held.go.set()
        first.join()
        assert answers == [200]
        assert client.post("/embed", {"inputs": "a"}).status == 200


def test_a_request_fails_in_time(
    tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldRuns(monkeypatch)
    with running(tiny_encoder, timeout=0.5) as server:
        client = server.client()
        expect_error(client, "/embed", {"inputs": "a"}, 504, "Timeout", "within 0.5 seconds")
        held.go.set()
        assert client.post("/embed", {"inputs": "a"}).status == 200


def test_the_cache_gives_the_same_bits(tiny_encoder: vlt.Encoder) -> None:
    with running(tiny_encoder, cache_bytes=100_000) as server:
        client = server.client()
        first = client.post("/embed", {"inputs": TEXTS[:3]})
        second = client.post("/embed", {"inputs": TEXTS})
        expected = tiny_encoder.encode(TEXTS, normalize_embeddings=True)
        assert bits(first.json) == expected[:3].tobytes()
        assert bits(second.json) == expected.tobytes()
        figures = client.get("/metrics").body.decode()
        assert "vlt_cache_hits_total 3.0" in figures
        assert "vlt_cache_misses_total 4.0" in figures


# ---- State ---------------------------------------------------------------------------------------


def test_info_and_models(client: Client, tiny_encoder: vlt.Encoder) -> None:
    info = client.get("/info").json
    assert info["model_id"] == "tiny"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == tiny_encoder.max_seq_length
    assert info["max_client_batch_size"] == 32
    assert {"model_sha", "model_dtype", "max_concurrent_requests", "max_batch_tokens"} < info.keys()
    assert {"max_batch_requests", "auto_truncate", "tokenization_workers", "version"} < info.keys()
    for path in ("/v1/models", "/v1"):
        (model,) = client.get(path).json["data"]
        assert (model["id"], model["object"]) == ("tiny", "model")


def test_metrics_count_what_happened(tiny_encoder: vlt.Encoder) -> None:
    with running(tiny_encoder) as server:
        client = server.client()
        client.post("/embed", {"inputs": [[2, 7, 8, 3], [2, 3]]})
        client.post("/embed", {"inputs": [2, 7, 3]})
        client.post("/embed", {"inputs": []})
        lines = client.get("/metrics").body.decode().splitlines()
    for line in (
        'te_request_count{method="single"} 2.0',
        'te_request_count{method="batch"} 1.0',
        'te_request_success{method="batch"} 1.0',
        'te_request_failure{err="empty"} 1.0',
        "te_request_duration_count 3.0",
        "te_request_tokenization_duration_count 2.0",
        "te_request_queue_duration_count 2.0",
        "te_request_inference_duration_count 2.0",
        "te_request_input_length_sum 9.0",
        "te_queue_size 0.0",
        "te_batch_next_size_sum 3.0",
        "te_batch_next_tokens_sum 9.0",
        "vlt_tokens_total 9.0",
        "vlt_padding_avoided_tokens_total 2.0",
    ):
        assert line in lines
    held = [line for line in lines if line.startswith("vlt_workspace_bytes")]
    assert float(held[0].split()[1]) > 0


def test_health_after_a_failure_is_that_of_the_model(
    tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise vlt.OutOfMemoryError("no room")

    with running(tiny_encoder) as server:
        client = server.client()
        with monkeypatch.context() as patch:
            patch.setattr(TokenEncoder, "_run", fail)
            expect_error(client, "/embed", {"inputs": "a"}, 424, "Backend", "no room")
            unhealthy = client.get("/health")
            assert (unhealthy.status, unhealthy.json["error_type"]) == (503, "Unhealthy")
        assert client.get("/health").status == 200
        assert client.post("/embed", {"inputs": "a"}).status == 200
        wait_until(lambda: not server.state.service.engine.failing, "still failing")
