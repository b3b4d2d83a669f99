"""The interactive documentation, all of it from this machine: a browser without a way out shows it as well."""

from importlib.util import find_spec
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

# A package that carries Swagger UI 5, which OpenAPI 3.1 needs; only its files are used.
PACKAGE = "fastapi_offline"
ASSETS = "/docs/assets"


def assets() -> Path:
    """Return the folder of Swagger UI's files."""
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
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},  # the validator would be a server elsewhere
    )
