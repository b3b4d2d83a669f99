"""The registry keeps bundles under names, and its aliases remember; in a local folder and behind any fsspec URL alike."""

import errno
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from training.errors import BundleError, RegistryError
from training.registry import bundle
from training.registry.registry import Registry

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["folder", "file://", "memory://"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory://":
        path = f"memory://{uuid.uuid4().hex}"
        yield path
        files, root = fsspec.core.url_to_fs(path)
        if files.exists(root):
            files.rm(root, recursive=True)
    else:
        yield f"{request.param.removeprefix('folder')}{tmp_path / 'models'}"


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Registry:
    return Registry(url, tmp_path / "cache")


def trained(folder: Path, content: str, task: str = "purchase", metrics: object = None) -> Path:
    """Return the folder of a new bundle."""
    said = {"auc": 0.93} if metrics is None else metrics
    files = {"model.ubj": content.encode(), "metrics.json": json.dumps(said).encode()}
    return bundle.write(folder / f"{task}-{content}", task=task, files=files, meta={"content": content}).path


def put(url: str, path: str, content: bytes) -> None:
    """Change a file of the registry behind its back."""
    files, root = fsspec.core.url_to_fs(url)
    files.pipe_file(f"{root}/{path}", content)


def test_a_model_added_is_fetched_as_it_was(registry: Registry, tmp_path: Path) -> None:
    source = bundle.load(trained(tmp_path, "a"))
    entry = registry.add(source.path)
    assert (entry.task, entry.name, entry.version) == ("purchase", source.version, source.version)
    assert (entry.created_at, entry.aliases, entry.problem) == (source.manifest["createdAt"], (), None)
    fetched = registry.fetch("purchase", entry.name)
    assert fetched.path != source.path
    assert fetched.manifest == source.manifest
    assert fetched.read("model.ubj") == b"a"


def test_metrics_are_the_numbers_at_the_top(registry: Registry, tmp_path: Path) -> None:
    said = {"auc": 0.93, "rows": 12330, "without_page_values": {"auc": 0.78}, "note": "text", "ok": True}
    assert registry.add(trained(tmp_path, "a", metrics=said)).metrics == {"auc": 0.93, "rows": 12330}


def test_an_alias_is_set_only_when_asked_for(registry: Registry, tmp_path: Path) -> None:
    registry.add(trained(tmp_path, "a"), name="a")
    assert registry.pointer("purchase", "champion") is None
    assert registry.add(trained(tmp_path, "b"), name="b", alias="champion").aliases == ("champion",)
    assert registry.pointer("purchase", "champion") == "b"
    assert registry.pointer("churn", "champion") is None


def test_the_same_bundle_twice_is_one_model_and_another_under_its_name_is_refused(registry: Registry, tmp_path: Path) -> None:
    source = trained(tmp_path, "a")
    assert registry.add(source, name="a") == registry.add(source, name="a")
    with pytest.raises(RegistryError, match="purchase/a is another model"):
        registry.add(trained(tmp_path, "b"), name="a")
    assert len(registry.list()) == 1
    assert registry.fetch("purchase", "a").read("model.ubj") == b"a"


def test_rollback_walks_back_through_the_promotions(registry: Registry, tmp_path: Path) -> None:
    for name in "abc":
        registry.add(trained(tmp_path, name), name=name)
        assert registry.promote(f"purchase/{name}").aliases == ("champion",)
    registry.promote("purchase/c")  # what it is already: not a step
    for name in "ba":
        assert registry.rollback("purchase").name == name
        assert registry.pointer("purchase", "champion") == name
    with pytest.raises(RegistryError, match="has no model before a"):
        registry.rollback("purchase")
    assert registry.pointer("purchase", "champion") == "a"


def test_aliases_are_apart_from_each_other(registry: Registry, tmp_path: Path) -> None:
    for name in "ab":
        registry.add(trained(tmp_path, name), name=name)
    registry.promote("purchase/a")
    registry.promote("purchase@champion", alias="challenger")
    registry.promote("purchase/b")
    assert (registry.pointer("purchase", "champion"), registry.pointer("purchase", "challenger")) == ("b", "a")
    assert registry.promote("purchase@challenger").aliases == ("challenger", "champion")
    assert registry.rollback("purchase").aliases == ("champion",)


def test_models_are_listed_by_task_with_their_aliases(registry: Registry, tmp_path: Path) -> None:
    assert registry.list() == []
    registry.add(trained(tmp_path, "b"), name="b", alias="champion")
    registry.add(trained(tmp_path, "a"), name="a")
    registry.add(trained(tmp_path, "c", task="churn"), name="c")
    assert {(entry.task, entry.name, entry.aliases) for entry in registry.list()} == {
        ("churn", "c", ()),
        ("purchase", "a", ()),
        ("purchase", "b", ("champion",)),
    }
    assert [entry.name for entry in registry.list("churn")] == ["c"]
    assert registry.list("pricing") == []


def test_a_model_is_meant_by_alias_by_task_and_name_or_by_a_name_of_one_task(registry: Registry, tmp_path: Path) -> None:
    registry.add(trained(tmp_path, "a"), name="v1", alias="champion")
    registry.add(trained(tmp_path, "b"), name="v2")
    registry.add(trained(tmp_path, "c", task="churn"), name="v2")
    assert registry.show("purchase@champion").name == registry.show("v1").name == registry.show("purchase/v1").name == "v1"
    assert registry.show("churn/v2").task == "churn"
    with pytest.raises(RegistryError, match=r"churn/v2 or purchase/v2"):
        registry.show("v2")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("purchase@challenger", r"no purchase@challenger in .*purchase@champion"),
        ("pricing@champion", "no pricing@champion"),
        ("purchase/v9", "no model purchase/v9"),
        ("v9", "no model v9"),
        ("../purchase/v1", r"task '\.\./purchase'"),
        ("../v1", r"task '\.\.'"),
        ("purchase/..", r"name '\.\.'"),
        ("", "name ''"),
    ],
)
def test_a_model_that_is_not_there_is_named(registry: Registry, tmp_path: Path, ref: str, message: str) -> None:
    registry.add(trained(tmp_path, "a"), name="v1", alias="champion")
    for ask in (registry.show, registry.promote):
        with pytest.raises(RegistryError, match=message):
            ask(ref)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../a", ".hidden", "a b", "a\n", "a" * 101, "aliases.json", "ä"])
