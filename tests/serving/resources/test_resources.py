"""Resources: routes, permissions and OpenAPI follow from the table."""

import pytest

from serving.auth.principals import Principal
from serving.engines.demo import DemoScorer
from serving.engines.types import ApiModel
from serving.ingress import api, resources
from serving.ingress.http.lifecycle import State
from serving.resources import RESOURCES
from serving.resources.resource import Operation, Resource, ResourceRequest
from serving.scoring.answer import Answer
from tests.serving.greeting import ROUTE, CountingScorer, Scripted, app, client, configured, question

ANSWER = Answer(b"{}", "miss", 0.0)
MODEL = {
    "task": "greeting",
    "route": ROUTE,
    "modelVersion": "greeting-1",
    "simulated": False,
    "required": True,
    "choices": ["one row at a time: there is nothing to choose"],
}


class Owner(ApiModel, frozen=True, kw_only=True):
    """Who made the request."""

    tenant: str
    number: str


async def _owner(request: ResourceRequest) -> Owner:
    return Owner(tenant=request.principal.tenant, number=request.parameters["number"])


OWNERS = Resource(
    name="owners",
    prefix="/v1/owners",
    summary="Owners.",
    scope="owners:read",
    operations=(Operation("/{number}", "owner", "One owner.", _owner, Owner, parameters={"number": "A number."}),),
)


async def test_models_lists_the_live_version_of_each_question() -> None:
    settings = configured()
    with question(settings) as asked:
        async with client(app(asked, settings)) as http:
            assert (await http.get("/v1/models/greeting")).json() == {**MODEL, "modelVersion": None, "choices": []}
            scorer = CountingScorer()
            asked.switch(scorer, scorer.tune())
            assert (await http.get("/v1/models")).json() == {"models": [MODEL]}
            one = await http.get("/v1/models/greeting")
            assert (one.status_code, one.json(), one.headers["cache-control"]) == (200, MODEL, "no-store")
            assert (await http.head("/v1/models")).status_code == 200
            assert (await http.get("/health/ready")).json()["demo"] == []
            asked.switch(DemoScorer(CountingScorer()))
            assert (await http.get("/v1/models/greeting")).json()["simulated"] is True
            assert (await http.get("/health/ready")).json()["demo"] == ["greeting"]


async def test_a_question_that_does_not_exist_has_no_model() -> None:
    async with client(app(Scripted(ANSWER), configured())) as http:
        answer = await http.get("/v1/models/mood", headers={"x-request-id": "r-1"})
        assert (answer.status_code, answer.json()["type"], answer.json()["requestId"]) == (404, "/problems/not-found", "r-1")
        assert "greeting" in answer.json()["detail"]
        assert (await http.post("/v1/models")).status_code == 405


async def test_a_resource_is_one_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its routes, its permissions and its part of the OpenAPI document follow from the entry."""
    monkeypatch.setattr(api, "_RESOURCES", (*api._RESOURCES, OWNERS))
    principal = Principal(tenant="shop", scopes=frozenset({"owners:read"}))
    nobody = Principal(scopes=frozenset())
    monkeypatch.setattr(resources, "authenticate", lambda authorization: principal if authorization == b"Bearer x" else nobody)
    async with client(app(Scripted(ANSWER), configured())) as http:
        allowed = await http.get("/v1/owners/7", headers={"authorization": "Bearer x"})
        assert (allowed.status_code, allowed.json()) == (200, {"tenant": "shop", "number": "7"})
        refused = await http.get("/v1/owners/7")
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
        assert "owners:read" in refused.json()["detail"]
        assert (await http.get("/v1/models", headers={"authorization": "Bearer x"})).status_code == 403
        assert (await http.get("/health/live")).status_code == 200, "health requires no scope"
        document = (await http.get("/openapi.json")).json()
    operation = document["paths"]["/v1/owners/{number}"]["get"]
    assert (operation["tags"], set(operation["responses"])) == (["owners"], {"200", "403"})
    assert {"name": "owners", "description": "Owners."} in document["tags"]


async def test_only_unlimited_resources_are_answered_beyond_the_bound() -> None:
    state = State(ready=True, in_flight=5)
    async with client(app(Scripted(ANSWER), configured(max_connections=5), state)) as http:
        statuses = {path: (await http.get(path)).status_code for path in ("/health/live", "/health/ready", "/metrics", "/v1/models", "/")}
    assert statuses == {"/health/live": 200, "/health/ready": 200, "/metrics": 200, "/v1/models": 429, "/": 429}


def test_names_and_paths_are_unique_and_documented() -> None:
    document = app(Scripted(ANSWER), configured()).openapi()
    operations = [(resource.prefix + operation.path, operation.name) for resource in RESOURCES for operation in resource.operations]
    assert len({path for path, _ in operations}) == len({name for _, name in operations}) == len(operations)
    assert {path for path, _ in operations} <= document["paths"].keys()
    assert {resource.name for resource in RESOURCES} <= {tag["name"] for tag in document["tags"]}
