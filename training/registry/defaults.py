"""Default models: a task without a champion gets the packaged model, or one trained on the simulated shop."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from training.models import MODELS
from training.registry.registry import Registry

SESSIONS = 5_000
SEED = 0


def ensure(registry: Registry, alias: str, report: Callable[[str], None]) -> None:
    """Add a default model for every task that has one and for which `alias` is not set, trained if needed; `report` gets messages."""
    packaged(registry, alias, report)
    missing = [task for task, model in MODELS.items() if model.simulated and registry.pointer(task, alias) is None]
    if not missing:
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


def packaged(registry: Registry, alias: str, report: Callable[[str], None]) -> None:
    """Add the packaged model of every task that has one and for which `alias` is not set; `report` gets the messages."""
    for task, model in MODELS.items():
        if model.default is not None and registry.pointer(task, alias) is None:
            entry = registry.add(model.default, alias=alias)
            report(f"{task}@{alias} is {entry.name}, the model in the package")