def test_names_that_could_leave_their_place_are_refused(registry: Registry, url: str, tmp_path: Path, name: str) -> None:
    source = trained(tmp_path, "a")
    for call in (
        lambda: registry.add(source, name=name),
        lambda: registry.add(source, alias=name),
        lambda: registry.list(name),
        lambda: registry.fetch("purchase", name),
        lambda: registry.fetch(name, "a"),
        lambda: registry.pointer(name, "champion"),
        lambda: registry.rollback(name),
    ):
        with pytest.raises(RegistryError, match=re.escape(repr(name))):
            call()
    assert registry.list() == []


def test_a_rollback_of_what_was_never_promoted_makes_nothing(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="purchse@champion points to no model"):
        registry.rollback("purchse")
    assert not (tmp_path / "models").exists()


def test_a_corrupted_model_is_not_promoted_and_the_list_says_why(registry: Registry, url: str, tmp_path: Path) -> None:
    registry.add(trained(tmp_path, "a"), name="a", alias="champion")
    registry.add(trained(tmp_path, "b"), name="b", alias="challenger")
    put(url, "purchase/b/model.ubj", b"x")
    with pytest.raises(BundleError, match=r"b/model\.ubj is corrupted"):
        registry.promote("purchase/b")
    assert registry.pointer("purchase", "champion") == "a"
    put(url, "purchase/b/metrics.json", b"{}")
    broken = {entry.name: entry for entry in registry.list()}["b"]
    assert broken.problem is not None
    assert "b/metrics.json" in broken.problem
    assert (broken.version, broken.metrics, broken.aliases) == ("", {}, ("challenger",))


