"""What describes the server itself: the index, the pages of problem types, and Swagger UI, which needs no file from another server."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from fastapi.openapi.docs import get_swagger_ui_html
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from serving.engines.types import ApiModel
from serving.errors import NotFoundError, RevenueEngineError
from serving.ingress import problems
from serving.resources.resource import Operation, Resource, ResourceRequest

# A package that carries the files of Swagger UI 5, which OpenAPI 3.1 needs; nothing else of it is used.
PACKAGE = "fastapi_offline"
ASSETS = "/docs/assets"


def release() -> str:
    """Return the version of this distribution, "0" if it is not installed."""
    try:
        return version("revenue-engine")
    except PackageNotFoundError:
        return "0"


class QuestionSummary(ApiModel, frozen=True, kw_only=True):
    """One question of the server."""

    name: Annotated[str, Meta(description="The question.")]
    route: Annotated[str, Meta(description="The path to POST to.")]
    summary: Annotated[str, Meta(description="What it answers.")]


class Index(ApiModel, frozen=True, kw_only=True):
    """What the server offers."""

    name: Annotated[str, Meta(description="revenue-engine.")]
    version: Annotated[str, Meta(description="The release.")]
    docs: Annotated[str, Meta(description="Path of the interactive documentation.")]
    openapi: Annotated[str, Meta(description="Path of the OpenAPI document.")]
    questions: Annotated[list[QuestionSummary], Meta(description="What can be asked.")]


class ProblemType(ApiModel, frozen=True, kw_only=True):
    """What a problem type means."""

    type: Annotated[str, Meta(description="Path of this description.")]
    title: Annotated[str, Meta(description="The kind of problem in words.")]
    status: Annotated[int, Meta(ge=400, le=599, description="The HTTP status.")]
    advice: Annotated[str, Meta(description="What to do about it.")]


async def index(request: ResourceRequest) -> Index:
    """Return the questions of the server and where its documentation is."""
    engines = [question.engine for question in request.replica.questions]
    questions = [QuestionSummary(name=engine.name, route=engine.route, summary=engine.summary) for engine in engines]
    return Index(name="revenue-engine", version=release(), docs="/docs", openapi="/openapi.json", questions=questions)


async def problem(request: ResourceRequest) -> ProblemType:
    """Return the description of a problem type. Raises NotFoundError."""
    code = request.parameters["code"]
    for error, kind in problems.ALL.items():
        if getattr(error, "code", RevenueEngineError.code) == code:
            return ProblemType(type=f"/problems/{code}", title=kind.title, status=kind.status, advice=kind.advice)
    raise NotFoundError(f"there is no problem type {code[:100]!r}")


DESCRIPTION = Resource(
    name="server",
    prefix="",
    summary="What this server offers, and what its problem types mean.",
    scope=None,
    operations=(
        Operation("/", "index", "The questions of this server, and where its documentation is.", index, Index),
        Operation(
            "/problems/{code}",
            "problem",
            "What a problem type means.",
            problem,
            ProblemType,
            parameters={"code": "The last part of the `type` of a problem."},
            problems=(404,),
        ),
    ),
)


def assets() -> Path:
    """Return the folder with the files of Swagger UI."""
    found = find_spec(PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    if not places:
        raise ModuleNotFoundError(f"{PACKAGE} with the files of /docs is not installed: pip install fastapi-offline")
    return Path(places[0]) / "static"


def routes() -> list[BaseRoute]:
    """Return the page at /docs and its assets."""
    return [Route("/docs", _page), Mount(ASSETS, StaticFiles(directory=assets()))]


async def _page(_: Request) -> Response:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="revenue-engine",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},  # the default validator is another server
    )
