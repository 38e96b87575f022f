"""The routes, as one ASGI application."""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from vlt.serving.service import Service

from . import openai_api, rerank_api, tei_api
from .endpoint import Endpoint
from .failures import (
    NOT_FOUND,
    UNHEALTHY,
    RequestError,
    failure_of,
    openai_failure,
    tei_body,
    tei_failure,
)
from .gate import Gate
from .info import info_of
from .metrics import Metrics
from .openapi import document
from .reply import dumps
from .state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from vlt.scheduling import Scheduler
    from vlt.serving.settings import EngineSettings
    from vlt.text_encoder import TextEncoder

    from .endpoint import Handler
    from .failures import Style
    from .options import ServerOptions
    from .tracing import Tracing

POSTED: tuple[tuple[str, Handler, Style], ...] = (
    ("/", tei_api.root, tei_failure),
    ("/embed", tei_api.embed, tei_failure),
    ("/embed_all", tei_api.embed_all, tei_failure),
    ("/embed_sparse", tei_api.embed_sparse, tei_failure),
    ("/rerank", tei_api.rerank, tei_failure),
    ("/predict", tei_api.predict, tei_failure),
    ("/similarity", tei_api.similarity, tei_failure),
    ("/tokenize", tei_api.tokenize, tei_failure),
    ("/decode", tei_api.decode, tei_failure),
    ("/embeddings", openai_api.embeddings, openai_failure),
    ("/v1/embeddings", openai_api.embeddings, openai_failure),
    ("/v1/rerank", rerank_api.rerank, openai_failure),
)

# The page and what it loads; nothing may come from elsewhere.
PAGE = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
PAGE_POLICY = (
    "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_state(
    encoders: Sequence[TextEncoder],
    settings: EngineSettings,
    options: ServerOptions,
    scheduler: Scheduler | None = None,
    tracing: Tracing | None = None,
) -> State:
    """Start the service of some encoders, one for each device, with all that routes need."""
    metrics = Metrics()
    service = Service(encoders, settings, scheduler, metrics.batch)
    return state_of(service, options, metrics, tracing)


def state_of(
    service: Service, options: ServerOptions, metrics: Metrics, tracing: Tracing | None = None
) -> State:
    """The same of a service that tells the metrics of its batches."""
    gate = Gate(options.api_key, options.max_concurrent_requests)
    metrics.watch(service, gate)
    return State(service, options, gate, metrics, tracing)


def create_app(state: State) -> Starlette:
    """The ASGI application."""
    routes = [
        Route(path, Endpoint(state, handle, style), methods=["POST"])
        for path, handle, style in POSTED
    ]
    routes += [Route(path, _page(name), methods=["GET"]) for path, name in PAGE.items()]
    routes += Queries(state).routes()
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})


class Queries:
    """What is asked for with GET."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._info = dumps(info_of(state))
        models = openai_api.models(state, int(time.time()))
        self._models = dumps(models)
        self._get_model = self._with_key(dumps(models["data"][0]), openai_failure)
        self._document = dumps(document())

    def routes(self) -> list[Route]:
        """All but /health and /metrics need the key."""
        paths: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/health": self._health,
            "/metrics": self._metrics,
            "/info": self._with_key(self._info, tei_failure),
            "/v1": self._with_key(self._models, openai_failure),
            "/v1/models": self._with_key(self._models, openai_failure),
            "/v1/models/{name:path}": self._one_model,
            "/openapi.json": self._with_key(self._document, tei_failure),
        }
        return [Route(path, get, methods=["GET"]) for path, get in paths.items()]

    def _with_key(self, body: bytes, style: Style) -> Callable[[Request], Awaitable[Response]]:
        async def get(request: Request) -> Response:
            try:
                with self._state.gate.enter(dict(request.scope["headers"])):
                    return _json(200, body)
            except RequestError as failure:
                return _json(*style(failure))

        return get

    async def _one_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == self._state.options.model_name:
            return await self._get_model(request)
        message = f"there is no model {name!r}; /v1/models lists what there is"
        return _json(*openai_failure(RequestError(NOT_FOUND, message)))

    async def _health(self, request: Request) -> Response:
        if self._state.gate.draining:
            return _json(*tei_failure(RequestError(UNHEALTHY, "the server is stopping")))
        try:
            await self._state.service.check_health()
        except Exception as error:
            message = f"the model fails: {failure_of(error)}"
            return _json(*tei_failure(RequestError(UNHEALTHY, message)))
        return Response(status_code=200)

    async def _metrics(self, request: Request) -> Response:
        # In a thread, since the memory of a session can be asked for between batches only.
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(None, self._state.metrics.render)
        return Response(body, media_type=METRICS_TYPE)


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = (files(__package__) / "page" / name).read_bytes()
    media_type = CONTENT_TYPES[name.rpartition(".")[2]]

    async def get(request: Request) -> Response:
        headers = {"content-security-policy": PAGE_POLICY, "x-content-type-options": "nosniff"}
        return Response(content, media_type=media_type, headers=headers)

    return get


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")


async def _no_such_route(request: Request, error: Any) -> Response:
    """An unknown path, or a method that it is not for."""
    message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    response = _json(error.status_code, tei_body(message, "Validation"))
    response.headers.update(error.headers or {})
    return response