def test_a_rollback_to_a_corrupted_model_is_refused_and_the_live_one_stays(registry: Registry, url: str, tmp_path: Path) -> None:
    for name in "ab":
        registry.add(trained(tmp_path, name), name=name, alias="champion")
    put(url, "purchase/a/manifest.json", b"{}")
    with pytest.raises(BundleError, match=r"a/manifest\.json"):
        registry.rollback("purchase")
    assert registry.pointer("purchase", "champion") == "b"


def test_a_corrupted_bundle_is_not_added(registry: Registry, tmp_path: Path) -> None:
    source = trained(tmp_path, "a")
    (source / "model.ubj").write_bytes(b"x")
    with pytest.raises(BundleError, match="corrupted"):
        registry.add(source)
    assert registry.list() == []


def test_a_model_of_another_task_is_not_served(registry: Registry, url: str, tmp_path: Path) -> None:
    stray = trained(tmp_path, "a", task="churn")
    registry.add(trained(tmp_path, "b"), name="b")
    for file in stray.iterdir():
        put(url, f"purchase/b/{file.name}", file.read_bytes())
    with pytest.raises(BundleError, match="purchase/b is a model for churn"):
        registry.fetch("purchase", "b")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"champion": "a"}', b'{"champion": {"name": "../../a", "since": "", "before": []}}', b'{"champion": {"name": 1}}'],
)
def test_aliases_that_cannot_be_understood_are_named_and_never_followed(
    registry: Registry, url: str, tmp_path: Path, content: bytes
) -> None:
    registry.add(trained(tmp_path, "a"), name="a", alias="champion")
    put(url, "purchase/aliases.json", content)
    with pytest.raises(RegistryError, match=r"purchase/aliases\.json is invalid"):
        registry.pointer("purchase", "champion")


def test_an_alias_remembers_a_hundred_models(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"), tmp_path / "cache")
    for name in "ab":
        registry.add(trained(tmp_path, name), name=name)
    for step in range(110):
        registry.promote(f"purchase/{'ab'[step % 2]}")
    kept = json.loads((tmp_path / "models" / "purchase" / "aliases.json").read_text())["champion"]["before"]
    assert len(kept) == 100
    assert kept[-2:] == ["b", "a"]


PROMOTER = """
import sys
from pathlib import Path
from training.registry.registry import Registry
registry = Registry(sys.argv[1], Path(sys.argv[2]))
for name in sys.argv[3:]:
    registry.promote(f"purchase/{name}")
"""


def test_two_processes_that_promote_lose_none_of_each_other_s_history(tmp_path: Path) -> None:
    url, cache = str(tmp_path / "models"), str(tmp_path / "cache")
    names = [f"{who}{step}" for who in "xy" for step in range(15)]
    for name in names:
        Registry(url, Path(cache)).add(trained(tmp_path, name), name=name)
    command = [sys.executable, "-c", PROMOTER, url, cache]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([*command, *(name for name in names if name[0] == who)], env=environment) for who in "xy"]
    assert [process.wait(60) for process in both] == [0, 0]
    now = json.loads((tmp_path / "models" / "purchase" / "aliases.json").read_text())["champion"]
    promoted = [*now["before"], now["name"]]
    assert sorted(promoted) == sorted(names)
    for who in "xy":
        assert [name for name in promoted if name[0] == who] == [name for name in names if name[0] == who]


def test_a_lock_that_does_not_come_free_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(str(tmp_path / "models"), tmp_path / "cache")
    registry.add(trained(tmp_path, "a"), name="a")
    monkeypatch.setattr("training.registry.storage.LOCK_SECONDS", 0.05)
    from training.registry.storage import LocalStorage

    with (
        LocalStorage(tmp_path / "models").locked("purchase"),
        pytest.raises(RegistryError, match=r"purchase/\.lock has been locked by another"),
    ):
        registry.promote("purchase/a")
    assert registry.promote("purchase/a").aliases == ("champion",)


