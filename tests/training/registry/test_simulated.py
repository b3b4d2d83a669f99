"""Whether a model was learned from a simulated shop is found in its table, stated in its manifest, its card and the registry."""

import shutil

import polars as pl
import pytest

from training.datasets.shop import mark, shop
from training.registry import bundle as bundles
from training.registry import defaults, provenance, simulated
from training.registry.registry import Registry


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shop") / "shop"
    shop.write(shop.simulate(300, 3), path)
    return path


def written(out, **data):
    files = {"card.md": b"# A model\n\nWhat it is.\n", "weights.json": b"{}\n"}
    return bundles.write(out, task="purchase", files=files, meta={"trainingData": {"name": "t", "sha256": "0" * 64, **data}})


@pytest.mark.parametrize("name", ["", "sessions.parquet", "sales.parquet", "events.parquet", "customers.parquet"])
def test_every_table_of_a_simulated_shop_is_recognised_and_so_is_its_folder(folder, name):
    assert mark.is_simulated(folder / name)
    if name:
        assert provenance.origin(folder / name)["simulated"] is True


def test_a_copy_of_a_simulated_table_is_recognised_by_its_mark(folder, tmp_path):
    copied = shutil.copy(folder / "sales.parquet", tmp_path / "mine.parquet")
    assert mark.is_simulated(tmp_path / "mine.parquet")
    assert provenance.origin(tmp_path / "mine.parquet") == {"sha256": provenance.fingerprint(copied), "simulated": True}


def test_a_simulated_table_without_a_mark_is_recognised_beside_the_truth(folder, tmp_path):
    for name in (*mark.TRUTH, "sales.parquet"):
        pl.read_parquet(folder / name).write_parquet(tmp_path / name)  # as the simulator wrote them before there was a mark
    assert mark.is_simulated(tmp_path / "sales.parquet")


@pytest.mark.parametrize("name", ["own.parquet", "own.csv", "own.csv.gz"])
def test_a_table_of_somebody_is_not_simulated(tmp_path, name):
    frame = pl.DataFrame({"product": ["P0077"], "price": [3.1], "quantity": [4]})
    frame.write_parquet(tmp_path / name) if name.endswith(".parquet") else (tmp_path / name).write_text("product,price\nP0077,3.1\n")
    assert not mark.is_simulated(tmp_path / name)
    assert not mark.is_simulated(tmp_path)


def test_a_damaged_file_is_left_to_the_reader_of_tables(tmp_path):
    (tmp_path / "half.parquet").write_bytes(b"PAR1")
    assert not mark.is_simulated(tmp_path / "half.parquet")


@pytest.mark.parametrize(("data", "expected"), [({"simulated": True}, True), ({"simulated": False}, False), ({}, False)])
def test_a_bundle_states_it_in_its_manifest_its_card_and_the_registry(tmp_path, data, expected):
    made = written(tmp_path / "bundle", **data)
    card = made.read("card.md").decode()
    assert bundles.load(made.path).simulated is expected
    assert card.startswith("# A model\n")
    assert card.endswith("\nWhat it is.\n")
    assert ("**A demonstration model.**" in card) is expected
    registry = Registry(str(tmp_path / "models"), tmp_path / "fetched")
    registry.add(made.path, alias="champion")
    assert registry.show("purchase@champion").simulated is expected
    assert defaults.simulated(registry, "champion") == (["purchase"] if expected else [])


@pytest.mark.parametrize("digest", sorted(simulated.BEFORE))
def test_a_default_model_of_an_earlier_version_is_recognised_by_its_table(tmp_path, digest):
    assert written(tmp_path / "bundle", sha256=digest).simulated


@pytest.mark.parametrize("manifest", [{}, {"trainingData": None}, {"trainingData": "shop"}, {"trainingData": {"simulated": "yes"}}])
def test_a_manifest_that_does_not_state_it_is_not_of_a_simulated_table(manifest):
    assert not simulated.is_simulated(manifest)


def test_no_default_model_is_trained_where_demonstrations_are_refused(tmp_path):
    registry, said = Registry(str(tmp_path / "models"), tmp_path / "fetched"), []
    defaults.ensure(registry, "champion", said.append, ("purchase", "pricing"), demo=False)
    assert registry.list() == []
    assert said == ["no champion for purchase, pricing in the registry; none is trained on a simulated shop, as models.allow_demo is false"]
