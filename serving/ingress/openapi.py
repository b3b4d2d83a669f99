"""The OpenAPI 3.1 document: exact schemas from the types that decode and encode, every status, every header."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from serving.engines import Engine
from serving.errors import RevenueEngineError
from serving.ingress.http.headers import MAX_TIMEOUT_MS, TIMEOUT
from serving.ingress.problems import KINDS, MEDIA_TYPE, Kind, Problem
from serving.settings import Server

DESCRIPTION = """Questions a shop earns money with, answered while the shopper waits.

Send one object and get one answer; send a list and get a list in the same order, in which each item is an answer or a problem with its
`status`. `null` equals absent in every optional field; unknown fields are ignored. Errors are problem details (RFC 9457)."""

Json = dict[str, Any]

# What a scoring request can come to, beside its answer.
SCORING_STATUSES = (400, 408, 413, 415, 422, 429, 500, 503, 504)

_REF = "#/components/schemas/{name}"

REQUEST_HEADERS: Sequence[Json] = (
    {
        "name": TIMEOUT,
        "in": "header",
        "description": "How long the caller waits, in milliseconds; past it the answer is 504.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Comes back with the answer; one that is not 1 to 128 printable ASCII characters is replaced.",
        "schema": {"type": "string"},
    },
    {
        "name": "Priority",
        "in": "header",
        "description": "RFC 9218: u=0 is scored first, u=7 last; u=3 without it, and u=4 for a list.",
        "schema": {"type": "string", "examples": ["u=1"]},
    },
    {
        "name": "Cache-Control",
        "in": "header",
        "description": "no-cache: compute the answer even where a cached one is at hand.",
        "schema": {"type": "string"},
    },
)

HEADERS: Mapping[str, Json] = {
    "X-Request-Id": {"description": "The caller's, or a new one.", "schema": {"type": "string"}},
    "Server-Timing": {
        "description": "Milliseconds of parse, features, queue, model and encode; of a list the longest of each.",
        "schema": {"type": "string"},
    },
    "X-Cache": {
        "description": "hit: from this process. hit-shared: from the shared cache. joined: another caller's computation. miss, bypass "
        "(no-cache asked for), off: computed. stale: expired, for want of time (degradation). "
        "Of a list: the same if it holds for all its answers, else mixed; none without any.",
        "schema": {"type": "string", "enum": ["hit", "hit-shared", "joined", "miss", "bypass", "off", "stale", "mixed", "none"]},
    },
    "Age": {
        "description": "Seconds since a cached answer was computed; of a list the greatest.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
    "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
}

_ANSWER_HEADERS = ("X-Request-Id", "Server-Timing", "X-Cache", "Age")
_PROBLEM_HEADERS: Mapping[int, tuple[str, ...]] = {405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}
_BY_STATUS: Mapping[int, tuple[str, Kind]] = {
    kind.status: (getattr(error, "code", RevenueEngineError.code), kind) for error, kind in KINDS.items()
}


def complete(base: Json, engines: Sequence[Engine], server: Server) -> Json:
    """Return the document `base` (FastAPI's) with the questions, the service routes and their components in it."""
    types = [kind for engine in engines for kind in (engine.request, engine.response)]
    references, schemas = msgspec.json.schema_components([*types, Problem], ref_template=_REF)
    asked = {engine.route: (references[2 * i], references[2 * i + 1]) for i, engine in enumerate(engines)}
    problem = references[-1]
    scoring = {engine.route: {"post": _operation(engine, *asked[engine.route], problem, server)} for engine in engines}
    components = {
        "schemas": schemas,
        "headers": dict(HEADERS),
        "responses": {_name(status): _problem_response(status, problem) for status in _BY_STATUS},
    }
    return {
        **base,
        "paths": {**scoring, **_SERVICE, **base.get("paths", {})},
        "components": {**base.get("components", {}), **components},
        "tags": [{"name": "questions"}, {"name": "service"}],
    }


def _operation(engine: Engine, request: Json, response: Json, problem: Json, server: Server) -> Json:
    examples = {
        "one": {"summary": "One object", "value": dict(engine.example)},
        "list": {"summary": "A list", "value": [dict(engine.example)]},
    }
    many = {"type": "array", "items": request, "maxItems": server.max_items}
    answers = {"type": "array", "items": {"oneOf": [response, problem]}, "maxItems": server.max_items}
    return {
        "tags": ["questions"],
        "summary": engine.summary,
        "operationId": engine.name,
        "parameters": list(REQUEST_HEADERS),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"oneOf": [request, many]}, "examples": examples}},
        },
        "responses": {
            "200": {
                "description": "An answer; for a list, for each item in order, an answer or a problem with its status.",
                "headers": _header_references(_ANSWER_HEADERS),
                "content": {"application/json": {"schema": {"oneOf": [response, answers]}}},
            },
            **_refusals(SCORING_STATUSES),
        },
    }


def _name(status: int) -> str:
    return _BY_STATUS[status][1].title.title().replace(" ", "")


def _refusals(statuses: Sequence[int]) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in statuses}


def _header_references(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem_response(status: int, problem: Json) -> Json:
    code, kind = _BY_STATUS[status]
    return {
        "description": f"{kind.title} (/problems/{code}). {kind.advice}",
        "headers": _header_references(("X-Request-Id", *_PROBLEM_HEADERS.get(status, ()))),
        "content": {MEDIA_TYPE: {"schema": problem}},
    }


def _get(name: str, summary: str, content: Json, *refusals: int, **more: Any) -> Json:
    answer = {"description": summary, "content": content}
    return {
        "get": {"tags": ["service"], "operationId": name, "summary": summary, "responses": {"200": answer, **_refusals(refusals)}, **more}
    }


def _object(**properties: Json) -> Json:
    return {"application/json": {"schema": {"type": "object", "properties": properties, "required": list(properties)}}}


_TEXT: Json = {"type": "string"}

_SERVICE: Json = {
    "/": _get(
        "index",
        "What is here.",
        _object(name=_TEXT, version=_TEXT, docs=_TEXT, openapi=_TEXT, questions={"type": "array", "items": {"type": "object"}}),
    ),
    "/health/live": _get("live", "200 while the process can answer at all.", _object(status={"const": "live"})),
    "/health/ready": _get(
        "ready",
        "200 when every model is loaded and warm and the server is not draining.",
        _object(status={"const": "ready"}, models={"type": "object", "additionalProperties": _TEXT}),
        503,
    ),
    "/metrics": _get("metrics", "Metrics of all replicas of this node, for Prometheus.", {"text/plain": {"schema": _TEXT}}),
    "/problems/{code}": _get(
        "problem",
        "What the type of a problem means.",
        _object(type=_TEXT, title=_TEXT, status={"type": "integer"}, advice=_TEXT),
        404,
        parameters=[{"name": "code", "in": "path", "required": True, "schema": _TEXT}],
    ),
}
