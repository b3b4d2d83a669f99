"""Every engine of the table, loaded from a bundle as the server loads it, keeps the contract."""

from collections.abc import Callable

import pytest

from serving import settings
from serving.engines import Engine, Scorer
from tests.contracts.engines import EngineContract, TableContract, engine
from training.registry.bundle import Bundle

__all__ = ["engine"]

_loaded: dict[str, Scorer] = {}


class TestTable(TableContract):
    pass


class TestEngines(EngineContract):
    @pytest.fixture
    def scorer(self, engine: Engine, bundle_of: Callable[[str], Bundle]) -> Scorer:
        """Return the engine's model."""
        if engine.name not in _loaded:
            _loaded[engine.name] = engine.load(bundle_of(engine.name), settings.load())
        return _loaded[engine.name]
