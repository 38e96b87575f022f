"""Figures for Prometheus: under the names of text-embeddings-inference, and vlt's own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as Total
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from vlt.serving.engine import BatchRecord
    from vlt.serving.service import Service

    from .endpoint import Outcome
    from .gate import Gate

SECONDS = tuple(round(0.0001 * 2**power, 4) for power in range(20))  # 0.1 ms ... 52 s
TOKENS = tuple(2**power for power in range(18))  # 1 ... 131,072
SEQUENCES = tuple(2**power for power in range(13))  # 1 ... 4,096


class Metrics:
    """Counts requests in the event loop's thread and batches in the workers'."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = RequestCounts()
        self.registry.register(self._requests)
        self._duration = self._seconds("te_request_duration", "From a request's headers on")
        self._tokenization = self._seconds("te_request_tokenization_duration", "Tokenizing")
        self._queue = self._seconds("te_request_queue_duration", "Waiting for a worker")
        self._inference = self._seconds("te_request_inference_duration", "In the model")
        self._length = self._histogram("te_request_input_length", "Tokens of an input", TOKENS)
        self._batch_size = self._histogram("te_batch_next_size", "Inputs of a batch", SEQUENCES)
        self._batch_tokens = self._histogram("te_batch_next_tokens", "Tokens of a batch", TOKENS)
        self._batch_seconds = self._seconds("vlt_batch_duration", "Running a batch")
        self._tokens = self._total("vlt_tokens", "Tokens that went through the model")
        self._padding = self._total(
            "vlt_padding_avoided_tokens", "Tokens that padded batches would have had besides"
        )
        self._failures = self._total("vlt_batch_failures", "Batches that failed")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def _seconds(self, name: str, text: str) -> Histogram:
        return self._histogram(name, f"{text}, in seconds", SECONDS)

    def _total(self, name: str, text: str) -> Total:
        return Total(name, text, registry=self.registry)

    def request(self, outcome: Outcome) -> None:
        """Count a request that was answered, or whose client went away."""
        self._duration.observe(outcome.seconds)
        reply, failure = outcome.reply, outcome.failure
        method = "batch" if reply is not None and reply.batch else "single"
        self._requests.asked[method] += 1
        if reply is None:
            self._requests.failed[failure.kind.name.lower() if failure else "gone"] += 1
            return
        self._requests.answered[method] += 1
        if reply.answer is None:
            return
        self._tokenization.observe(reply.answer.tokenize_seconds)
        self._queue.observe(reply.answer.queue_seconds)
        self._inference.observe(reply.answer.run_seconds)
        for length in reply.answer.lengths:
            self._length.observe(length)

    def batch(self, record: BatchRecord) -> None:
        """Count a batch."""
        self._batch_size.observe(record.num_sequences)
        self._batch_tokens.observe(record.num_tokens)
        self._batch_seconds.observe(record.seconds)
        self._tokens.inc(record.num_tokens)
        self._padding.inc(record.padding)
        if record.error is not None:
            self._failures.inc()

    def watch(self, service: Service, gate: Gate) -> None:
        """Read queue, cache and memory at each scrape."""
        self.registry.register(Gauges(service, gate))

    def render(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class RequestCounts(Collector):  # type: ignore[misc]
    """Requests under names without the ending _total, which the client library would add."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def collect(self) -> Iterator[Metric]:
        """The three of them."""
        for name, label, counts in (
            ("te_request_count", "method", self.asked),
            ("te_request_success", "method", self.answered),
            ("te_request_failure", "err", self.failed),
        ):
            family = UnknownMetricFamily(name, "Requests", labels=[label])
            for value, count in counts.copy().items():
                family.add_metric([value], count)
            yield family


class Gauges(Collector):  # type: ignore[misc]
    """What is read rather than counted. Memory waits for the batches in progress."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self._service = service
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Queue, requests, memory, cache."""
        engine, encoder, cache = self._service.engine, self._service.encoder, self._service.cache
        memory = encoder.memory_stats()
        gauges = {
            "te_queue_size": ("Inputs that wait", engine.num_waiting),
            "vlt_queue_tokens": ("Tokens that wait", engine.waiting_tokens),
            "vlt_requests_in_flight": ("Requests that are worked on", self._gate.working),
            "vlt_weight_bytes": ("Memory of the weights", encoder.weight_bytes),
            "vlt_workspace_bytes": ("Memory of the workspaces", memory["held_bytes"]),
        }
        if cache is not None:
            gauges["vlt_cache_bytes"] = "Memory of the cache", cache.num_bytes
            yield CounterMetricFamily("vlt_cache_hits", "Inputs found", cache.hits)
            yield CounterMetricFamily("vlt_cache_misses", "Inputs not found", cache.misses)
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value)
