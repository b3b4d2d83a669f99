"""Purchase bundles: a small one of simulated sessions, and the one of the published rows, each trained once."""

import pytest

from training.datasets.shop import shop
from training.models import MODELS

SESSIONS = 800


def silent(what, share):
    """Say nothing."""


@pytest.fixture(scope="session")
def sessions(tmp_path_factory):
    """Return a simulated training table as Parquet."""
    path = tmp_path_factory.mktemp("sessions") / "sessions.parquet"
    shop.simulate(SESSIONS, 3).sessions.write_parquet(path)
    return path


@pytest.fixture(scope="session")
def small(sessions, tmp_path_factory):
    """Return a bundle trained on few simulated sessions."""
    return MODELS["purchase"].train(sessions, tmp_path_factory.mktemp("small") / "bundle", mapping={}, seed=1, progress=silent)


@pytest.fixture(scope="session")
def published_csv(data_dir):
    """Return the path of the published online_shoppers rows."""
    return data_dir / "online_shoppers" / "online_shoppers_intention.csv"


@pytest.fixture(scope="session")
def published(published_csv, tmp_path_factory):
    """Return the bundle of the published rows, judged by ten folds."""
    return MODELS["purchase"].train(published_csv, tmp_path_factory.mktemp("published") / "bundle", mapping={}, seed=0, progress=silent)
