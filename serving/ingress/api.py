"""The ASGI application, built from the questions and the resources. FastAPI carries it; scoring requests bypass FastAPI."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engines import Engine
from serving.errors import MethodNotAllowedError, NotFoundError, RevenueEngineError
from serving.ingress import docs, openapi, resources
from serving.ingress.cors import Cors, CorsMiddleware
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.endpoint import Endpoint, ServedQuestion
from serving.ingress.http import body, routes
from serving.ingress.http.compression import Codings, CompressionMiddleware
from serving.ingress.http.connections import REASONS, Connections, Limits, default_max_open
from serving.ingress.http.lifecycle import LifecycleMiddleware, State
from serving.ingress.http.response import respond
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.overload.shedder import Shedder
from serving.ingress.pool_client import PoolClient
from serving.ingress.request_log import AccessLog, AccessLogMiddleware
from serving.metrics.collect import Metrics
from serving.resources import RESOURCES
from serving.resources.resource import ReplicaStatus
from serving.settings import ServerSettings, Settings

_RESOURCES = (*RESOURCES, docs.DESCRIPTION)


class HotRouteApp:
    """One hot route as an ASGI application."""

    def __init__(self, route: routes.Route, table: routes.RouteTable) -> None:
        self._route = route
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and answer. A refused body ends the connection: the client may still be sending it."""
        headers, limit = dict(scope["headers"]), self._table.max_body_bytes
        try:
            content = await body.read(headers, receive, limit, self._table.connections.limits.body_s)
        except body.DisconnectedError:
            return
        except RevenueEngineError as error:
            response = self._route.refuse(headers, error).closing()
        else:
            begin = functools.partial(self._table.codings.begin, self._route, limit)
            response = await routes.future_response(begin, headers, content)
        await respond(response, send)


class HotRouteMiddleware:
    """Passes POST to a hot route straight to it and everything else to `app`, whose middleware costs as much as a score."""

    def __init__(self, app: ASGIApp, hot_routes: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._hot_routes = hot_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._app
        if scope["type"] == "http" and scope["method"] == "POST":
            app = self._hot_routes.get(scope["path"], app)
        await app(scope, receive, send)


class App(FastAPI):
    """FastAPI behind our middleware, with the exact OpenAPI document. `endpoints`: by the name of the engine.

    `route_table` is for the listener, whose connections answer the hot routes without ASGI. The application answers them as well: for other
    ASGI servers, and for requests that the parser delegates.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint | PoolClient],
        state: State,
        server: ServerSettings,
        access_log: AccessLog | None = None,
    ) -> None:
        super().__init__(
            title="revenue-engine",
            version=docs.release(),
            description=openapi.DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            swagger_ui_oauth2_redirect_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: _http_problem, RevenueEngineError: _problem, Exception: _problem},
        )
        self.endpoints = endpoints
        own = [endpoint for endpoint in endpoints.values() if isinstance(endpoint, Endpoint)]
        sheddable = {endpoint.question.engine.route.encode("ascii"): endpoint for endpoint in own}
        cors = Cors(server.cors_origins) if server.cors_origins else None
        self.route_table = routes.RouteTable(
            {},
            state,
            server.max_connections,
            server.max_body_bytes,
            connections=Connections(_limits(server)),
            codings=Codings(server.min_gzip_bytes),
            cors=cors,
            access_log=access_log,
            overload_reader=OverloadReader(Shedder(sheddable, server.default_timeout_ms, server.max_body_bytes, cors, access_log)),
        )
        self._server = server
        self._engines: list[Engine] = [endpoint.question.engine for endpoint in endpoints.values()]
        self._hot_routes: dict[str, ASGIApp] = {}
        for endpoint in endpoints.values():
            self.add_hot_route(endpoint.question.engine.route, routes.Route(endpoint.begin, endpoint.refuse))
        app: ASGIApp = HotRouteMiddleware(super().__call__, self._hot_routes)
        app = LifecycleMiddleware(app, state, server.max_connections, resources.unlimited_prefixes(_RESOURCES))
        app = CompressionMiddleware(app, server.min_gzip_bytes)
        app = app if cors is None else CorsMiddleware(app, cors)
        self._outermost = app if access_log is None else AccessLogMiddleware(app, access_log)

    def add_hot_route(self, path: str, route: routes.Route) -> None:
        """Answer POST to `path`, plain ASCII without parameters, by `route`."""
        route = route._replace(path=path)
        app = HotRouteApp(route, self.route_table)
        self.route_table.routes[path.encode("ascii")] = route
        self._hot_routes[path] = app
        self.router.routes.append(Route(path, app, methods=["POST"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, through our middleware first."""
        await self._outermost(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document: FastAPI's own with every question and resource in it."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi(), self._engines, _RESOURCES, self._server)
        return self.openapi_schema


def build(
    questions: Sequence[ServedQuestion | PoolClient],
    state: State,
    settings: Settings,
    metrics: Metrics,
    process: ReadingProcess,
    access_log: AccessLog | None = None,
) -> App:
    """Return the application that answers `questions` and the resources.

    `process` reads large refused bodies, `access_log` notes every request; the caller closes both.
    """
    endpoints = {
        question.engine.name: question if isinstance(question, PoolClient) else Endpoint(question, settings.server, metrics, process)
        for question in questions
    }
    metrics.read("in_flight", value=lambda: state.in_flight)
    app = App(endpoints, state, settings.server, access_log)
    _measure(app.route_table.connections, metrics)
    replica = ReplicaStatus([endpoint.question for endpoint in endpoints.values()], state, metrics)
    app.router.routes.extend([*resources.routes(_RESOURCES, replica), *docs.routes()])
    return app


def _limits(server: ServerSettings) -> Limits:
    """Return what the settings state of connections."""
    max_open = default_max_open() if server.max_open_connections is None else server.max_open_connections
    return Limits(server.head_timeout_s, server.body_timeout_s, server.idle_timeout_s, max_open=max_open)


def _measure(connections: Connections, metrics: Metrics) -> None:
    metrics.read("connections", value=lambda: len(connections))
    metrics.read("connections_opened_total", value=lambda: connections.opened)
    for reason in REASONS:
        metrics.read("connections_closed_total", reason, value=functools.partial(connections.closed.__getitem__, reason))


async def _http_problem(request: Request, error: Exception) -> Response:
    """Return the problem response for an unknown path or a wrong method, which Starlette refuses."""
    status = getattr(error, "status_code", 500)
    if status == 404:
        return resources.problem_response(request, NotFoundError(f"there is nothing at {request.url.path[:200]}"))
    if status == 405:
        allow = (getattr(error, "headers", None) or {}).get("Allow", "GET, HEAD")
        listed = ", ".join(sorted(allow.split(", ")))
        detail = f"{request.method[:20]} is not allowed here, only {listed}"
        return resources.problem_response(request, MethodNotAllowedError(detail, listed))
    return resources.problem_response(request, error)


async def _problem(request: Request, error: Exception) -> Response:
    return resources.problem_response(request, error)
