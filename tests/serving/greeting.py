"""A tiny question for the tests of the ingress: real types, a real Question and Batcher, and a scorer that only counts."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import httpx
import msgspec
from msgspec import Meta, Struct

from serving import settings as configuration
from serving.auth.principals import Principal
from serving.engines import Engine
from serving.errors import FieldProblem, InvalidRequestError, TooLargeError
from serving.ingress.api import App, build
from serving.ingress.decoding.reading_process import ReadingProcess
from serving.ingress.endpoint import Endpoint
from serving.ingress.http.lifecycle import State
from serving.ingress.request_log import AccessLog
from serving.metrics.collect import Metrics
from serving.scoring.answer import Answer, Cancel, Done
from serving.scoring.cache.cache import Cache
from serving.scoring.cache.lru import LruCache
from serving.scoring.question import Question
from serving.settings import Settings

ROUTE = "/v1/greeting"
JSON = {b"content-type": b"application/json"}
MAX_EVENTS = 5


class ApiModel(Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    pass


class Event(ApiModel, frozen=True, kw_only=True):
    type: Annotated[str, Meta(max_length=10)]
    timestamp: Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0)]


class Place(ApiModel, frozen=True, kw_only=True):
    region: str | None = None
    latitude: Annotated[Annotated[float, Meta(ge=-90, le=90)] | None, Meta(description="Degrees.")] = None


class BehaviorData(ApiModel, frozen=True, kw_only=True):
    page_views: Annotated[float, Meta(ge=0, le=1e9)]
    interactions: list[Event] = []
    weights: dict[str, Annotated[float, Meta(ge=0)]] = {}


class Greeting(ApiModel, frozen=True, kw_only=True):
    """A request."""

    session_id: Annotated[str, Meta(min_length=1, max_length=64)]
    behavior_data: BehaviorData
    place: Place | None = None
    hour: Annotated[Annotated[float, Meta(ge=0, lt=24)] | None, Meta(description="Local hour.")] = None
    max_words: int | None = None


class Greeted(ApiModel, frozen=True, kw_only=True):
    """An answer."""

    session_id: str
    events: int
    rows: Annotated[int, Meta(description="How many requests were scored together.")]
    model_version: str


def check(request: Greeting) -> None:
    events = request.behavior_data.interactions
    if len(events) > MAX_EVENTS:
        raise TooLargeError(f"{len(events)} interactions, at most {MAX_EVENTS}", "behaviorData.interactions")
    bad = [FieldProblem(f"behaviorData.interactions[{i}].type", "is rude") for i, e in enumerate(events) if e.type == "rude"]
    if bad:
        raise InvalidRequestError(bad)


class CountingScorer:
    """A Scorer that counts events; `broken` is raised for the whole batch."""

    def __init__(self, version: str = "greeting-1") -> None:
        self.version = version
        self.broken: Exception | None = None

    def refusal(self, request: Greeting) -> None:
        """Return None: no request is refused."""

    def columns(self, requests: Sequence[Greeting]) -> list[int]:
        if self.broken is not None:
            raise self.broken
        return [len(request.behavior_data.interactions) for request in requests]

    def tune(self, live: object = None) -> list[str]:
        return ["one row at a time: there is nothing to choose"]

    def without_explanations(self, columns: list[int]) -> list[int]:
        return columns

    def base_rate(self, request: Greeting) -> Greeted | None:
        return None

    def run(self, columns: list[int]) -> list[int]:
        return columns

    def rows(self, requests: Sequence[Greeting], answers: list[int]) -> list[Greeted]:
        return [
            Greeted(session_id=request.session_id, events=events, rows=len(answers), model_version=self.version)
            for request, events in zip(requests, answers, strict=True)
        ]

    def table(self, frame: Any) -> Any:
        raise NotImplementedError

    def output_columns(self, predictions: Any) -> dict[str, Any]:
        raise NotImplementedError


EXAMPLE: Mapping[str, Any] = {
    "sessionId": "s-1",
    "behaviorData": {"pageViews": 3, "interactions": [{"type": "click", "timestamp": "2026-11-22T09:00:00Z"}]},
}
GREETING = Engine(
    name="greeting",
    route=ROUTE,
    summary="How should this session be greeted?",
    request=Greeting,
    response=Greeted,
    example=EXAMPLE,
    check=check,
    load=lambda bundle, settings: CountingScorer(),
)


class Scripted:
    """A question with scripted outcomes, one after the other; the last one repeats."""

    engine = GREETING
    ready = True
    lacking = False
    version = "greeting-0"
    demo = False
    problem = None
    choices = ()

    def __init__(self, *outcomes: Answer | Exception) -> None:
        self._outcomes = list(outcomes)
        self.calls: list[tuple[Any, float, bool]] = []

    pressed = False

    def refusal(self, deadline: float, priority: int = 0) -> None:
        return None

    def begin(
        self, request: Struct, done: Done, *, principal: Principal, deadline: float, fresh: bool = False, priority: int = 0
    ) -> Cancel:
        self.calls.append((request, deadline, fresh))
        outcome = self._outcomes[min(len(self.calls), len(self._outcomes)) - 1]
        return asyncio.get_running_loop().call_soon(done, outcome).cancel

    def ask(
        self, request: Struct, *, principal: Principal, deadline: float, fresh: bool = False, priority: int = 0
    ) -> "asyncio.Future[Answer]":
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(outcome: Answer | Exception) -> None:
            answer.set_exception(outcome) if isinstance(outcome, Exception) else answer.set_result(outcome)

        self.begin(request, done, principal=principal, deadline=deadline, fresh=fresh, priority=priority)
        return answer


def configured(**server: Any) -> Settings:
    return configuration.load(server=server)


@contextmanager
def question(settings: Settings, scorer: CountingScorer | None = None) -> Iterator[Question]:
    """Yield a question with its own cache, live when there is a scorer."""
    with ThreadPoolExecutor(1) as executor:
        made = Question(GREETING, settings, executor, Cache(LruCache(1_000_000), None, settings.cache.ttl_s))
        if scorer is not None:
            made.switch(scorer)
        yield made


def endpoint(scored: Any, settings: Settings, metrics: Metrics | None = None) -> Endpoint:
    return Endpoint(scored, settings.server, metrics or Metrics(), ReadingProcess())


def app(scored: Any, settings: Settings, state: State | None = None, access_log: AccessLog | None = None) -> App:
    return build([scored], state or State(ready=True), settings, Metrics(), ReadingProcess(), access_log)


def client(application: App) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def encoded(**changes: Any) -> bytes:
    """Return the example with other top-level fields."""
    return msgspec.json.encode({**EXAMPLE, **changes})
