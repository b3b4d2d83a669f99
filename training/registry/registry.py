"""The registry: immutable bundles under names, and aliases such as `champion`, each with the history of its models.

Layout: `<url>/<task>/<name>/` is a bundle, `<url>/<task>/aliases.json` is {alias: {name, since, before: [older names, newest last]}}.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from training.errors import BundleError, RegistryError
from training.registry import bundle, storage
from training.registry.bundle import Bundle
from training.registry.simulated import is_simulated
from training.tables.table import like, listed

ALIASES = "aliases.json"
METRICS, CARD = "metrics.json", "card.md"
HISTORY = 100  # previous names stored for an alias


@dataclass(frozen=True)
class RegistryEntry:
    """One model of the registry. data: the name of the data that its metrics are of, which it was trained on; simulated: whether that was.

    problem: why its bundle cannot be read; version, created_at, metrics and data are then empty.
    """

    task: str
    name: str
    version: str
    created_at: str
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]
    problem: str | None = None
    data: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Promotion:
    """The name that an alias points to, since when, and the previous names, newest last. Promoting the same name again is another one."""

    name: str
    since: str
    before: tuple[str, ...] = ()


class Registry:
    """The models at `url`, a local folder or any fsspec URL; bundles of a remote one are copied into the folder `cache`.

    Processes may change a local registry concurrently; of two concurrent changes to a remote one, the last wins.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._storage = storage.at(url)
        self._url = self._storage.where
        self._cache = cache / sha256(url.encode()).hexdigest()[:16]

    @property
    def where(self) -> str:
        """Return the absolute path of a local registry, or the URL."""
        return self._url

    def exists(self) -> bool:
        """Return whether there is a registry; `add` creates a local one."""
        return self._storage.exists()

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
                raise RegistryError(f"{new.task}/{name} is another model in {self._url}, and models are immutable: choose another name")
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
        """Return the model of a reference: TASK@ALIAS, TASK/NAME or TASK@NAME, or a NAME that is unique across tasks."""
        task, name = self._resolved(ref)
        return self._entry(task, name, self._aliases(task))

    def promote(self, ref: str, alias: str = "champion") -> RegistryEntry:
        """Verify the bundle of a model, point an alias to it, and return the model. `rollback` undoes it.

        Promoting what the alias points to already has a server try it again that has refused it.
        """
        _checked("alias", alias)
        task, name = self._resolved(ref)
        self._verify(task, name)
        with self._storage.locked(task):
            aliases = self._aliases(task)
            now = aliases.get(alias)
            before = () if now is None else now.before if now.name == name else (*now.before, now.name)
            aliases = self._point(task, aliases, alias, name, before[-HISTORY:])
        return self._entry(task, name, aliases)

    def rollback(self, task: str, alias: str = "champion") -> RegistryEntry:
        """Verify the previous model of an alias, point the alias back to it, and return it; repeat to go back further."""
        if self.pointer(task, alias) is None:
            raise RegistryError(f"{task}@{alias} points to no model in {self._url}: promote one with `revenue-engine models promote`")
        with self._storage.locked(task):
            aliases = self._aliases(task)
            now = aliases[alias]
            if not now.before:
                raise RegistryError(
                    f"{task}@{alias} has no model before {now.name} in {self._url}: promote another with `revenue-engine models promote`"
                )
            self._verify(task, now.before[-1])
            aliases = self._point(task, aliases, alias, now.before[-1], now.before[:-1])
        return self._entry(task, now.before[-1], aliases)

    def delete(self, ref: str) -> RegistryEntry:
        """Remove a model and return the entry that it had. Raises RegistryError where there is none, or an alias points to it."""
        task, name = self._resolved(ref)
        with self._storage.locked(task):
            aliases = self._aliases(task)
            entry = self._entry(task, name, aliases)
            if entry.aliases:
                pointing = " and ".join(f"{task}@{alias}" for alias in entry.aliases)
                raise RegistryError(
                    f"{pointing} is {name} in {self._url}, and a model in use is not deleted: point the alias to another model with "
                    "`revenue-engine models promote`, or back with `revenue-engine models rollback`"
                )
            self._forget(task, aliases, name)
            self._storage.remove(task, name)
        return entry

    def card(self, ref: str) -> str:
        """Return the card of a model, Markdown. Raises RegistryError where there is none, BundleError for a corrupted one."""
        task, name = self._resolved(ref)
        where = f"{self._url}/{task}/{name}"
        manifest = bundle.parse_manifest(self._storage.read(task, name, bundle.MANIFEST) or b"", where)
        if CARD not in manifest["files"]:
            raise RegistryError(f"{where} has no {CARD}: train the model again")
        return bundle.verified(manifest, CARD, self._storage.read(task, name, CARD) or b"", where).decode()

    def pointer(self, task: str, alias: str) -> str | None:
        """Return the name that an alias points to, None without one; one small read, suitable for polling."""
        now = self.promotion(task, alias)
        return now.name if now else None

    def promotion(self, task: str, alias: str) -> Promotion | None:
        """Return what an alias points to, since when, and what before; None without one. One small read, suitable for polling."""
        return self._aliases(_checked("task", task)).get(alias)

    def fingerprint(self, task: str, name: str) -> str:
        """Return a text that changes with the stored files of a model, from their sizes and times; "" where there are none.

        One listing, suitable for polling. It does not read the files, so it verifies nothing.
        """
        return self._storage.fingerprint(_checked("task", task), _checked("name", name))

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
            if name is None and bundle.NAME.fullmatch(alias) and self._has(task, alias):
                return task, alias
            if name is None:
                known = [f"{each}@{word}" for each in self._tasks() for word in self._aliases(each)]
                raise RegistryError(
                    f"there is no {ref} in {self._url}{like(ref, known)} (aliases there: {listed(known) or 'none'}): "
                    "promote a model with `revenue-engine models promote`"
                )
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
        names = [name for task in self._tasks() for name in (f"{task}/{each}" if "/" in ref else each for each in self._names(task))]
        return RegistryError(f"there is no model {ref} in {self._url}{like(ref, names)}: list the models with `revenue-engine models list`")

    def _entry(self, task: str, name: str, aliases: Mapping[str, Promotion]) -> RegistryEntry:
        """Return the entry of a stored model, with its problem when it is corrupted."""
        pointing = tuple(sorted(alias for alias, now in aliases.items() if now.name == name))
        where = f"{self._url}/{task}/{name}"
        try:
            manifest = bundle.parse_manifest(self._storage.read(task, name, bundle.MANIFEST) or b"", where)
            metrics = self._metrics(task, name, manifest, where) if METRICS in manifest["files"] else {}
        except BundleError as error:
            return RegistryEntry(task, name, "", "", pointing, {}, str(error))
        data = manifest.get("trainingData")
        named = str(data.get("name", "")) if isinstance(data, dict) else ""
        return RegistryEntry(
            task, name, manifest["version"], manifest["createdAt"], pointing, metrics, data=named, simulated=is_simulated(manifest)
        )

    def _metrics(self, task: str, name: str, manifest: Mapping[str, Any], where: str) -> dict[str, float]:
        """Return the numbers at the top level of metrics.json."""
        content = bundle.verified(manifest, METRICS, self._storage.read(task, name, METRICS) or b"", where)
        values = bundle.parsed(content, f"{where}/{METRICS}")
        return {key: value for key, value in values.items() if type(value) in (int, float)} if isinstance(values, dict) else {}

    def _aliases(self, task: str) -> dict[str, Promotion]:
        content = self._storage.read(task, ALIASES)
        if content is None:
            return {}
        try:
            aliases = {alias: Promotion(now["name"], now["since"], tuple(now["before"])) for alias, now in json.loads(content).items()}
            for now in aliases.values():
                for name in (now.name, *now.before):
                    _checked("name", name)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RegistryError) as error:
            where = f"{self._url}/{task}/{ALIASES}"
            raise RegistryError(f"{where} is invalid ({error!r}): remove it and promote the model again") from error
        return aliases

    def _point(self, task: str, aliases: Mapping[str, Promotion], alias: str, name: str, before: tuple[str, ...]) -> dict[str, Promotion]:
        """Point an alias to a name in the storage, and return the updated aliases."""
        now = Promotion(name, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), before)
        return self._store(task, {**aliases, alias: now})

    def _forget(self, task: str, aliases: Mapping[str, Promotion], name: str) -> None:
        """Take a name out of the previous ones of every alias, so that `rollback` does not reach it."""
        kept = {alias: replace(now, before=tuple(one for one in now.before if one != name)) for alias, now in aliases.items()}
        if kept != aliases:
            self._store(task, kept)

    def _store(self, task: str, aliases: dict[str, Promotion]) -> dict[str, Promotion]:
        """Store the aliases of a task and return them."""
        content = {alias: {"name": it.name, "since": it.since, "before": it.before} for alias, it in aliases.items()}
        self._storage.replace(json.dumps(content, indent=1).encode() + b"\n", task, ALIASES)
        return aliases


def _checked(what: str, value: str) -> str:
    """Return `value` if it is a valid name of a task, a model or an alias, else raise RegistryError."""
    if not isinstance(value, str) or not bundle.NAME.fullmatch(value) or value == ALIASES:
        raise RegistryError(f"{what} {value!r} is not valid: use 1 to 100 letters, digits, '.', '_' and '-', no '.' first")
    return value
