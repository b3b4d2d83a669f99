"""A bundle is written whole or not at all, and read only if every byte of it is as it was written."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.errors import BundleError
from training.registry import bundle

ROOT = Path(__file__).parents[3]
FILES = {"model.ubj": bytes(range(256)) * 8, "metrics.json": b'{"auc": 0.93}', "card.md": b"# A model\n"}
META: dict[str, Any] = {"features": [{"name": "month", "unit": "1 to 12"}], "orderValue": {"amount": 61.5, "currency": "EUR"}}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return bundle.write(tmp_path / "written", task="purchase", files=FILES, meta=META).path


def everything(folder: Path) -> set[str]:
    """Return every path below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a bundle on disk."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    one = bundle.write(tmp_path / "deep" / "one", task="purchase", files=FILES, meta=META)
    read = bundle.load(tmp_path / "deep" / "one")
    assert read == one
    assert {name: read.read(name) for name in FILES} == FILES
    assert read.json("metrics.json") == {"auc": 0.93}
    assert read.task == "purchase"
    assert (read.manifest["features"], read.manifest["orderValue"]) == (META["features"], META["orderValue"])
    assert everything(tmp_path / "deep") == {"one", "one/manifest.json", *(f"one/{name}" for name in FILES)}


def test_the_manifest_says_when_and_the_hash_and_size_of_every_file(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["format"] == 1
    # SHA-256 of b"# A model\n", by sha256sum.
    assert manifest["files"]["card.md"] == {"sha256": "67b246868db005aea6ffa0bb4653fd0875593c78c178bb6bd6e778e5108595a7", "bytes": 10}
    age = datetime.now(UTC) - datetime.strptime(manifest["createdAt"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert -1 < age.total_seconds() < 60
    assert re.fullmatch(r"purchase-\d{8}T\d{6}Z-[0-9a-f]{8}", manifest["version"])


def test_other_content_is_another_version(tmp_path: Path) -> None:
    def ending(name: str, files: dict[str, bytes], meta: dict[str, Any]) -> str:
        return bundle.write(tmp_path / name, task="purchase", files=files, meta=meta).version[-8:]

    one = ending("one", FILES, META)
    assert ending("same", dict(reversed(FILES.items())), META) == one
    assert ending("file", {**FILES, "card.md": b"# B model\n"}, META) != one
    assert ending("meta", FILES, {**META, "orderValue": {"amount": 61.6, "currency": "EUR"}}) != one


def test_an_empty_folder_is_taken_and_a_full_one_is_left_alone(tmp_path: Path) -> None:
    empty, full, file = tmp_path / "empty", tmp_path / "full", tmp_path / "file"
    empty.mkdir()
    full.mkdir()
    (full / "mine").write_text("mine")
    file.write_text("mine")
    assert bundle.write(empty, task="purchase", files=FILES, meta={}).read("card.md") == FILES["card.md"]
    for taken in (full, file, empty):
        before = everything(tmp_path)
        with pytest.raises(BundleError, match="not an empty folder"):
            bundle.write(taken, task="purchase", files=FILES, meta={})
        assert everything(tmp_path) == before


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="revenue-engine train"):
        bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        bundle.load(tmp_path)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS = (shorten, lengthen, flip, Path.unlink, link, pipe, folder)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_harmed_file_is_refused_by_name_with_the_fix(written: Path, name: str, harm: Callable[[Path], None]) -> None:
    harm(written / name)
    with pytest.raises(BundleError, match=f"{re.escape(str(written / name))} .*(again)"):
        bundle.load(written)


@pytest.mark.parametrize(("harm", "reason"), [(link, "is a symbolic link"), (pipe, "is not a plain file"), (Path.unlink, "is missing")])
def test_what_is_no_plain_file_is_never_read(written: Path, harm: Callable[[Path], None], reason: str) -> None:
    harm(written / "card.md")
    with pytest.raises(BundleError, match=rf"card\.md {reason}"):
        bundle.load(written)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_changed_byte_of_any_file_is_noticed(written: Path, data: st.DataObject) -> None:
    path = written / data.draw(st.sampled_from([*FILES, "manifest.json"]))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    changed = content[:at] + bytes([byte]) + content[at + 1 :]
    path.write_bytes(changed)
    try:
        same = path.name == "manifest.json" and _means_the_same(changed, content)
        if not same:
            with pytest.raises(BundleError, match=path.name):
                bundle.load(written)
    finally:
        path.write_bytes(content)


def _means_the_same(one: bytes, two: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(two))
    except ValueError:
        return False


def test_a_file_changed_after_the_load_is_noticed_when_it_is_read(written: Path) -> None:
    loaded = bundle.load(written)
    flip(written / "model.ubj")
    with pytest.raises(BundleError, match=r"model\.ubj is corrupted"):
        loaded.read("model.ubj")
    with pytest.raises(BundleError, match=r"no file 'other\.ubj', only model\.ubj, metrics\.json, card\.md"):
        loaded.read("other.ubj")


def test_a_file_that_the_manifest_does_not_name_is_refused_unless_hidden(written: Path) -> None:
    (written / ".nfs0001").write_text("left by a file system")
    assert bundle.load(written).task == "purchase"
    (written / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt is not in the manifest"):
        bundle.load(written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda m: m.update(format=2), "format 2, this version reads 1", id="format"),
        pytest.param(lambda m: m.pop("format"), "not the manifest of a bundle", id="no format"),
        pytest.param(lambda m: m.pop("createdAt"), "createdAt is not text", id="no time"),
        pytest.param(lambda m: m.update(files=[]), "files is not a mapping", id="files"),
        pytest.param(lambda m: m["files"]["card.md"].pop("sha256"), r"card\.md has no bytes or sha256", id="no hash"),
        pytest.param(lambda m: m["files"]["card.md"].update(bytes="10"), r"card\.md has no bytes or sha256", id="size is text"),
        pytest.param(lambda m: m.update(version="purchase-1"), "was changed", id="version"),
        pytest.param(lambda m: m.update(createdAt="2020-01-01T00:00:00Z"), "was changed", id="time"),
        pytest.param(lambda m: m["features"].reverse() or m["features"].append(1), "was changed", id="features"),
        pytest.param(lambda m: m["orderValue"].update(amount=0), "was changed", id="order value"),
        pytest.param(lambda m: m["files"].pop("card.md"), "was changed", id="a file taken out"),
    ],
)
def test_a_changed_manifest_is_refused(written: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    rewritten(written, change)
    with pytest.raises(BundleError, match=rf"manifest\.json.*{message}"):
        bundle.load(written)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * 5_000_000], ids=lambda content: repr(content[:2]))
