"""Every engine of the table, loaded from a bundle as the server loads it, keeps the contract."""

from pathlib import Path

import pytest

from serving import settings
from serving.engines import Engine, Scorer
from tests.contracts.engines import EngineContract, TableContract, engine
from training.models import MODELS

__all__ = ["engine"]

_loaded: dict[str, Scorer] = {}


class TestTable(TableContract):
    pass


class TestEngines(EngineContract):
    @pytest.fixture
    def scorer(self, engine: Engine, shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
        """Return the engine's default model, trained once on a small simulated shop."""
        if engine.name not in _loaded:
            out = tmp_path_factory.mktemp(engine.name) / "bundle"
            bundle = MODELS[engine.name].train(shop_folder, out, mapping={}, seed=3, progress=lambda what, share: None)
            _loaded[engine.name] = engine.load(bundle, settings.load())
        return _loaded[engine.name]