def test_a_full_disk_leaves_the_registry_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(str(tmp_path / "models"), tmp_path / "cache")
    registry.add(trained(tmp_path, "a"), name="a", alias="champion")
    added = trained(tmp_path, "b")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        with pytest.raises(BundleError, match="No space left on device: free some space"):
            registry.add(added, name="b", alias="champion")
        with pytest.raises(RegistryError, match=r"aliases\.json.*No space left on device: free some space"):
            registry.promote("purchase/a", alias="challenger")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_link_in_place_of_a_model_is_refused(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"), tmp_path / "cache")
    registry.add(trained(tmp_path, "a"), name="a")
    (tmp_path / "models" / "purchase" / "b").symlink_to(trained(tmp_path, "b"))
    with pytest.raises(BundleError, match="symbolic link"):
        registry.promote("purchase/b")
    assert [entry.name for entry in registry.list()] == ["a"]


def test_reading_a_local_registry_writes_nothing(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"), tmp_path / "cache")
    assert registry.pointer("purchase", "champion") is None
    assert registry.list() == []
    with pytest.raises(RegistryError, match="no model purchase/a"):
        registry.fetch("purchase", "a")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[Registry, str]]:
    """Return a remote registry with the model purchase/a, and its URL."""
    url = f"memory://{uuid.uuid4().hex}"
    registry = Registry(url, tmp_path / "cache")
    registry.add(trained(tmp_path, "a"), name="a")
    yield registry, url
    files, root = fsspec.core.url_to_fs(url)
    files.rm(root, recursive=True)


def test_a_remote_model_is_fetched_once_and_a_broken_copy_is_replaced(remote: tuple[Registry, str]) -> None:
    registry, _ = remote
    copy = registry.fetch("purchase", "a").path
    inode = copy.stat().st_ino
    assert registry.fetch("purchase", "a").path.stat().st_ino == inode
    (copy / "model.ubj").write_bytes(b"x")
    assert registry.fetch("purchase", "a").read("model.ubj") == b"a"


def test_a_remote_model_in_place_of_another_is_fetched_again(remote: tuple[Registry, str], tmp_path: Path) -> None:
    registry, url = remote
    registry.fetch("purchase", "a")
    for file in trained(tmp_path, "b").iterdir():
        put(url, f"purchase/a/{file.name}", file.read_bytes())
    assert registry.fetch("purchase", "a").read("model.ubj") == b"b"


def test_two_registries_share_a_cache_without_mixing_their_models(remote: tuple[Registry, str], tmp_path: Path) -> None:
    registry, url = remote
    other = Registry(f"{url}/other", tmp_path / "cache")
    other.add(trained(tmp_path, "b"), name="a")
    assert registry.fetch("purchase", "a").read("model.ubj") == b"a"
    assert other.fetch("purchase", "a").read("model.ubj") == b"b"
    assert registry.fetch("purchase", "a").path != other.fetch("purchase", "a").path


def test_an_upload_that_breaks_off_is_no_model_and_can_be_done_again(
    remote: tuple[Registry, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, url = remote
    files, _ = fsspec.core.url_to_fs(url)
    pipe_file = type(files).pipe_file

    def breaking(self: object, path: str, value: bytes) -> None:
        if path.endswith("model.ubj"):
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        pipe_file(self, path, value)

    source = trained(tmp_path, "b")
    with monkeypatch.context() as broken:
        broken.setattr(type(files), "pipe_file", breaking)
        with pytest.raises(RegistryError, match=rf"cannot write {url}/purchase/b/model\.ubj .*reset by peer"):
            registry.add(source, name="b", alias="champion")
    assert [entry.name for entry in registry.list()] == ["a"]
    assert registry.pointer("purchase", "champion") is None
    assert registry.add(source, name="b", alias="champion").aliases == ("champion",)


def test_a_remote_bundle_that_is_broken_or_half_there_leaves_no_copy(remote: tuple[Registry, str], tmp_path: Path) -> None:
    registry, url = remote
    put(url, "purchase/a/model.ubj", b"x")
    with pytest.raises(BundleError, match=rf"{url}/purchase/a/model\.ubj is corrupted"):
        registry.fetch("purchase", "a")
    files, root = fsspec.core.url_to_fs(url)
    files.rm_file(f"{root}/purchase/a/model.ubj")
    with pytest.raises(BundleError, match=rf"{url}/purchase/a/model\.ubj is missing"):
        registry.fetch("purchase", "a")
    files.rm_file(f"{root}/purchase/a/manifest.json")
    assert registry.list() == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("url", ["nosuch://bucket/models", "nosuch::memory://models"])
def test_a_url_that_nothing_can_open_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(RegistryError, match=f"registry '{url}' cannot be opened"):
        Registry(url, tmp_path / "cache")


def test_a_deleted_model_is_gone_and_rollback_does_not_reach_it(registry: Registry, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        registry.add(trained(tmp_path, name), name=name, alias="champion")
    assert registry.delete("purchase/b").name == "b"
    assert [entry.name for entry in registry.list()] == ["a", "c"]
    with pytest.raises(RegistryError, match=r"there is no model purchase/b in .*: list"):
        registry.fetch("purchase", "b")
    assert registry.rollback("purchase").name == "a"
    assert registry.add(trained(tmp_path, "d"), name="b").name == "b"  # the name is free again


@pytest.mark.parametrize("ref", ["purchase@champion", "purchase/a", "purchase@a", "a"])
def test_a_model_that_an_alias_points_to_is_not_deleted(registry: Registry, tmp_path: Path, ref: str) -> None:
    registry.add(trained(tmp_path, "a"), name="a", alias="champion")
    with pytest.raises(RegistryError, match=r"purchase@champion is a in .*models promote"):
        registry.delete(ref)
    assert registry.fetch("purchase", "a").task == "purchase"


def test_a_reader_never_sees_half_of_a_deleted_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(str(tmp_path / "models"), tmp_path / "cache")
    registry.add(trained(tmp_path, "a"), name="a")
    seen = []
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: seen.append([entry.name for entry in registry.list()]))
    registry.delete("a")
    assert seen == [[]]  # it has no name any more when its files are removed


def test_a_card_is_returned_as_it_was_written(registry: Registry, tmp_path: Path) -> None:
    source = bundle.write(tmp_path / "a", task="purchase", files={"card.md": b"# Card\n\xc3\xa9\n"}, meta={})
    registry.add(source.path, name="a")
    assert registry.card("a") == "# Card\né\n"
    registry.add(trained(tmp_path, "b"), name="b")
    with pytest.raises(RegistryError, match=r"b has no card\.md"):
        registry.card("b")


def test_a_model_is_listed_with_the_name_of_the_data_that_its_metrics_are_of(registry: Registry, tmp_path: Path) -> None:
    meta = {"trainingData": {"name": "visits.csv", "rows": 3}}
    registry.add(bundle.write(tmp_path / "a", task="purchase", files={"metrics.json": b'{"auc": 0.9}'}, meta=meta).path, name="a")
    assert registry.show("a").data == "visits.csv"


def test_a_local_registry_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry("some/../models", tmp_path / "cache")
    assert (registry.where, registry.exists()) == (str(tmp_path / "models"), False)
    registry.add(trained(tmp_path, "a"), name="a")
    assert registry.exists()
    with pytest.raises(RegistryError, match=re.escape(f"there is no model b in {tmp_path / 'models'}")):
        registry.show("b")


@pytest.mark.parametrize(
    ("ref", "near"),
    [
        ("purchase/frist", "purchase/first"),
        ("frist", "first"),
        ("purchase@champoin", "purchase@champion"),
        ("purchse@champion", "purchase@champion"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest_known_one(registry: Registry, tmp_path: Path, ref: str, near: str) -> None:
    registry.add(trained(tmp_path, "a"), name="first", alias="champion")
    with pytest.raises(RegistryError, match=re.escape(f"(did you mean {near}?)")):
        registry.show(ref)


def test_an_alias_comes_before_a_model_of_its_name(registry: Registry, tmp_path: Path) -> None:
    registry.add(trained(tmp_path, "a"), name="champion")
    registry.add(trained(tmp_path, "b"), name="b", alias="champion")
    assert registry.show("purchase@champion").name == "b"
    assert registry.show("purchase@b").name == "b"
