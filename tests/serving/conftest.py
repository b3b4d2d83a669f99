"""Models to serve: small ones, trained on simulated sessions and, where a task needs another table, on simulated customers."""

import pytest

from tests import customers, journeys
from training.datasets import buyers
from training.datasets.shop import shop
from training.models import MODELS
from training.registry import bundle as bundles
from training.registry.registry import Registry

SESSIONS = 2_000
CUSTOMERS = 600


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop") / "shop"
    shop.write(shop.simulate(SESSIONS, 7), folder)
    return folder


def _train(shop_folder, out, seed):
    return MODELS["purchase"].train(shop_folder / "sessions.parquet", out, mapping={}, seed=seed, progress=lambda what, share: None)


@pytest.fixture(scope="session")
def bundle(shop_folder, tmp_path_factory):
    return _train(shop_folder, tmp_path_factory.mktemp("bundles") / "one", 1)


@pytest.fixture(scope="session")
def customers_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("customers") / "customers.csv"
    customers.table(CUSTOMERS, 7).write_csv(path)
    return path


@pytest.fixture(scope="session")
def purchases_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("purchases") / "purchases.csv"
    buyers.simulate(CUSTOMERS, 7).write_csv(path)
    return path


@pytest.fixture(scope="session")
def journeys_folder(tmp_path_factory):
    return journeys.write(tmp_path_factory.mktemp("journeys") / "sessions", CUSTOMERS, 7)


@pytest.fixture(scope="session")
def bundle_of(bundle, shop_folder, customers_csv, purchases_csv, journeys_folder, tmp_path_factory):
    """A function that returns the bundle of a task: each trained once, on simulated data; `tables`: by the module of the table."""
    made = {bundle.task: bundle}
    tables = {
        "training.tables.customers": customers_csv,
        "training.tables.purchases": purchases_csv,
        "training.tables.journeys": journeys_folder,
    }

    def table_of(task):
        model = MODELS[task]
        if model.table_module in tables:
            return tables[model.table_module]
        if not model.simulated:
            pytest.fail(
                f"no test has a table of {model.table_module}, which {task} is trained on: add one to `tables` of bundle_of in {__file__}"
            )
        return shop_folder

    def of(task):
        if task not in made and (default := MODELS[task].default) is not None:
            made[task] = bundles.load(default)
        if task not in made:
            out = tmp_path_factory.mktemp(task) / "bundle"
            made[task] = MODELS[task].train(table_of(task), out, mapping={}, seed=3, progress=lambda what, share: None)
        return made[task]

    return of


@pytest.fixture(scope="session")
def second_bundle(shop_folder, tmp_path_factory):
    return _train(shop_folder, tmp_path_factory.mktemp("bundles") / "two", 2)


@pytest.fixture(scope="session")
def registry_url(tmp_path_factory):
    return str(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="session")
def registry(registry_url, bundle, tmp_path_factory):
    registry = Registry(registry_url, tmp_path_factory.mktemp("fetched"))
    registry.add(bundle.path, alias="champion")
    return registry


@pytest.fixture(scope="session")
def second_model(registry, second_bundle):
    return registry.add(second_bundle.path)
