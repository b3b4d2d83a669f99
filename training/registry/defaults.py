"""Default models for a fresh machine: each task without a champion gets the one in the package, or is trained on the simulated shop."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from training.models import MODELS
from training.registry.registry import Registry

SESSIONS = 5_000
SEED = 0


def ensure(registry: Registry, alias: str, say: Callable[[str], None]) -> None:
    """Train and add the default model of every task that has one and to which `alias` does not point yet; `say` hears what and why."""
    packaged(registry, alias, say)
    missing = [task for task, model in MODELS.items() if model.simulated and registry.pointer(task, alias) is None]
    if not missing:
        return
    from training.datasets.shop import shop

    say(f"no {alias} for {', '.join(missing)} in the registry: training on {SESSIONS:,} simulated sessions (under a minute, once)")
    with tempfile.TemporaryDirectory(prefix="revenue-engine-") as scratch:
        folder = Path(scratch) / "shop"
        shop.write(shop.simulate(SESSIONS, SEED), folder)
        for task in missing:
            out = Path(scratch) / task
            bundle = MODELS[task].train(folder, out, mapping={}, seed=SEED, progress=lambda what, share: None)
            entry = registry.add(bundle.path, alias=alias)
            say(f"{task}@{alias} is {entry.name}")
            shutil.rmtree(out)


def packaged(registry: Registry, alias: str, say: Callable[[str], None]) -> None:
    """Add the model that comes with the package for every task that has one and to which `alias` does not point yet; `say` hears of it."""
    for task, model in MODELS.items():
        if model.default is not None and registry.pointer(task, alias) is None:
            entry = registry.add(model.default, alias=alias)
            say(f"{task}@{alias} is {entry.name}, which comes with the package")
