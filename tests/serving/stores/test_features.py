"""The feature store: what is published is what is read, to the last bit, whole or not at all; and it is there again after a restart."""

import asyncio
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from serving.engines.lookup import Lookup
from serving.errors import SettingsError, StoreUnavailableError
from serving.runtime.embedded import valkey
from serving.stores.features import Features, Publisher, feature_key
from tests.serving.cache_fixtures import NODE, TIMEOUT_S, Clock, FakeRedis, polite, real_redis

LOOKUP = Lookup("customer", ("one", "two", "three"), str, lambda request, stored: request, "id", "asOf")
VECTOR = np.array([1.0, 2.5, np.nan])


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with real_redis(tmp_path_factory.mktemp("home")) as url:
        yield url


def publish(url, names, vectors, lookup=LOOKUP, version="value-1", as_of_s=1_700_000_000.0):
    publisher = Publisher(url, 60.0)
    publisher.put("default", lookup, version, names, [as_of_s] * len(names), np.array(vectors))
    publisher.close()


async def read(url, *names, lookup=LOOKUP):
    features = Features(url, TIMEOUT_S)
    found = await asyncio.gather(*(features.get("default", lookup, name) for name in names))
    corrupt = features.corrupt
    await features.aclose()
    return found, corrupt


@settings(max_examples=25, deadline=None)
@given(
    name=st.text(min_size=1, max_size=256).filter(lambda name: name.encode("utf-8", "ignore").decode() == name),
    vector=st.lists(st.floats(width=64), min_size=3, max_size=3),
    as_of_s=st.floats(0, 4e9),
)
def test_what_is_published_is_read_to_the_last_bit(url, name, vector, as_of_s):
    publish(url, [name], [vector], as_of_s=as_of_s)
    (stored,), corrupt = asyncio.run(read(url, name))
    assert (stored.version, stored.as_of_s, corrupt) == ("value-1", as_of_s, 0)
    assert stored.vector.tobytes() == np.array(vector).tobytes()


async def test_who_was_never_published_is_nobody(url):
    assert await read(url, "never") == ([None], 0)


async def test_a_publication_replaces_what_was_there_and_is_forgotten_in_time(url):
    publish(url, ["again"], [VECTOR])
    publish(url, ["again"], [VECTOR * 2], version="value-2", as_of_s=5.0)
    (stored,), _ = await read(url, "again")
    assert (stored.version, stored.as_of_s, stored.vector[0]) == ("value-2", 5.0, 2.0)
    with Redis.from_url(url) as client:
        assert 0 < client.pttl(feature_key("default", LOOKUP, "again")) <= 60_000


async def test_a_vector_of_other_features_and_what_is_no_vector_are_nobody_and_counted(url):
    publish(url, ["other"], [VECTOR], dataclasses.replace(LOOKUP, names=("one", "three", "two")))
    publish(url, ["short"], [[1.0]], dataclasses.replace(LOOKUP, names=("one",)))
    with Redis.from_url(url) as client:
        client.set(feature_key("default", LOOKUP, "broken"), b"\x93\x01")
    assert await read(url, "other", "short", "broken") == ([None, None, None], 3)


async def test_kinds_of_entities_do_not_meet(url):
    publish(url, ["both"], [VECTOR])
    assert await read(url, "both", lookup=dataclasses.replace(LOOKUP, kind="product")) == ([None], 0)


async def test_a_thousand_reads_travel_together():
    async with FakeRedis(polite) as server:
        features = Features(server.url, 5.0)
        assert await asyncio.gather(*(features.get("default", LOOKUP, str(number)) for number in range(1000))) == [None] * 1000
        assert server.commands.count(b"MGET") <= 20
        await features.aclose()


async def test_what_was_read_is_good_for_a_while_and_then_read_again(url):
    clock = Clock(0.0)
    features = Features(url, TIMEOUT_S, 1.0, clock)
    publish(url, ["page"], [VECTOR])
    assert (await features.get("default", LOOKUP, "page")).version == "value-1"
    publish(url, ["page"], [VECTOR], version="value-2")
    clock.now = 0.9
    assert (await features.get("default", LOOKUP, "page")).version == "value-1"
    clock.now = 1.1
    assert (await features.get("default", LOOKUP, "page")).version == "value-2"
    await features.aclose()


async def test_how_much_is_remembered_is_bounded_the_oldest_first(url, monkeypatch):
    monkeypatch.setattr("serving.stores.features._MAX_READ", 3)
    names = [f"many-{number}" for number in range(5)]
    publish(url, names, [VECTOR] * 5)
    features = Features(url, TIMEOUT_S, 60.0, Clock(0.0))
    for name in names:
        await features.get("default", LOOKUP, name)
    publish(url, names, [VECTOR] * 5, version="value-2")
    versions = [(await features.get("default", LOOKUP, name)).version for name in reversed(names)]
    assert versions == ["value-1"] * 3 + ["value-2"] * 2
    await features.aclose()


async def test_a_store_that_does_not_answer_is_an_error_and_soon_not_asked_any_more():
    async with FakeRedis(lambda command: None) as silent:
        features = Features(silent.url, 0.01)
        for _ in range(10):
            with pytest.raises(StoreUnavailableError, match="does not answer in time"):
                await features.get("default", LOOKUP, "c")
        assert silent.commands.count(b"MGET") <= 6
        await features.aclose()


async def test_who_asks_no_more_is_told_nothing():
    async with FakeRedis(polite) as server:
        features = Features(server.url, TIMEOUT_S)
        asked = features.get("default", LOOKUP, "c")
        asked.cancel()
        await features.aclose()
        assert asked.cancelled()


def test_an_address_that_is_none_is_named_by_its_setting():
    with pytest.raises(SettingsError, match=r"features\.redis_url"):
        Features("ftp://nowhere", 1.0)


def kept(home):
    started = valkey.start_features(home, NODE)
    if started.url is None:
        pytest.skip(str(started.reason))
    return started


async def test_an_embedded_store_has_after_a_restart_what_was_published(tmp_path):
    first = kept(tmp_path)
    publish(first.url, ["c"], [VECTOR])
    first.stop()
    again = kept(tmp_path)
    try:
        (stored,), _ = await read(again.url, "c")
        assert stored.vector.tobytes() == VECTOR.tobytes()
    finally:
        again.stop()


def test_one_process_runs_the_embedded_store_of_a_home_and_others_share_it(tmp_path):
    first = kept(tmp_path)
    try:
        second = valkey.start_features(tmp_path, NODE)
        assert (second.url, second.process) == (first.url, None)
        second.stop()
        with Redis.from_url(first.url) as client:
            assert client.ping()
    finally:
        first.stop()
