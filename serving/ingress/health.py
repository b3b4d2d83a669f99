"""What looks after a server asks: is it alive, is it ready, what has it counted, what is here."""

import asyncio
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import NotFoundError, NotReadyError, RevenueEngineError
from serving.ingress import problems
from serving.ingress.endpoint import Endpoint
from serving.ingress.http.headers import request_id
from serving.ingress.http.lifecycle import State
from serving.ingress.http.response import to_starlette
from serving.ingress.pool_client import Relay
from serving.metrics.collect import Metrics

_encode = msgspec.json.Encoder().encode
_UNCACHED = {"Cache-Control": "no-store"}


def release() -> str:
    """Return the version of this distribution, "0" when it runs from a folder that was never installed."""
    try:
        return version("revenue-engine")
    except PackageNotFoundError:
        return "0"


def refusal(request: Request, error: Exception) -> Response:
    """Return an error as the response to a request of Starlette's."""
    return to_starlette(problems.answer(error, request_id(dict(request.scope["headers"]))))


def _json(content: object) -> Response:
    return Response(_encode(content), media_type="application/json", headers=_UNCACHED)


class Health:
    """The routes for whoever looks after the server; they say nothing that a caller may not know."""

    def __init__(self, endpoints: Mapping[str, Endpoint | Relay], state: State, metrics: Metrics) -> None:
        self._questions = [endpoint.question for endpoint in endpoints.values()]
        self._state = state
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """Return the routes; each answers HEAD as well."""
        table = {
            "/": self.index,
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/metrics": self.page,
            "/problems/{code}": self.problem,
        }
        return [Route(path, endpoint) for path, endpoint in table.items()]

    async def index(self, _: Request) -> Response:
        """Return what is here."""
        questions = [{"name": q.engine.name, "route": q.engine.route, "summary": q.engine.summary} for q in self._questions]
        return _json({"name": "revenue-engine", "version": release(), "docs": "/docs", "openapi": "/openapi.json", "questions": questions})

    async def live(self, _: Request) -> Response:
        """Return 200: whoever can answer is alive."""
        return _json({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """Return 200 with the version of every live model, or 503 with what is still missing."""
        missing = [question.engine.name for question in self._questions if question.lacking]
        if self._state.draining:
            return refusal(request, NotReadyError("the server is draining"))
        if missing:
            return refusal(request, NotReadyError(f"no model is live yet for {', '.join(missing)}"))
        if not self._state.ready:
            return refusal(request, NotReadyError("the server is starting"))
        models = {question.engine.name: question.version for question in self._questions if question.ready}
        choices = {question.engine.name: list(question.choices) for question in self._questions}
        return _json({"status": "ready", "models": models, "choices": choices})

    async def page(self, request: Request) -> Response:
        """Return the metrics of the whole node; reading its files must not hold up anybody's answer."""
        self._metrics.flush()
        page, content_type = await asyncio.to_thread(self._metrics.page, request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": content_type, **_UNCACHED})

    async def problem(self, request: Request) -> Response:
        """Return what a problem's `type` means."""
        code = request.path_params["code"]
        for cls, kind in problems.ALL.items():
            if getattr(cls, "code", RevenueEngineError.code) == code:
                return _json({"type": f"/problems/{code}", "title": kind.title, "status": kind.status, "advice": kind.advice})
        return refusal(request, NotFoundError(f"there is no problem of type {code[:100]}"))
