"""What a server that follows an alias can see: a promotion of the same model is another one, a changed file another fingerprint."""

import os
from pathlib import Path

import pytest

from training.registry import bundle
from training.registry.registry import Registry


@pytest.fixture(params=["local", "remote"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A registry with two models, the first of which is champion."""
    url = str(tmp_path / "models") if request.param == "local" else f"memory://promotion-{tmp_path.name}-{os.getpid()}"
    found = Registry(url, tmp_path / "cache")
    for name in "ab":
        made = bundle.write(tmp_path / name, task="purchase", files={"model.ubj": name.encode()}, meta={})
        found.add(made.path, name=name, alias="champion" if name == "a" else None)
    return found


def test_promoting_the_same_model_again_is_another_promotion_and_no_step_of_the_history(registry: Registry) -> None:
    registry.promote("purchase/b")
    first = registry.promotion("purchase", "champion")
    registry.promote("purchase/b")
    second = registry.promotion("purchase", "champion")
    assert first is not None
    assert second is not None
    assert (first.name, first.before) == (second.name, second.before) == ("b", ("a",))
    assert first.since < second.since
    assert registry.rollback("purchase").name == "a"


def test_an_alias_that_points_nowhere_has_no_promotion(registry: Registry) -> None:
    assert registry.promotion("purchase", "candidate") is None


def test_a_fingerprint_is_the_same_until_a_file_changes(registry: Registry) -> None:
    before = registry.fingerprint("purchase", "a")
    assert before
    assert registry.fingerprint("purchase", "a") == before
    assert registry.fingerprint("purchase", "b") != before
    registry._storage.replace(b"changed", "purchase", "a", "model.ubj")
    after = registry.fingerprint("purchase", "a")
    registry._storage.replace(b"mended!", "purchase", "a", "model.ubj")  # of the same length
    assert len({before, after, registry.fingerprint("purchase", "a")}) == 3


def test_a_model_that_is_not_there_has_an_empty_fingerprint(registry: Registry) -> None:
    assert registry.fingerprint("purchase", "none") == ""