def test_a_manifest_that_is_none_is_refused(written: Path, content: bytes) -> None:
    (written / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        bundle.load(written)


BAD_NAMES = ["../model.ubj", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a b", "a\n", "manifest.json", "a" * 101, "modèle"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "model.pkl", "model.pickle", "model.joblib", "model.pt"])
def test_a_name_that_leaves_the_folder_or_a_pickle_is_refused_by_write_and_load(tmp_path: Path, written: Path, name: str) -> None:
    with pytest.raises(BundleError, match=re.escape(repr(name))):
        bundle.write(tmp_path / "bad", task="purchase", files={name: b"x"}, meta={})
    rewritten(written, lambda manifest: manifest["files"].update({name: manifest["files"]["card.md"]}))
    with pytest.raises(BundleError, match=re.escape(repr(name))):
        bundle.load(written)
    assert everything(tmp_path) == {"written", "written/manifest.json", *(f"written/{file}" for file in FILES)}


@pytest.mark.parametrize("meta", [{"task": "x"}, {"files": {}}, {"rate": float("nan")}, {"rows": np.int64(3)}, {"path": Path("x")}])
def test_meta_that_is_not_plain_json_or_takes_a_reserved_name_is_refused(tmp_path: Path, meta: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="meta"):
        bundle.write(tmp_path / "bad", task="purchase", files=FILES, meta=meta)
    assert everything(tmp_path) == set()


@pytest.mark.parametrize("failing", range(5))
@pytest.mark.parametrize("out", ["new", "made/for/it", "empty"])
def test_a_disk_that_is_full_at_any_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, out: str) -> None:
    """The moments: each of three files, the manifest, the folder."""
    (tmp_path / "empty").mkdir()
    calls = iter(range(100))

    def fsync(handle: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BundleError, match=rf"cannot write {re.escape(str(tmp_path / out))}.*No space left on device: free some space"):
        bundle.write(tmp_path / out, task="purchase", files=FILES, meta=META)
    assert everything(tmp_path) == {"empty"}


def test_a_failure_after_the_folder_has_its_name_leaves_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def fsync(handle: int) -> None:
        if next(calls) == 5:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BundleError, match="Input/output error"):
        bundle.write(tmp_path / "new", task="purchase", files=FILES, meta=META)
    assert everything(tmp_path) == set()


LIMITED = """
import resource, sys
from pathlib import Path
from training.registry import bundle
from training.errors import BundleError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    bundle.write(Path(sys.argv[1]), task="purchase", files={"card.md": b"# A", "model.ubj": bytes(5000)}, meta={})
except BundleError as error:
    print(error)
"""


def test_a_real_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "new")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert f"cannot write {tmp_path / 'new'}" in done.stdout, done.stderr
    assert "File too large" in done.stdout
    assert everything(tmp_path) == set()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match=r"file/new.*a part of its path is a file"):
        bundle.write(tmp_path / "file" / "new", task="purchase", files=FILES, meta=META)
    assert everything(tmp_path) == {"file"}


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.write(tmp_path / "new", task="purchase", files=FILES, meta=META)
    assert everything(tmp_path) == set()
