"""A bundle: an immutable folder with one trained model; manifest.json lists its files with their hashes. No pickles.

The manifest is {format, task, version, createdAt, files: {name: {sha256, bytes}}} and the model's own fields. The version consists of the
task, the time and a hash of the manifest, so that a change to any part of a bundle is detected.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.errors import BundleError
from training.registry import disk, simulated

FORMAT = 1
CARD = "card.md"
MANIFEST = "manifest.json"
MANIFEST_BYTES = 4 << 20
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")  # no folder, no hidden file, no `..`
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")

_RESERVED = ("format", "task", "version", "createdAt", "files")
_UNHASHED = ("version", "createdAt")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "copy the bundle again, or train again"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on the local disk."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Return the task of the model, such as purchase."""
        return str(self.manifest["task"])

    @property
    def version(self) -> str:
        """Return the version: task, time and first 8 digits of the content hash."""
        return str(self.manifest["version"])

    @property
    def simulated(self) -> bool:
        """Return whether the model was learned from a simulated table, so that it is for demonstration alone."""
        return simulated.is_simulated(self.manifest)

    def require(self, task: str) -> None:
        """Raise BundleError for a bundle of another task."""
        if self.task != task:
            raise BundleError(f"bundle {self.path} is for {self.task}, not for {task}; train one with `revenue-engine train {task}`")

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises BundleError when the manifest does not list or match it."""
        if name not in self.manifest["files"]:
            raise BundleError(f"bundle {self.path} has no file {name!r}, only {', '.join(self.manifest['files'])}: train the model again")
        return verified(self.manifest, name, _content(self.path, name), str(self.path))

    def json(self, name: str) -> Any:
        """Return the parsed content of a JSON file. Raises BundleError as `read` does, or when it is not JSON."""
        return parsed(self.read(name), f"{self.path / name}")


def write(out: Path, *, task: str, files: Mapping[str, bytes], meta: Mapping[str, Any]) -> Bundle:
    """Write a bundle atomically into the folder `out`, which must be absent or empty, and return it.

    meta: further fields of the manifest, beside format, task, version, createdAt and files; plain JSON without NaN. The card of a model
    that was learned from a simulated table gets a remark. Raises BundleError, and leaves no file, when a name or meta is invalid, `out` is
    not empty, or writing fails.
    """
    if CARD in files and simulated.is_simulated(meta):
        files = {**files, CARD: simulated.with_remark(files[CARD].decode()).encode()}
    for name in (task, *files):
        check_name(name, f"bundle {out}")
    if clash := [name for name in _RESERVED if name in meta]:
        raise BundleError(f"bundle {out}: meta has the reserved fields {', '.join(clash)}: rename them")
    entries = {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()}
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        manifest = _plain({"format": FORMAT, "task": task, "version": "", "createdAt": created, "files": entries, **meta})
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"bundle {out}: meta is not plain JSON ({error}): give numbers, text, lists and mappings only") from error
    manifest["version"] = _version(manifest)
    store(out, {**files, MANIFEST: json.dumps(manifest, indent=1).encode() + b"\n"})
    return Bundle(out.absolute(), manifest)


def encoded(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file of a bundle. Raises ValueError for NaN, which is not valid JSON."""
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def load(path: Path) -> Bundle:
    """Return the bundle in the folder `path`, with every file verified. Raises BundleError for a missing or changed file."""
    path = path.absolute()
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}: write one with `revenue-engine train TASK --data PATH --out {path}`")
    manifest = parse_manifest(_content(path, MANIFEST), str(path))
    named = {MANIFEST, *manifest["files"]}
    # Hidden files are allowed, because file systems create some; a bundle cannot list or read them.
    if strange := sorted(name for name in _names(path) if name not in named and not name.startswith(".")):
        raise BundleError(f"{path / strange[0]} is not in the manifest of bundle {path}: bundles are immutable; move the file elsewhere")
    for name in manifest["files"]:
        verified(manifest, name, _content(path, name), str(path))
    return Bundle(path, manifest)


