"""Models as a command line names them: the folder of a bundle, or a reference into the registry."""

from pathlib import Path
from typing import TYPE_CHECKING

from serving.commands.options import registry
from serving.progress import Progress
from training.models import MODELS

if TYPE_CHECKING:
    from serving.settings import Settings
    from training.registry.bundle import Bundle
    from training.registry.registry import Registry


def bundle(ref: str, url: str | None, settings: "Settings", progress: Progress) -> "Bundle":
    """Return the bundle in the folder `ref`, or the one that `ref` names in the registry.

    Where the alias that a server follows points to no model of a task which has a default model, that one is added first, as a server does
    when it starts. Raises BundleError and RegistryError.
    """
    from training.registry import bundle as bundles

    if Path(ref).is_dir() or not _is_reference(ref):
        return bundles.load(Path(ref))
    models = registry(url)
    _ensure_default(models, ref, settings, progress)
    return _stored(models, ref)


def _is_reference(ref: str) -> bool:
    """Return whether `ref` can be a model of the registry: TASK@ALIAS, TASK/NAME or NAME; else it is a path."""
    task, slash, _ = ref.partition("/")
    return "@" in ref or task in MODELS if slash or "@" in ref else not ref.startswith(".")


def _stored(models: "Registry", ref: str) -> "Bundle":
    entry = models.show(ref)
    return models.fetch(entry.task, entry.name)


def _ensure_default(models: "Registry", ref: str, settings: "Settings", progress: Progress) -> None:
    """Add the default model that `ref` means, if there is one and the registry has none."""
    from training.registry import defaults

    task, _, alias = ref.partition("@")
    if task in MODELS and alias == settings.models.alias and models.pointer(task, alias) is None:
        defaults.ensure(models, alias, lambda message: progress(message, 0.0), (task,), demo=settings.models.allow_demo)
