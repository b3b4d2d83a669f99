"""Every engine of the table, loaded from a bundle as the server loads it, keeps the contract."""

from pathlib import Path

import pytest

from serving import settings
from serving.engines import Engine, Scorer
from tests.contracts.engines import EngineContract, TableContract, engine
from training.bundle import Bundle
from training.models import MODELS

__all__ = ["engine"]

_loaded: dict[str, Scorer] = {}


class TestTable(TableContract):
    pass


class TestEngines(EngineContract):
    @pytest.fixture
    def scorer(self, engine: Engine, bundle: Bundle, shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
        """Return the engine's model: that of the other tests, or one trained here, once, on their simulated shop."""
        if engine.name not in _loaded:
            ours = bundle if bundle.task == engine.name else _trained(engine, shop_folder, tmp_path_factory.mktemp(engine.name) / "bundle")
            _loaded[engine.name] = engine.load(ours, settings.load())
        return _loaded[engine.name]


def _trained(engine: Engine, shop_folder: Path, out: Path) -> Bundle:
    return MODELS[engine.name].train(shop_folder, out, mapping={}, seed=3, progress=lambda what, share: None)
