"""A model as a deployment of Ray Serve: the routes of `vlt serve`, and calls through a handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vlt.async_encoder import AsyncEncoder
from vlt.integrations.absent import absent

from .placement import place

try:
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import Response

    from vlt.server.app import create_app, state_of
    from vlt.server.metrics import Metrics
    from vlt.server.options import ServerOptions
except ImportError as error:
    raise absent(__name__, "ray[serve]", "ray", error) from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message

    from vlt.weights_source import Source

GONE = 499  # for a client that did not wait; nobody reads it

# Requests of a replica at the same time. Serve's own 5 would leave the scheduler nothing to choose
# from; beyond this number the routes of `vlt serve` answer 429.
MOST_ONGOING = ServerOptions.max_concurrent_requests


class EncoderReplica:
    """One replica: a model with a queue before it that makes batches across all requests.

    Parameters
    ----------
    path : path-like, bytes or [bytes] uint8
        As for `vlt.Encoder`, and to be read by every machine that has a replica.
    dtype, workspace_limit, max_length
        As for `vlt.Encoder`.
    device, num_threads
        The same; if left out, those that Ray has given the replica (`ray_actor_options`).
    server_options : mapping, optional
        Fields of `vlt.server.options.ServerOptions` for HTTP: `model_name`, `api_key`, …
    **settings
        Fields of `vlt.serving.settings.EngineSettings`, as for `vlt.AsyncEncoder`.

    Raises
    ------
    VltError
        The weights cannot be opened, or an option is wrong: the deployment does not start.
    """

    def __init__(
        self,
        path: Source,
        *,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        workspace_limit: int | None = None,
        max_length: int | None = None,
        server_options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        options = ServerOptions(**(server_options or {}))
        device, num_threads = place(device, num_threads)
        metrics = Metrics()
        self._encoder = AsyncEncoder(
            path,
            (device,),
            dtype,
            num_threads,
            workspace_limit,
            max_length,
            observe=metrics.batch,
            **settings,
        )
        self._service = self._encoder._service
        self._service.settings.warm_up(self._encoder.encoder)
        self._app = create_app(state_of(self._service, options, metrics))

    async def __call__(self, request: Request) -> Response:
        """Answer over HTTP, on the routes of `vlt serve` below the deployment's prefix."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(request.scope, request.receive, send)
        if not sent:
            return Response(status_code=GONE)
        start, *parts = sent
        response = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
        response.raw_headers = list(start["headers"])
        return response

    async def encode(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncEncoder.encode`, through a handle."""
        return await self._encoder.encode(*arguments, **options)

    async def encode_query(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncEncoder.encode_query`."""
        return await self._encoder.encode_query(*arguments, **options)

    async def encode_document(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncEncoder.encode_document`."""
        return await self._encoder.encode_document(*arguments, **options)

    async def run(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncEncoder.run`."""
        return await self._encoder.run(*arguments, **options)

    async def check_health(self) -> None:
        """Serve asks regularly, and replaces a replica that raises."""
        await self._service.check_health()

    def __del__(self) -> None:
        """Serve calls this when a replica's last requests are answered."""
        encoder = getattr(self, "_encoder", None)
        if encoder is not None:
            encoder.close()


EncoderDeployment = serve.deployment(name="vlt", max_ongoing_requests=MOST_ONGOING)(EncoderReplica)
