"""The simulated shop as a whole: reproducible, consistent at any size, and written completely or not at all."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from training.datasets.shop import shop
from training.errors import TableError

FRAMES = ("events", "sessions", "customers", "products", "sales", "truth", "truth_customers", "truth_products")


@pytest.fixture(scope="module")
def small() -> shop.Shop:
    return shop.simulate(1_500, seed=11)


def _seen(of: shop.Shop) -> pl.DataFrame:
    """Return the events up to the scored moments."""
    until = of.sessions.select("sessionId", "asOf")
    return of.events.join(until, on="sessionId", maintain_order="left").filter(pl.col("timestamp") <= pl.col("asOf"))


def test_the_same_seed_gives_the_same_shop_to_the_last_bit() -> None:
    one, two = (shop.simulate(300, seed=5) for _ in range(2))
    for name in FRAMES:
        assert_frame_equal(getattr(one, name), getattr(two, name), check_exact=True)
    assert one.requests == two.requests


def test_another_seed_gives_another_shop() -> None:
    one, two = (shop.simulate(300, seed=seed) for seed in (5, 6))
    for name in FRAMES:
        assert not getattr(one, name).equals(getattr(two, name)), name


def test_the_training_table_alone_is_that_of_the_whole_shop(small: shop.Shop) -> None:
    assert_frame_equal(shop.training_table(1_500, seed=11), small.sessions, check_exact=True)


@pytest.mark.parametrize(("sessions", "seed"), [(0, 1), (-5, 1), (10, -1)])
def test_invalid_arguments_are_refused_by_name(sessions: int, seed: int) -> None:
    with pytest.raises(TableError, match=f"sessions={sessions}, seed={seed}"):
        shop.simulate(sessions, seed)


def test_progress_only_moves_forward_and_ends_at_one() -> None:
    told: list[float] = []
    shop.simulate(50, 1, lambda stage, share: told.append(share))
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 1


@settings(max_examples=20, deadline=None)
@given(sessions=st.integers(1, 40), seed=st.integers(0, 2**63))
def test_a_shop_of_any_size_is_consistent(sessions: int, seed: int) -> None:
    any_shop = shop.simulate(sessions, seed)
    seen = _seen(any_shop)
    assert any_shop.sessions["sessionId"].n_unique() == sessions == any_shop.truth.height == len(any_shop.requests)
    assert seen["sessionId"].n_unique() == sessions
    assert seen.filter(pl.col("type") == "purchase").is_empty()
    assert any_shop.truth["purchaseProbability"].is_between(0, 1, closed="none").all()
    assert any_shop.customers["orders"].sum() == any_shop.sessions.filter(pl.col("customerId").is_not_null())["purchased"].sum()


def test_written_files_hold_the_simulated_tables(small: shop.Shop, tmp_path: Path) -> None:
    shop.write(small, tmp_path / "new" / "shop")
    files = sorted(path.name for path in (tmp_path / "new" / "shop").iterdir())
    assert files == sorted([*(f"{name}.parquet" for name in FRAMES), "requests.ndjson"])
    for name in FRAMES:
        assert_frame_equal(pl.read_parquet(tmp_path / "new" / "shop" / f"{name}.parquet"), getattr(small, name), check_exact=True)
    lines = (tmp_path / "new" / "shop" / "requests.ndjson").read_bytes().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == small.requests
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["shop"]


def test_an_empty_folder_is_filled(small: shop.Shop, tmp_path: Path) -> None:
    shop.write(small, tmp_path)
    assert (tmp_path / "sessions.parquet").exists()


def test_a_folder_with_files_is_refused_and_unchanged(small: shop.Shop, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TableError, match="not an empty folder"):
        shop.write(small, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(small: shop.Shop, tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    with pytest.raises(TableError, match="not an empty folder"):
        shop.write(small, tmp_path / "shop")
    assert (tmp_path / "shop").read_text() == "mine"


@contextmanager
def _no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [50_000, 800_000])  # the events do not fit; the requests do not fit
def test_a_failed_write_leaves_no_files(small: shop.Shop, tmp_path: Path, size: int) -> None:
    with _no_file_larger_than(size), pytest.raises(TableError, match="check space"):
        shop.write(small, tmp_path / "shop")
    assert list(tmp_path.iterdir()) == []
