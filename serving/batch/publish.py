"""A scored base on its way into the feature store: collected while it is scored, stored when the output is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import polars as pl

from serving.engines import Engine
from serving.errors import StoreUnavailableError
from serving.progress import Progress
from serving.runtime.embedded import valkey
from serving.settings import Settings
from serving.stores.features import Publisher

_ROWS = 2_000  # in one round trip
_DAY_S = 86_400.0


class Publication:
    """What is to be stored of the rows of a batch's output."""

    def __init__(self, engine: Engine, version: str) -> None:
        assert engine.lookup is not None, f"{engine.name} looks nothing up; this is a bug"
        self._lookup, self._version = engine.lookup, version
        self._parts: list[pl.DataFrame] = []

    def add(self, answers: pl.DataFrame) -> None:
        """Take note of answers."""
        self._parts.append(answers.select(self._lookup.entity, self._lookup.as_of, *self._lookup.names))

    def store(self, settings: Settings, progress: Progress) -> int:
        """Store all, and return how many there were. Raises StoreUnavailableError; each entity then has its old vector or the new one."""
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
        publisher.put(self._lookup, self._version, rows[self._lookup.entity].to_list(), as_of_s, vectors)


@contextmanager
def _url(settings: Settings) -> Iterator[str]:
    """The feature store's address: that of the settings, of a server that runs, or of one that runs for as long as this."""
    if settings.features.redis_url is not None:
        yield settings.features.redis_url
        return
    store = valkey.start_features(settings.home, f"publish-{os.getpid()}")
    try:
        if store.url is None:
            raise StoreUnavailableError(str(store.reason))
        yield store.url
    finally:
        store.close()
