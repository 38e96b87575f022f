"""The OpenAPI document: what schemathesis makes of it meets no fault of the server's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")
pytest.importorskip("schemathesis")

import schemathesis
from headed_models import write_headed
from http_server import RunningServer, running
from hypothesis import HealthCheck, settings

from vlt.server.app import POSTED
from vlt.server.openapi import GETS, POSTS, document

schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module", params=["plain", "rerank", "splade"])
def server(
    request: pytest.FixtureRequest, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    path = tiny_weights
    if request.param != "plain":
        folder = tmp_path_factory.mktemp("schema")
        path = write_headed(tiny_weights, folder / "headed.bin", request.param)
    with vlt.Encoder(path) as encoder, running(encoder) as server:
        yield server


@schema.parametrize()  # type: ignore[untyped-decorator]
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_nothing_that_is_asked_is_a_fault_of_the_servers(case: Any, server: RunningServer) -> None:
    """Requests that fit the document and that do not; answers fit it."""
    response = case.call(base_url=server.url)
    assert response.status_code < 500
    case.validate_response(
        response,
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.specs.openapi.checks.response_schema_conformance,
            schemathesis.specs.openapi.checks.status_code_conformance,
            schemathesis.specs.openapi.checks.content_type_conformance,
        ],
    )


def test_the_document_names_every_route(server: RunningServer) -> None:
    found = server.client().get("/openapi.json").json
    assert found == document()
    aliases = {"/embeddings"}
    assert {path for path, _, _ in POSTED} - aliases == set(POSTS)
    assert {"/health", *POSTS, *GETS} == set(found["paths"])
