"""Requests as OpenTelemetry spans."""

from __future__ import annotations

import http.server
import threading
from itertools import pairwise
from typing import Any

import pytest

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")
pytest.importorskip("opentelemetry.sdk", reason="needs pip install '.[serve-otel]'")

from http_server import running
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from vlt.server.tracing import Tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_request_is_a_span_of_the_clients_trace(tiny_encoder: vlt.Encoder) -> None:
    exporter = InMemorySpanExporter()
    with running(tiny_encoder, tracing=Tracing(SimpleSpanProcessor(exporter))) as server:
        client = server.client()
        client.post("/embed", {"inputs": ["a dog"] * 3}, traceparent=f"00-{TRACE}-{PARENT}-01")
        client.post("/embed", {"inputs": []})
    spans: dict[str, Any] = {span.name: span for span in exporter.get_finished_spans()[:4]}
    assert spans.keys() == {"POST /embed", "tokenize", "queue", "run"}
    request = spans["POST /embed"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes["http.response.status_code"] == 200
    assert (request.attributes["vlt.inputs"], request.attributes["vlt.tokens"]) == (3, 12)
    parts = [spans[name] for name in ("tokenize", "queue", "run")]
    assert {part.parent.span_id for part in parts} == {request.context.span_id}
    for before, after in pairwise(parts):
        assert request.start_time <= before.start_time <= before.end_time == after.start_time
    failed = exporter.get_finished_spans()[4]
    assert failed.parent is None
    assert "cannot be empty" in failed.status.description


def test_spans_are_sent_by_otlp(tiny_encoder: vlt.Encoder) -> None:
    received: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        tracing = Tracing.to_endpoint(f"http://127.0.0.1:{collector.server_port}/v1/traces")
        with running(tiny_encoder, tracing=tracing) as server:
            server.client().post("/embed", {"inputs": "a dog"})
        tracing.close()
        collector.shutdown()
    assert b"POST /embed" in b"".join(received)
