"""The ASGI application, built from the questions: FastAPI carries it and its documentation, scoring goes past FastAPI."""

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
from serving.ingress import docs, openapi
from serving.ingress.endpoint import Endpoint, Question
from serving.ingress.health import Health, refusal, release
from serving.ingress.http import body, routes
from serving.ingress.http.lifecycle import Draining, State
from serving.ingress.http.response import respond
from serving.ingress.overload.reader import OverloadReader
from serving.ingress.overload.shedder import Shedder
from serving.ingress.pool_client import Relay
from serving.metrics.collect import Metrics
from serving.settings import Server, Settings


class Scoring:
    """One hot route as an ASGI application."""

    def __init__(self, route: routes.Route, limit: int) -> None:
        self._route = route
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and answer. A refused body ends the connection: some of it may still be on its way."""
        headers = dict(scope["headers"])
        try:
            content = await body.read(headers, receive, self._limit)
        except body.DisconnectedError:
            return
        except RevenueEngineError as error:
            answer = self._route.refuse(headers, error).closing()
        else:
            answer = await routes.ask(self._route.begin, headers, content)
        await respond(answer, send)


class Shortcut:
    """POST to a hot route goes straight to it, everything else to `app`, whose layers cost as much as a score."""

    def __init__(self, app: ASGIApp, scoring: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._scoring = scoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._app
        if scope["type"] == "http" and scope["method"] == "POST":
            app = self._scoring.get(scope["path"], app)
        await app(scope, receive, send)


class App(FastAPI):
    """FastAPI with our outermost layers and the exact OpenAPI document. `endpoints`: by the name of the engine.

    `hot` is for the listener, whose connections answer its routes past all of this; they are answered here as well, for whoever serves
    the application in another way and for what is not a plain request.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint | Relay], state: State, server: Server) -> None:
        super().__init__(
            title="revenue-engine",
            version=release(),
            description=openapi.DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            swagger_ui_oauth2_redirect_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: _http_problem, Exception: _problem},
        )
        self.endpoints = endpoints
        own = [endpoint for endpoint in endpoints.values() if isinstance(endpoint, Endpoint)]
        asked = {endpoint.question.engine.route.encode("ascii"): endpoint for endpoint in own}
        gate = OverloadReader(Shedder(asked, server.default_timeout_ms, server.max_body_bytes))
        self.hot = routes.Hot({}, state, server.max_connections, server.max_body_bytes, gate=gate)
        self._server = server
        self._engines: list[Engine] = [endpoint.question.engine for endpoint in endpoints.values()]
        self._scoring: dict[str, ASGIApp] = {}
        for endpoint in endpoints.values():
            self.add_hot(endpoint.question.engine.route, routes.Route(endpoint.begin, endpoint.refuse))
        self._outermost = Draining(Shortcut(super().__call__, self._scoring), state, server.max_connections)

    def add_hot(self, path: str, route: routes.Route) -> None:
        """Have POST to `path` answered by `route`: a plain ASCII path, without parameters."""
        scoring = Scoring(route, self._server.max_body_bytes)
        self.hot.routes[path.encode("ascii")] = route
        self._scoring[path] = scoring
        self.router.routes.append(Route(path, scoring, methods=["POST"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, through our layers first."""
        await self._outermost(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document: FastAPI's own with every question in it."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi(), self._engines, self._server)
        return self.openapi_schema


def build(questions: Sequence[Question | Relay], state: State, settings: Settings, metrics: Metrics) -> App:
    """Return the application that answers `questions`."""
    endpoints = {
        question.engine.name: question if isinstance(question, Relay) else Endpoint(question, settings.server, metrics)
        for question in questions
    }
    metrics.read("in_flight", value=lambda: state.in_flight)
    app = App(endpoints, state, settings.server)
    app.router.routes.extend([*Health(endpoints, state, metrics).routes(), *docs.routes()])
    return app


async def _http_problem(request: Request, error: Exception) -> Response:
    """Return the problem for what Starlette refuses: an unknown path, a wrong method."""
    status = getattr(error, "status_code", 500)
    if status == 404:
        return refusal(request, NotFoundError(f"there is nothing at {request.url.path[:200]}"))
    if status == 405:
        allow = (getattr(error, "headers", None) or {}).get("Allow", "GET, HEAD")
        listed = ", ".join(sorted(allow.split(", ")))
        return refusal(request, MethodNotAllowedError(f"{request.method[:20]} is not allowed here, only {listed}", listed))
    return refusal(request, error)


async def _problem(request: Request, error: Exception) -> Response:
    return refusal(request, error)
