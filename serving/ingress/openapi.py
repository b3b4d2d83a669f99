"""The OpenAPI 3.1 document: schemas from the types that decode requests and encode responses, every status, every header."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.engines import Engine
from serving.errors import RevenueEngineError
from serving.ingress.examples import answer as answer_of
from serving.ingress.http.headers import MAX_TIMEOUT_MS, TIMEOUT
from serving.ingress.problems import KINDS, MEDIA_TYPE, Problem, ProblemKind
from serving.ingress.schemas import components
from serving.resources.resource import Operation, Resource
from serving.settings import ServerSettings

DESCRIPTION = """Scores for a shop, computed while the shopper waits.

Send one object to get one answer. Send a list to get a list in the same order; each item is an answer, or a problem with its `status`.
In optional fields `null` equals absent. Unknown fields are ignored. Errors are problem details (RFC 9457)."""

Json = dict[str, Any]

# Of a scoring request, besides 200.
SCORING_STATUSES = (400, 408, 413, 415, 422, 429, 500, 503, 504)

_TEXT: Json = {"type": "string"}

REQUEST_HEADERS: Sequence[Json] = (
    {
        "name": TIMEOUT,
        "in": "header",
        "description": "How long the caller waits, in milliseconds. A later answer is replaced by a 504.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    },
    {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Returned with the response. One that is not 1 to 128 printable ASCII characters is replaced by a new one.",
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
        "description": "no-cache: compute the answer even if a cached one exists.",
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
        "description": "hit: cached in this process. hit-shared: cached in the shared cache. joined: computed for another caller at the "
        "same time. miss, bypass (no-cache), off (no cache): computed. stale: an expired answer, because there was no time to compute one "
        "(degradation). Of a list: the same if it holds for all its answers, else mixed; none if it has no answers.",
        "schema": {"type": "string", "enum": ["hit", "hit-shared", "joined", "miss", "bypass", "off", "stale", "mixed", "none"]},
    },
    "Age": {
        "description": "Seconds since a cached answer was computed; of a list the longest.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
    "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
}

_ANSWER_HEADERS = ("X-Request-Id", "Server-Timing", "X-Cache", "Age")
_PROBLEM_HEADERS: Mapping[int, tuple[str, ...]] = {405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}
_BY_STATUS: Mapping[int, Sequence[tuple[str, ProblemKind]]] = {
    status: [(getattr(error, "code", RevenueEngineError.code), kind) for error, kind in KINDS.items() if kind.status == status]
    for status in dict.fromkeys(kind.status for kind in KINDS.values())
}


def complete(base: Json, engines: Sequence[Engine], resources: Sequence[Resource], server: ServerSettings) -> Json:
    """Return the document `base` (FastAPI's) with the questions, the resources and their components in it."""
    operations = [operation for resource in resources for operation in resource.operations]
    requests, responses = [engine.request for engine in engines], [engine.response for engine in engines]
    answers: list[Any] = [*responses, *(each.response for each in operations if each.response is not None), Problem]
    references, schemas = components(requests, answers)
    problem = references[Problem]
    scoring = {
        engine.route: {"post": _scoring_operation(engine, references[engine.request], references[engine.response], problem, server)}
        for engine in engines
    }
    reading = {
        resource.prefix + operation.path: {"get": _resource_operation(resource, operation, references)}
        for resource in resources
        for operation in resource.operations
    }
    shared = {
        "schemas": schemas,
        "headers": dict(HEADERS),
        "responses": {_name(status): _problem_response(status, problem) for status in _BY_STATUS},
    }
    return {
        **base,
        "paths": {**scoring, **reading, **base.get("paths", {})},
        "components": {**base.get("components", {}), **shared},
        "tags": [{"name": "questions"}, *({"name": resource.name, "description": resource.summary} for resource in resources)],
    }


def _resource_operation(resource: Resource, operation: Operation, references: Mapping[Any, Json]) -> Json:
    content = (
        {"text/plain": {"schema": _TEXT}}
        if operation.response is None
        else {"application/json": {"schema": references[operation.response]}}
    )
    statuses = [*operation.problems, *([] if resource.scope is None else [403])]
    document: Json = {
        "tags": [resource.name],
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {"200": {"description": operation.summary, "content": content}, **_refusals(sorted(statuses))},
    }
    if operation.parameters:
        document["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": description, "schema": _TEXT}
            for name, description in operation.parameters.items()
        ]
    return document


def _scoring_operation(engine: Engine, request: Json, response: Json, problem: Json, server: ServerSettings) -> Json:
    examples = {
        "one": {"summary": "One object", "value": dict(engine.example)},
        "list": {"summary": "A list", "value": [dict(engine.example)]},
    }
    answer = answer_of(engine)
    answered = {} if answer is None else {"examples": {"one": {"summary": "The answer to the example", "value": answer}}}
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
                "content": {"application/json": {"schema": {"oneOf": [response, answers]}, **answered}},
            },
            **_refusals(SCORING_STATUSES),
        },
    }


def _name(status: int) -> str:
    return _BY_STATUS[status][-1][1].title.title().replace(" ", "")


def _refusals(statuses: Sequence[int]) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in statuses}


def _header_references(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem_response(status: int, problem: Json) -> Json:
    return {
        "description": " ".join(f"{kind.title} (/problems/{code}). {kind.advice}" for code, kind in _BY_STATUS[status]),
        "headers": _header_references(("X-Request-Id", *_PROBLEM_HEADERS.get(status, ()))),
        "content": {MEDIA_TYPE: {"schema": problem}},
    }
