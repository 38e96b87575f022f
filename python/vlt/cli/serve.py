"""`vlt serve`: the model over HTTP, for clients of text-embeddings-inference and OpenAI."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vlt
from vlt.serving.settings import EngineSettings

from .common import add_command, add_engine_options, positive

if TYPE_CHECKING:
    from vlt.server.tracing import Tracing

LOOPBACK = "127.0.0.1"
KEY_VARIABLE = "VLT_API_KEY"
LAST_PORT = 65_535

EXAMPLES = """\
  vlt serve weights.bin                         on http://127.0.0.1:8080
  vlt serve weights.bin --host 0.0.0.0          for other machines too
  vlt serve weights.bin --device cuda:0,cuda:1  on two GPUs
  curl 127.0.0.1:8080/embed -d '{"inputs": "A cheetah runs."}'"""


def add_parser(commands: Any) -> None:
    """Declare the command and its options."""
    parser = add_command(
        commands,
        "serve",
        run,
        "Serve a model over HTTP as text-embeddings-inference and OpenAI do; needs 'vlt[serve]'.",
        EXAMPLES,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a weights file or a model folder")
    parser.add_argument(
        "--host", default=LOOPBACK, help=f"address to listen on ({LOOPBACK}: this machine only)"
    )
    parser.add_argument(
        "--port", type=port, default=8080, help="port to listen on (8080); 0: any that is free"
    )
    parser.add_argument(
        "--model-name", metavar="NAME", help="what to call the model (the file's name)"
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get(KEY_VARIABLE),
        metavar="KEY",
        help=f"what clients must send as a bearer token (${KEY_VARIABLE}; nothing)",
    )
    add_engine_options(parser)
    add_limits(parser)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Bounds of batches, requests and times."""
    limits = (
        ("--workers", None, "batches side by side on each device (1 on the CPU, 2 on a GPU)"),
        ("--max-batch-tokens", None, "tokens of a batch (4096 on the CPU, 16384 on a GPU)"),
        ("--max-batch-requests", 512, "inputs of a batch (512)"),
        ("--max-queue", 16_384, "inputs that may wait (16384)"),
        ("--max-concurrent-requests", 512, "requests at a time; more get 429 (512)"),
        ("--max-client-batch-size", 32, "inputs of one request, but for /v1 (32)"),
        ("--payload-limit", 2_000_000, "bytes of a request (2000000)"),
        ("--max-length", None, "tokens that texts are cut to (what the file says)"),
        ("--tokenization-workers", 2, "threads that tokenize (2)"),
    )
    for name, default, text in limits:
        parser.add_argument(name, type=positive, default=default, metavar="N", help=text)
    times = (
        ("--max-wait", 0.1, "seconds by which an input may be overtaken (0.1)"),
        ("--request-timeout", 60.0, "seconds until a request fails (60)"),
        ("--body-timeout", 30.0, "seconds that a client may take to send one (30)"),
        ("--grace", 30.0, "seconds that requests have to finish at the end (30)"),
    )
    for name, seconds, text in times:
        parser.add_argument(name, type=duration, default=seconds, metavar="SECONDS", help=text)
    parser.add_argument(
        "--policy",
        choices=("latency", "fifo", "one"),
        default="latency",
        help="short inputs a little earlier, the oldest first, or one by one (latency)",
    )
    parser.add_argument(
        "--cache-bytes", type=int, default=0, metavar="N", help="memory for results to reuse (0)"
    )
    parser.add_argument(
        "--auto-truncate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="cut inputs that are too long unless a request says otherwise",
    )
    parser.add_argument(
        "--otlp-endpoint",
        metavar="URL",
        help="where to send traces, such as http://localhost:4318/v1/traces (nowhere); needs "
        "'vlt[serve-otel]'",
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="what to log at least; at info a line for each request (info)",
    )


def port(text: str) -> int:
    """A port's number, for argparse."""
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 ... {LAST_PORT}, not {text!r}")
    return int(text)


def duration(text: str) -> float:
    """Seconds above zero, for argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return seconds


def run(options: argparse.Namespace) -> None:
    """Load the model, then serve until a signal comes."""
    try:
        from vlt.server.app import create_app, create_state
        from vlt.server.json_logs import log_as_json
        from vlt.server.options import ServerOptions
        from vlt.server.running import serve
    except ImportError as error:
        raise ImportError(
            f"the server needs more packages: pip install 'vlt[serve]' ({error})"
        ) from error
    log_as_json(options.log_level)
    limits = ServerOptions(
        model_name=options.model_name or options.path.stem,
        api_key=options.api_key,
        max_concurrent_requests=options.max_concurrent_requests,
        max_client_batch_size=options.max_client_batch_size,
        payload_limit=options.payload_limit,
        body_timeout=options.body_timeout,
        auto_truncate=options.auto_truncate,
        grace=options.grace,
    )
    settings = EngineSettings(
        max_batch_tokens=options.max_batch_tokens,
        max_batch_requests=options.max_batch_requests,
        policy=options.policy,
        max_wait=options.max_wait,
        max_queue=options.max_queue,
        workers=options.workers,
        tokenizing_threads=options.tokenization_workers,
        cache_bytes=options.cache_bytes,
        timeout=options.request_timeout,
    )
    tracing = tracing_to(options.otlp_endpoint) if options.otlp_endpoint else None
    encoders = open_encoders(options)
    for encoder in encoders:
        settings.warm_up(encoder)
    state = create_state(encoders, settings, limits, tracing=tracing)
    serve(create_app(state), state, options.host, options.port)


def tracing_to(url: str) -> Tracing:
    """Traces that are sent there."""
    try:
        from vlt.server.tracing import Tracing
    except ImportError as error:
        raise ImportError(
            f"traces need more packages: pip install 'vlt[serve-otel]' ({error})"
        ) from error
    return Tracing.to_endpoint(url)


def open_encoders(options: argparse.Namespace) -> list[vlt.Encoder]:
    """One for each device; on the CPU workers side by side have a thread each."""
    threads = options.threads or (1 if (options.workers or 1) > 1 else None)
    return [
        vlt.Encoder(
            options.path,
            device,
            options.dtype,
            threads,
            max_length=options.max_length,
        )
        for device in options.device.split(",")
    ]