def parse_manifest(content: bytes, where: str) -> dict[str, Any]:
    """Return the manifest in `content`. Raises BundleError for another format, an invalid field, or a wrong version hash."""
    if len(content) > MANIFEST_BYTES:
        raise BundleError(f"{where}/{MANIFEST} has {len(content)} bytes, more than {MANIFEST_BYTES}: {_AGAIN}")
    manifest = parsed(content, f"{where}/{MANIFEST}")
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BundleError(f"{where}/{MANIFEST} is not the manifest of a bundle: point to a folder that `revenue-engine train` wrote")
    if manifest["format"] != FORMAT:
        raise BundleError(
            f"{where}/{MANIFEST} has format {manifest['format']!r}, this version reads {FORMAT}: train again, or install a matching version"
        )
    if wrong := _wrong_field(manifest):
        raise BundleError(f"{where}/{MANIFEST}: {wrong}: {_AGAIN}")
    for name in (manifest["task"], *manifest["files"]):
        check_name(name, f"{where}/{MANIFEST}")
    if manifest["version"] != _version(manifest):
        raise BundleError(f"{where}/{MANIFEST} was changed after it was written: {_AGAIN}")
    return manifest


def verified(manifest: Mapping[str, Any], name: str, content: bytes, where: str) -> bytes:
    """Return `content` if its size and hash match file `name` in the manifest, else raise BundleError."""
    entry = manifest["files"][name]
    if len(content) != entry["bytes"]:
        raise BundleError(f"{where}/{name} has {len(content)} bytes instead of {entry['bytes']}: {_AGAIN}")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise BundleError(f"{where}/{name} is corrupted, its SHA-256 differs: {_AGAIN}")
    return content


def parsed(content: bytes, where: str) -> Any:
    """Return the parsed JSON. Raises BundleError, naming `where` it was read, when it is invalid."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON ({error}): {_AGAIN}") from error


def check_name(name: str, where: str) -> None:
    """Raise BundleError unless `name` is a valid file name in a bundle."""
    if not NAME.fullmatch(name) or name == MANIFEST:
        raise BundleError(f"{where}: {name!r} is not a valid file name: use 1 to 100 letters, digits, '.', '_' and '-', no '.' first")
    if name.endswith(PICKLES):
        raise BundleError(f"{where}: {name!r} has the suffix of a pickle, which can run code when loaded: use UBJ, safetensors or JSON")


def store(out: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into the folder `out`, which must be absent or empty: all of them, or none and BundleError."""
    try:
        if out.is_symlink():
            raise _taken(out)
        require_free(out)
        disk.write_folder(out, files)
    except OSError as error:
        raise BundleError(f"cannot write {out}, nothing was left there: {disk.reason(error)}") from error


def require_free(out: Path) -> None:
    """Raise BundleError unless `out` is absent or empty, to fail before a long training."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise _taken(out)


def _taken(out: Path) -> BundleError:
    return BundleError(f"{out} exists and is not an empty folder: choose another folder, or empty it")


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise BundleError(f"{folder} cannot be listed ({error.strerror}): make it readable") from error


def _content(folder: Path, name: str) -> bytes:
    """Return the bytes of a plain file of the folder; raise BundleError for a link or any other kind of file."""
    path = folder / name
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path} is not a plain file: {_AGAIN}")
            return file.read()
    except OSError as error:
        reasons = {errno.ENOENT: "is missing", errno.ELOOP: "is a symbolic link, which a bundle may not contain"}
        reason = reasons.get(error.errno or 0, f"cannot be read ({error.strerror})")
        raise BundleError(f"{path} {reason}: {_AGAIN}") from error


def _wrong_field(manifest: Mapping[str, Any]) -> str | None:
    """Return the first type error of a manifest, None if there is none."""
    for field in ("task", "version", "createdAt"):
        if not isinstance(manifest.get(field), str):
            return f"{field} is not text"
    if not isinstance(manifest.get("files"), dict):
        return "files is not a mapping"
    for name, entry in manifest["files"].items():
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int or not _SHA256.fullmatch(str(entry.get("sha256"))):
            return f"files.{name} has no bytes or sha256"
    return None


def _plain(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest after a JSON round trip, which is the form that its version hash covers."""
    read: dict[str, Any] = json.loads(json.dumps(manifest, allow_nan=False))
    return read


def _version(manifest: Mapping[str, Any]) -> str:
    """Return the version computed from the content of a manifest."""
    content = {key: value for key, value in manifest.items() if key not in _UNHASHED}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return f"{manifest['task']}-{re.sub('[-:]', '', manifest['createdAt'])}-{digest[:8]}"
