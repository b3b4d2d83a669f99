"""What is remembered of sessions: read back as it was written, by a real Redis, or not at all, and said so."""

import asyncio

import msgspec
import pytest

from serving.app import Application
from serving.engines.journey.scorer import JOURNEY
from serving.engines.session_memory import SessionMemory
from serving.errors import StoreUnavailableError
from serving.settings import Settings
from serving.stores.sessions import Sessions
from tests.serving.cache_fixtures import real_redis
from training.registry.registry import Registry


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with real_redis(tmp_path_factory.mktemp("home")) as url:
        yield url


MEMORY = SessionMemory(
    "session", lambda request: "s", lambda request: True, lambda request, content: request, lambda *_: [], keep_s=60, field="remember"
)


async def test_what_is_written_is_read_and_forgotten_in_time(url):
    sessions = Sessions(url, 5.0)
    try:
        assert await sessions.read("default", MEMORY, "nobody") is None
        await asyncio.gather(*(sessions.write("default", MEMORY, f"s-{number}", b"%d" % number) for number in range(200)))
        assert await sessions.read("default", MEMORY, "s-150") == b"150"
        await sessions.write("default", MEMORY, "s-150", b"\x00new")
        assert await sessions.read("default", MEMORY, "s-150") == b"\x00new"
        assert 50_000 < await sessions.link.redis.pttl("revenue-engine:sessions:1:default:session:s-150") <= 60_000
    finally:
        await sessions.aclose()


async def test_where_redis_is_not_there_whoever_waits_is_told():
    sessions = Sessions("redis://127.0.0.1:1/0", 0.2)
    try:
        for call in (sessions.write("default", MEMORY, "s", b"x"), sessions.read("default", MEMORY, "s")):
            with pytest.raises(StoreUnavailableError):
                await call
    finally:
        await sessions.aclose()


async def test_a_server_without_a_store_says_so_and_names_the_field(tmp_path, bundle_of):
    Registry(str(tmp_path / "models"), tmp_path / "fetched").add(bundle_of("journey").path, alias="champion")
    settings = Settings(home=tmp_path, models={"registry": str(tmp_path / "models")}, cache={"enabled": False})
    async with Application(settings, engines=[JOURNEY]) as application:
        answer = await _asked(application, {"events": [], "remember": True})
    assert (answer.status, msgspec.json.decode(answer.body)["field"]) == (422, "remember")


async def test_a_session_goes_on_from_request_to_request_over_the_api(tmp_path, bundle_of, url):
    """Told in two requests, the second with what is new, the answer is that of the whole; what is not remembered is named."""
    Registry(str(tmp_path / "models"), tmp_path / "fetched").add(bundle_of("journey").path, alias="champion")
    settings = Settings(
        home=tmp_path,
        models={"registry": str(tmp_path / "models")},
        cache={"enabled": True},
        features={"redis_url": url, "timeout_ms": 5000},
    )
    events = [{"type": "page_view", "timestamp": 1_763_640_000_000 + place * 9_000, "pageKind": str(place % 5)} for place in range(6)]
    async with Application(settings, engines=[JOURNEY]) as application:
        first = await _asked(application, {"events": events[:4], "remember": True})
        assert msgspec.json.decode(first.body)["knownEvents"] == 4
        rest = {"events": events[4:], "eventsBefore": 4, "remember": True}
        second, again = [msgspec.json.decode((await _asked(application, rest)).body) for _ in range(2)]
        whole = msgspec.json.decode((await _asked(application, {"events": events})).body)
        for name in ("conversionProbability", "exitProbability", "nextSteps", "friction", "knownEvents"):
            assert second[name] == again[name] == whole[name]
        lost = await _asked(application, {"events": [], "eventsBefore": 9})
        assert (lost.status, msgspec.json.decode(lost.body)["field"]) == (422, "eventsBefore")


async def _asked(application, fields):
    body = msgspec.json.encode({"sessionId": "s-1", "asOf": "2025-11-20T13:00:00Z", **fields})
    return await application.api.endpoints["journey"].answer({b"content-type": b"application/json"}, body)
