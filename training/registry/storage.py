"""Storage of a registry's files: a local folder, or any fsspec URL (s3://, gs://, memory://, ...). Paths are passed as their parts."""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from training.errors import BundleError, RegistryError
from training.registry import bundle, disk
from training.registry.bundle import Bundle

LOCK = ".lock"
LOCK_SECONDS = 10.0


class Storage(Protocol):
    """The operations that a registry needs of its storage. where: its absolute path, or its URL."""

    where: str

    def exists(self) -> bool:
        """Return whether there is a registry."""

    def read(self, *parts: str) -> bytes | None:
        """Return the content of a file, None when there is none."""

    def folders(self, *parts: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; none when there is no such folder."""

    def add(self, task: str, name: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a new bundle, manifest included: readers see all of it or nothing."""

    def replace(self, content: bytes, *parts: str) -> None:
        """Write a file atomically, replacing an existing one."""

    def remove(self, task: str, name: str) -> None:
        """Remove a bundle: readers see all of it or nothing."""

    def locked(self, task: str) -> AbstractContextManager[None]:
        """Return a context that excludes other changes to the folder of `task`."""

    def fetch(self, task: str, name: str, cache: Path) -> Bundle | None:
        """Return a verified bundle on this machine, None when there is none; `cache` is a local folder to copy it into."""

    def verify(self, task: str, name: str) -> Mapping[str, Any] | None:
        """Return the manifest of a bundle, with every stored byte verified; None when there is none."""

    def fingerprint(self, task: str, name: str) -> str:
        """Return a text that changes with the files of a bundle, without reading them; "" when there is none."""


def at(url: str) -> Storage:
    """Return the storage at a URL or a local path."""
    path = url.removeprefix("file://").removeprefix("local://")
    return RemoteStorage(url) if "://" in path or "::" in path else LocalStorage(Path(path).expanduser())


class LocalStorage:
    """A folder on this machine or on a shared file system."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))
        self.where = str(self._root)

    def exists(self) -> bool:
        """Return whether there is such a folder."""
        return self._root.is_dir()

    def read(self, *parts: str) -> bytes | None:
        """Return the content of a file, None when there is none."""
        path = self._root.joinpath(*parts)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RegistryError(f"cannot read {path}: {error.strerror}: make it a file that you may read") from error

    def folders(self, *parts: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; links are left out."""
        path = self._root.joinpath(*parts)
        try:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"cannot list {path}: {error.strerror}: make it a folder that you may read") from error

    def add(self, task: str, name: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a new bundle, atomically. Raises BundleError, and leaves no file, when that fails."""
        bundle.store(self._root / task / name, files)

    def replace(self, content: bytes, *parts: str) -> None:
        """Write a file atomically: a reader sees the old content or the new."""
        path = self._root.joinpath(*parts)
        try:
            disk.replace_file(path, content)
        except OSError as error:
            raise RegistryError(f"cannot write {path}, it is as it was: {disk.reason(error)}") from error

    def remove(self, task: str, name: str) -> None:
        """Remove a bundle: it is renamed to a hidden folder first, which no reader sees."""
        path = self._root / task / name
        hidden = path.with_name(f".{name}.{secrets.token_hex(4)}.deleted")
        try:
            path.rename(hidden)
        except OSError as error:
            raise RegistryError(f"cannot remove {path}, it is as it was: {disk.reason(error)}") from error
        shutil.rmtree(hidden, ignore_errors=True)

    @contextmanager
    def locked(self, task: str) -> Iterator[None]:
        """Exclude other processes and threads from changing the folder of `task`; wait for them up to LOCK_SECONDS."""
        path = self._root / task / LOCK
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise RegistryError(f"cannot lock {path}: {disk.reason(error)}") from error
        with file:
            _lock(file.fileno(), path)
            yield

    def fetch(self, task: str, name: str, cache: Path) -> Bundle | None:
        """Return the verified bundle in its folder, None when there is none."""
        path = self._root / task / name
        if path.is_symlink():
            raise BundleError(f"{path} is a symbolic link, whose target may change: add that bundle to the registry")
        return bundle.load(path) if path.is_dir() else None

    def verify(self, task: str, name: str) -> Mapping[str, Any] | None:
        """Return the manifest of a bundle, with every byte verified; None when there is none."""
        found = self.fetch(task, name, self._root)
        return found.manifest if found else None

    def fingerprint(self, task: str, name: str) -> str:
        """Return the names, inodes, sizes and times of the files of a bundle, as text."""
        try:
            with os.scandir(self._root / task / name) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:
            return ""
        return " ".join(sorted(f"{file}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}:{seen.st_ctime_ns}" for file, seen in found))


def _lock(handle: int, path: Path) -> None:
    """Take the lock of an open file, which is released when the file is closed."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise RegistryError(f"{path} has been locked by another process for {LOCK_SECONDS:g} s: end it and try again") from None
        except OSError as error:
            raise RegistryError(f"cannot lock {path}: {disk.reason(error)}") from error
        time.sleep(0.01)


class RemoteStorage:
    """Any fsspec URL, without locks: of two concurrent changes the last wins.

    The manifest of a bundle is written last, so an incomplete bundle is not found. Object stores replace a file atomically; on other stores
    a reader may briefly see a partial file, which raises an error and never returns another value.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise RegistryError(f"registry {url!r} cannot be opened ({error}): correct the URL or install its package") from error
        self._url = self.where = url.rstrip("/")

    def exists(self) -> bool:
        """Return True: a bucket or a folder is not created by adding a model to it."""
        return True

    def read(self, *parts: str) -> bytes | None:
        """Return the content of a file, None when there is none."""
        try:
            with self._converting_errors("read", parts):
                content: bytes = self._files.cat_file(self._path(*parts))
        except FileNotFoundError:
            return None
        return content

    def folders(self, *parts: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        folder = self._path(*parts)
        try:
            with self._converting_errors("list", parts):
                self._files.invalidate_cache()
                entries: list[dict[str, Any]] = self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        paths = [str(entry["name"]).strip("/") for entry in entries if entry["type"] == "directory"]
        return sorted(path.rpartition("/")[2] for path in paths if path != folder.strip("/"))

    def add(self, task: str, name: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a new bundle, its manifest last."""
        for file in sorted(files, key=lambda file: file == bundle.MANIFEST):
            self.replace(files[file], task, name, file)

    def replace(self, content: bytes, *parts: str) -> None:
        """Write a file."""
        try:
            with self._converting_errors("write", parts):
                self._files.makedirs(self._path(*parts[:-1]), exist_ok=True)
                self._files.pipe_file(self._path(*parts), content)
        except FileNotFoundError as error:
            raise RegistryError(f"cannot write {self._named(parts)}: no such bucket or folder: create it first") from error

    def remove(self, task: str, name: str) -> None:
        """Remove a bundle, its manifest first."""
        content = self.read(task, name, bundle.MANIFEST)
        with self._converting_errors("remove", (task, name)):
            if content is not None:
                self._files.rm_file(self._path(task, name, bundle.MANIFEST))
            self._files.rm(self._path(task, name), recursive=True)

    def locked(self, task: str) -> AbstractContextManager[None]:
        """Return an empty context: remote storage has no locks."""
        return nullcontext()

    def fetch(self, task: str, name: str, cache: Path) -> Bundle | None:
        """Return the verified bundle in `cache`, copying it there if needed; None when there is none."""
        content = self.read(task, name, bundle.MANIFEST)
        if content is None:
            return None
        folder = cache / task / name
        if folder.exists() and (cached := _cached(folder, content)):
            return cached
        files = self._download(task, name, content)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            bundle.store(folder, files)
        except BundleError:
            if cached := _cached(folder, content):  # another process was faster
                return cached
            raise
        return bundle.load(folder)

    def verify(self, task: str, name: str) -> Mapping[str, Any] | None:
        """Return the manifest of a bundle, with every remote byte verified, regardless of the cache; None when there is none."""
        content = self.read(task, name, bundle.MANIFEST)
        if content is None:
            return None
        self._download(task, name, content)
        return bundle.parse_manifest(content, self._named((task, name)))

    def fingerprint(self, task: str, name: str) -> str:
        """Return what the store lists of the files of a bundle (names, sizes, times, ETags), as text."""
        try:
            with self._converting_errors("list", (task, name)):
                self._files.invalidate_cache()
                entries: list[dict[str, Any]] = self._files.ls(self._path(task, name), detail=True)
        except FileNotFoundError:
            return ""
        return " ".join(sorted(repr(sorted((key, str(value)) for key, value in entry.items())) for entry in entries))

    def _download(self, task: str, name: str, content: bytes) -> dict[str, bytes]:
        """Return every file of a bundle, verified, and the manifest `content` itself."""
        where = self._named((task, name))
        manifest = bundle.parse_manifest(content, where)
        files = {bundle.MANIFEST: content}
        for file in manifest["files"]:
            found = self.read(task, name, file)
            if found is None:
                raise BundleError(f"{where}/{file} is missing: add the model again under another name")
            files[file] = bundle.verified(manifest, file, found, where)
        return files

    @contextmanager
    def _converting_errors(self, what: str, parts: tuple[str, ...]) -> Iterator[None]:
        """Convert errors to RegistryError: back ends raise errors of their own, without a common base class."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise RegistryError(f"cannot {what} {self._named(parts)} ({error!r}): check the connection and your permissions") from error

    def _path(self, *parts: str) -> str:
        return "/".join((self._root.rstrip("/"), *parts))

    def _named(self, parts: tuple[str, ...]) -> str:
        return "/".join((self._url, *parts))


def _cached(folder: Path, manifest: bytes) -> Bundle | None:
    """Return the bundle in a folder of the cache if it is intact and has this manifest, else None."""
    try:
        return bundle.load(folder) if (folder / bundle.MANIFEST).read_bytes() == manifest else None
    except (OSError, BundleError):
        return None
