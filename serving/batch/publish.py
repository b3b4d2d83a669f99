"""Publish a scored base to the feature store: collected while it is scored, stored when the output is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import polars as pl

from serving.auth.principals import DEFAULT_TENANT
from serving.engines import Engine
from serving.errors import StoreUnavailableError
from serving.progress import Progress
from serving.runtime.embedded import valkey
from serving.settings import Settings
from serving.stores.features import Publisher

_ROWS = 2_000  # in one round trip
_DAY_S = 86_400.0


class Publication:
    """The rows of a batch's output that are published."""

    def __init__(self, engine: Engine, version: str) -> None:
        assert engine.lookup is not None, f"{engine.name} has no lookup: this is a bug"
        self._lookup, self._version = engine.lookup, version
        self._parts: list[pl.DataFrame] = []

    def add(self, answers: pl.DataFrame) -> None:
        """Collect answers."""
        self._parts.append(answers.select(self._lookup.entity, self._lookup.as_of, *self._lookup.names))

    def store(self, settings: Settings, progress: Progress) -> int:
        """Store the answers and return their number. Raises StoreUnavailableError; each entity then has its old vector or the new."""
        rows = pl.concat(self._parts) if self._parts else pl.DataFrame()
        with _url(settings) as url:
            publisher = Publisher(url, settings.features.keep_days * _DAY_S)
            try:
                for start in range(0, rows.height, _ROWS):
                    self._put(publisher, rows[start : start + _ROWS])
                    progress(f"{start:,} customers published", start / rows.height)
            finally:
                publisher.close()
        return rows.height

    def _put(self, publisher: Publisher, rows: pl.DataFrame) -> None:
        as_of_s = [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in rows[self._lookup.as_of].to_list()]
        vectors = rows.select(self._lookup.names).fill_null(np.nan).to_numpy().astype(np.float64)
        publisher.put(DEFAULT_TENANT, self._lookup, self._version, rows[self._lookup.entity].to_list(), as_of_s, vectors)


@contextmanager
def _url(settings: Settings) -> Iterator[str]:
    """Yield the feature store's URL: from the settings, of a running server, or of one started for the length of the `with`."""
    if settings.features.redis_url is not None:
        yield settings.features.redis_url
        return
    store = valkey.start_features(settings.home, f"publish-{os.getpid()}")
    try:
        if store.url is None:
            raise StoreUnavailableError(str(store.reason))
        yield store.url
    finally:
        store.stop()
