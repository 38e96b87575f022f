"""Requests as OpenTelemetry spans; needs the extra `serve-otel`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

import vlt

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor

    from vlt.serving.service import Answer

    from .endpoint import Outcome


class Tracing:
    """Makes a span of each request once it is answered, and spans of its parts below.

    Parameters
    ----------
    processor
        Where the spans go.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": "vlt", "service.version": vlt.__version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("vlt.server", vlt.__version__)

    @classmethod
    def to_endpoint(cls, url: str) -> Tracing:
        """Send them by OTLP over HTTP, such as to "http://localhost:4318/v1/traces"."""
        return cls(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))

    def request(self, outcome: Outcome) -> None:
        """Trace a request that has just ended, as part of the trace that its headers name."""
        scope = outcome.scope
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        end = time.time_ns()
        begin = end - round(outcome.seconds * 1e9)
        span = self._tracer.start_span(
            f"{scope['method']} {scope['path']}",
            extract(headers),
            SpanKind.SERVER,
            {
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "http.response.status_code": outcome.status,
            },
            start_time=begin,
        )
        if outcome.failure is not None:
            span.set_status(Status(StatusCode.ERROR, str(outcome.failure)))
        if outcome.reply is not None and outcome.reply.answer is not None:
            answer = outcome.reply.answer
            span.set_attribute("vlt.inputs", len(answer.lengths))
            span.set_attribute("vlt.tokens", sum(answer.lengths))
            self._parts(answer, set_span_in_context(span), begin, end)
        span.end(end)

    def _parts(self, answer: Answer, parent: Context, least: int, end: int) -> None:
        """Backwards from the end: what comes after the model takes next to no time.

        The slowest of several batches counts for each part, so that all may be more than the whole.
        """
        for name, seconds in (
            ("run", answer.run_seconds),
            ("queue", answer.queue_seconds),
            ("tokenize", answer.tokenize_seconds),
        ):
            begin = max(end - round(seconds * 1e9), least)
            self._tracer.start_span(name, parent, start_time=begin).end(end)
            end = begin

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()
