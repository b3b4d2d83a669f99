"""Default models: a task without a champion gets the packaged model, or one trained on the simulated shop."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from training.errors import RegistryError
from training.models import MODELS
from training.registry.registry import Registry

SESSIONS = 5_000
SEED = 0


def ensure(
    registry: Registry, alias: str, report: Callable[[str], None], tasks: Collection[str] = tuple(MODELS), *, demo: bool = True
) -> None:
    """Add a default model for each of the `tasks` that has one and for which `alias` is not set, trained if needed.

    report: called with messages. demo: also train models on the simulated shop, which are for demonstration.
    """
    packaged(registry, alias, report, tasks)
    missing = [task for task in tasks if MODELS[task].simulated and registry.pointer(task, alias) is None]
    if not missing:
        return
    if not demo:
        report(f"no {alias} for {', '.join(missing)} in the registry; none is trained on a simulated shop, as models.allow_demo is false")
        return
    from training.datasets.shop import shop

    report(f"no {alias} for {', '.join(missing)} in the registry: training on {SESSIONS:,} simulated sessions (once, under a minute)")
    with tempfile.TemporaryDirectory(prefix="revenue-engine-") as scratch:
        folder = Path(scratch) / "shop"
        shop.write(shop.simulate(SESSIONS, SEED), folder)
        for task in missing:
            out = Path(scratch) / task
            bundle = MODELS[task].train(folder, out, mapping={}, seed=SEED, progress=lambda what, share: None)
            entry = registry.add(bundle.path, alias=alias)
            report(f"{task}@{alias} is {entry.name}")
            shutil.rmtree(out)


def simulated(registry: Registry, alias: str, tasks: Collection[str] = tuple(MODELS)) -> list[str]:
    """Return those of the `tasks` whose `alias` points to a model that was learned from a simulated shop."""
    found = []
    for task in tasks:
        with contextlib.suppress(RegistryError):  # there is none, which is reported where it is loaded
            found += [task] if registry.show(f"{task}@{alias}").simulated else []
    return found


def packaged(registry: Registry, alias: str, report: Callable[[str], None], tasks: Collection[str] = tuple(MODELS)) -> None:
    """Add the packaged model of each of the `tasks` that has one and for which `alias` is not set; `report` gets the messages."""
    for task in tasks:
        default = MODELS[task].default
        if default is not None and registry.pointer(task, alias) is None:
            entry = registry.add(default, alias=alias)
            report(f"{task}@{alias} is {entry.name}, the model in the package")
