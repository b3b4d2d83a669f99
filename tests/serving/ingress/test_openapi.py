"""The OpenAPI document is exact: schemathesis sends whatever the document allows, and more, and every answer conforms."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from serving.engines import ENGINES, Engine
from serving.ingress.api import build
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.http.lifecycle import State
from serving.metrics.collect import Metrics
from serving.scoring.answer import Answer
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.lru import LruCache
from serving.scoring.question import Question, score
from tests.serving.greeting import GREETING, JSON, CountingScorer, Scripted, app, client, configured, encoded, endpoint

DOCUMENT = app(Scripted(Answer(b"{}", "miss", 0.0)), configured()).openapi()


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert {"/v1/greeting", "/health/live", "/health/ready", "/metrics", "/"} <= DOCUMENT["paths"].keys()
    assert "FastAPI" not in str(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_resolves() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, Mapping):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = references(DOCUMENT)
    assert found
    for reference in found:
        node: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_a_question_documents_its_statuses_headers_and_bounds() -> None:
    operation = DOCUMENT["paths"]["/v1/greeting"]["post"]
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "429", "500", "503", "504"}
    named = {parameter["name"] for parameter in operation["parameters"]}
    assert named == {"X-Request-Timeout-Ms", "X-Request-Id", "Priority", "Cache-Control"}
    assert {"Server-Timing", "X-Cache", "Age", "X-Request-Id"} <= operation["responses"]["200"]["headers"].keys()
    one, many = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert many == {"type": "array", "items": one, "maxItems": 1000}
    response = DOCUMENT["components"]["responses"]["Overloaded"]
    assert list(response["content"]) == ["application/problem+json"]
    assert "Retry-After" in response["headers"]


@pytest.mark.parametrize("engine", [*ENGINES, GREETING], ids=lambda engine: engine.name)
def test_an_engines_example_is_valid_against_its_own_document(engine: Engine) -> None:
    question = Scripted(Answer(b"{}", "miss", 0.0))
    question.engine = engine
    document = app(question, configured()).openapi()
    content = document["paths"][engine.route]["post"]["requestBody"]["content"]["application/json"]
    validator = Draft202012Validator({**content["schema"], "components": document["components"]})
    for example in content["examples"].values():
        validator.validate(example["value"])
    assert not validator.is_valid({})
    assert not validator.is_valid([{}])


def document_of(engine: Engine) -> Any:
    question = Scripted(Answer(b"{}", "miss", 0.0))
    question.engine = engine
    return app(question, configured()).openapi()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_the_example_of_an_answer_has_what_an_answer_of_a_model_has(engine: Engine, bundle_of: Any) -> None:
    document = document_of(engine)
    content = document["paths"][engine.route]["post"]["responses"]["200"]["content"]["application/json"]
    example = content["examples"]["one"]["value"]
    Draft202012Validator({**content["schema"], "components": document["components"]}).validate(example)
    scorer = engine.load(bundle_of(engine.name), configured())
    answer = msgspec.json.decode(score(scorer, [engine.decode_example()]).bodies[0])
    assert example.keys() == answer.keys()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_no_field_has_a_default_and_every_one_is_described(engine: Engine) -> None:
    document = document_of(engine)
    schemas = document["components"]["schemas"]

    def described(schema: Any) -> bool:
        targets = [schema, *schema.get("anyOf", ()), schema.get("items", {})]
        return any("description" in one or "description" in schemas.get(one.get("$ref", "").rpartition("/")[2], {}) for one in targets)

    fields = {f"{name}.{field}": one for name, schema in schemas.items() for field, one in schema.get("properties", {}).items()}
    assert [field for field, one in fields.items() if "default" in one] == []
    assert [field for field, one in fields.items() if not described(one)] == []
    assert '"items": false' not in msgspec.json.encode(document).decode().replace(":", ": ")


def test_the_fields_of_answers_are_required_and_those_of_requests_only_where_they_must_be_sent() -> None:
    schemas = document_of(ENGINES[0])["components"]["schemas"]
    response = schemas["PurchasePredictionResponse"]
    assert response["required"] == list(response["properties"])
    assert {"sessionId", "behaviorData"} <= set(schemas["PurchasePredictionRequest"]["required"])
    assert "asOf" not in schemas["PurchasePredictionRequest"]["required"]
    assert "problems" not in schemas["Problem"]["required"]


async def test_the_documented_bounds_of_the_deadline_are_those_of_the_server() -> None:
    schema = DOCUMENT["paths"]["/v1/greeting"]["post"]["parameters"][0]["schema"]
    bounds = {schema["minimum"] - 1: 422, schema["minimum"]: 200, schema["maximum"]: 200, schema["maximum"] + 1: 422}
    ask = endpoint(Scripted(Answer(b"{}", "miss", 0.0)), configured())
    answers = {ms: await ask.answer({**JSON, b"x-request-timeout-ms": b"%d" % ms}, encoded()) for ms in bounds}
    assert {ms: answer.status for ms, answer in answers.items()} == bounds


async def test_the_document_is_served() -> None:
    async with client(app(Scripted(Answer(b"{}", "miss", 0.0)), configured())) as http:
        assert (await http.get("/openapi.json")).json() == msgspec.json.decode(msgspec.json.encode(DOCUMENT))


Case = schemathesis.Case[Any]

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
]
BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def schema_of(engine: Engine, scorer: Any) -> Any:
    """Return the schema, as an application with `scorer` serves it."""
    configuration = configured(max_items=20, default_timeout_ms=30_000)
    asked = Question(engine, configuration, ThreadPoolExecutor(1), Cache(LruCache(1_000_000), None, 60.0))
    asked.switch(scorer)
    application = build([asked], State(ready=True), configuration, Metrics(), ReadingProcess())
    return schemathesis.openapi.from_asgi("/openapi.json", application)


def hold(case: Case) -> None:
    """Compare one answer with the document; a request that the document does not allow must have been refused."""
    answer = case.call_and_validate(checks=CHECKS)
    content = case.operation.definition.raw.get("requestBody", {}).get("content", {})
    # A wrong item of a list is a problem in its place: the request as a whole is answered.
    if content and not isinstance(case.body, list):
        body = {**content["application/json"]["schema"], "components": case.operation.schema.raw_schema["components"]}
        if not Draft202012Validator(body).is_valid(case.body):
            assert answer.status_code in (400, 405, 413, 415, 422)


@schema_of(GREETING, CountingScorer()).parametrize()  # type: ignore[untyped-decorator]
@BOUNDED
def test_the_application_conforms_to_its_document(case: Case) -> None:
    hold(case)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_real_engine_conforms_to_its_document(engine: Engine, bundle_of: Any) -> None:
    operation = schema_of(engine, engine.load(bundle_of(engine.name), configured()))[engine.route]["POST"]
    allowed, forbidden = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @BOUNDED
    @given(case=allowed | forbidden)
    def ask(case: Case) -> None:
        hold(case)

    ask()
