"""A real Valkey for the tests of the cache."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.serving.cache_fixtures import real_redis


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_redis(tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture
def emptied(valkey: str) -> str:
    with Redis.from_url(valkey) as client:
        client.flushall()
    return valkey
