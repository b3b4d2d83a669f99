"""The registry: immutable bundles under names, and aliases such as `champion`, each with the history of its models.

Layout: `<url>/<task>/<name>/` is a bundle, `<url>/<task>/aliases.json` is {alias: {name, since, before: [older names, newest last]}}.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from training.errors import BundleError, RegistryError
from training.registry import bundle, storage
from training.registry.bundle import Bundle

ALIASES = "aliases.json"
METRICS = "metrics.json"
HISTORY = 100  # previous names stored for an alias


@dataclass(frozen=True)
class RegistryEntry:
    """One model of the registry. problem: why its bundle cannot be read; version, created_at and metrics are then empty."""

    task: str
    name: str
    version: str
    created_at: str
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]
    problem: str | None = None


@dataclass(frozen=True)
class _Alias:
    """The name that an alias points to, since when, and the previous names, newest last."""

    name: str
    since: str
    before: tuple[str, ...] = ()


class Registry:
    """The models at `url`, a local folder or any fsspec URL; bundles of a remote one are copied into the folder `cache`.

    Processes may change a local registry concurrently; of two concurrent changes to a remote one, the last wins.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._url = url
        self._storage = storage.at(url)
        self._cache = cache / sha256(url.encode()).hexdigest()[:16]

    def add(self, directory: Path, name: str | None = None, alias: str | None = None) -> RegistryEntry:
        """Copy the bundle in `directory` into the registry, point `alias` to it if one is given, and return its entry.

        name: the bundle's version by default. Adding the same bundle again has no effect; another one of that name raises RegistryError.
        """
        new = bundle.load(directory)
        name = _checked("name", name or new.version)
        if alias is not None:
            _checked("alias", alias)
        manifest = (new.path / bundle.MANIFEST).read_bytes()
        with self._storage.locked(new.task):
            stored = self._storage.read(new.task, name, bundle.MANIFEST)
            if stored is None:
                self._storage.add(new.task, name, {bundle.MANIFEST: manifest, **{file: new.read(file) for file in new.manifest["files"]}})
            elif stored != manifest:
                raise RegistryError(f"{new.task}/{name} is another model, and models are immutable: choose another name")
        ref = f"{new.task}/{name}"
        return self.show(ref) if alias is None else self.promote(ref, alias)

    def list(self, task: str | None = None) -> list[RegistryEntry]:
        """Return the models of a task, or of all, newest last."""
        found = []
        for each in self._tasks() if task is None else (_checked("task", task),):
            aliases = self._aliases(each)
            found += [self._entry(each, name, aliases) for name in self._names(each)]
        return sorted(found, key=lambda entry: (entry.task, entry.created_at, entry.name))

    def show(self, ref: str) -> RegistryEntry:
        """Return the model of a reference: TASK@ALIAS, TASK/NAME, or a NAME that is unique across tasks."""
        task, name = self._resolved(ref)
        return self._entry(task, name, self._aliases(task))

    def promote(self, ref: str, alias: str = "champion") -> RegistryEntry:
        """Verify the bundle of a model, point an alias to it, and return the model. `rollback` undoes it."""
        _checked("alias", alias)
        task, name = self._resolved(ref)
        self._verify(task, name)
        with self._storage.locked(task):
            aliases = self._aliases(task)
            now = aliases.get(alias)
            if now is None or now.name != name:
                before = (*now.before, now.name) if now else ()
                aliases = self._point(task, aliases, alias, name, before[-HISTORY:])
        return self._entry(task, name, aliases)

    def rollback(self, task: str, alias: str = "champion") -> RegistryEntry:
        """Verify the previous model of an alias, point the alias back to it, and return it; repeat to go back further."""
        if self.pointer(task, alias) is None:
            raise RegistryError(f"{task}@{alias} points to no model: promote one with `revenue-engine models promote`")
        with self._storage.locked(task):
            aliases = self._aliases(task)
            now = aliases[alias]
            if not now.before:
                raise RegistryError(f"{task}@{alias} has no model before {now.name}: promote another with `revenue-engine models promote`")
            self._verify(task, now.before[-1])
            aliases = self._point(task, aliases, alias, now.before[-1], now.before[:-1])
        return self._entry(task, now.before[-1], aliases)

    def pointer(self, task: str, alias: str) -> str | None:
        """Return the name that an alias points to, None without one; one small read, suitable for polling."""
        now = self._aliases(_checked("task", task)).get(alias)
        return now.name if now else None

    def fetch(self, task: str, name: str) -> Bundle:
        """Return the verified bundle of a model on this machine; a remote one is copied into the cache once.

        Raises RegistryError when there is no such model, BundleError when its bundle is corrupted.
        """
        found = self._storage.fetch(_checked("task", task), _checked("name", name), self._cache)
        if found is None:
            raise self._unknown(f"{task}/{name}")
        self._check_task(found.task, task, name)
        return found

    def _verify(self, task: str, name: str) -> None:
        """Raise RegistryError or BundleError unless the stored model exists, is intact, and is for this task."""
        manifest = self._storage.verify(task, name)
        if manifest is None:
            raise self._unknown(f"{task}/{name}")
        self._check_task(manifest["task"], task, name)

    def _check_task(self, found: str, task: str, name: str) -> None:
        if found != task:
            raise BundleError(f"{self._url}/{task}/{name} is a model for {found}: move it away and add it with `models add`")

    def _tasks(self) -> Iterable[str]:
        return (folder for folder in self._storage.folders() if bundle.NAME.fullmatch(folder))

    def _names(self, task: str) -> Iterable[str]:
        return (folder for folder in self._storage.folders(task) if bundle.NAME.fullmatch(folder) and self._has(task, folder))

    def _has(self, task: str, name: str) -> bool:
        return self._storage.read(task, name, bundle.MANIFEST) is not None

    def _resolved(self, ref: str) -> tuple[str, str]:
        """Return the task and the name of a reference."""
        task, at, alias = ref.partition("@")
        if at:
            name = self.pointer(task, alias)
            if name is None:
                known = ", ".join(f"{task}@{alias}" for alias in self._aliases(task)) or "none"
                raise RegistryError(f"there is no {ref} in {self._url} (aliases of {task}: {known}): promote a model with `models promote`")
            return task, name
        task, slash, name = ref.rpartition("/")
        _checked("name", name)
        tasks = (_checked("task", task),) if slash else self._tasks()
        found = [each for each in tasks if self._has(each, name)]
        if not found:
            raise self._unknown(ref)
        if len(found) > 1:
            raise RegistryError(f"{ref!r} is a model of several tasks: use {' or '.join(f'{each}/{name}' for each in found)}")
        return found[0], name

    def _unknown(self, ref: str) -> RegistryError:
        return RegistryError(f"there is no model {ref} in {self._url}: list the models with `revenue-engine models list`")

    def _entry(self, task: str, name: str, aliases: Mapping[str, _Alias]) -> RegistryEntry:
        """Return the entry of a stored model, with its problem when it is corrupted."""
        pointing = tuple(sorted(alias for alias, now in aliases.items() if now.name == name))
        where = f"{self._url}/{task}/{name}"
        try:
            manifest = bundle.parse_manifest(self._storage.read(task, name, bundle.MANIFEST) or b"", where)
            metrics = self._metrics(task, name, manifest, where) if METRICS in manifest["files"] else {}
        except BundleError as error:
            return RegistryEntry(task, name, "", "", pointing, {}, str(error))
        return RegistryEntry(task, name, manifest["version"], manifest["createdAt"], pointing, metrics)

    def _metrics(self, task: str, name: str, manifest: Mapping[str, Any], where: str) -> dict[str, float]:
        """Return the numbers at the top level of metrics.json."""
        content = bundle.verified(manifest, METRICS, self._storage.read(task, name, METRICS) or b"", where)
        values = bundle.parsed(content, f"{where}/{METRICS}")
        return {key: value for key, value in values.items() if type(value) in (int, float)} if isinstance(values, dict) else {}

    def _aliases(self, task: str) -> dict[str, _Alias]:
        content = self._storage.read(task, ALIASES)
        if content is None:
            return {}
        try:
            aliases = {alias: _Alias(now["name"], now["since"], tuple(now["before"])) for alias, now in json.loads(content).items()}
            for now in aliases.values():
                for name in (now.name, *now.before):
                    _checked("name", name)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RegistryError) as error:
            where = f"{self._url}/{task}/{ALIASES}"
            raise RegistryError(f"{where} is invalid ({error!r}): remove it and promote the model again") from error
        return aliases

    def _point(self, task: str, aliases: Mapping[str, _Alias], alias: str, name: str, before: tuple[str, ...]) -> dict[str, _Alias]:
        """Point an alias to a name in the storage, and return the updated aliases."""
        now = _Alias(name, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), before)
        changed = {**aliases, alias: now}
        content = {each: {"name": it.name, "since": it.since, "before": it.before} for each, it in changed.items()}
        self._storage.replace(json.dumps(content, indent=1).encode() + b"\n", task, ALIASES)
        return changed


def _checked(what: str, value: str) -> str:
    """Return `value` if it is a valid name of a task, a model or an alias, else raise RegistryError."""
    if not isinstance(value, str) or not bundle.NAME.fullmatch(value) or value == ALIASES:
        raise RegistryError(f"{what} {value!r} is not valid: use 1 to 100 letters, digits, '.', '_' and '-', no '.' first")
    return value
