"""The whole purchase endpoint of `revenue-engine serve` as a user starts it: a replica for each core, but the cache off."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.servers import ROOT, Target, module, running
from serving.engines import ENGINES
from training.registry.registry import Registry

LABEL = "revenue-engine"
QUESTION = "endpoint"
REQUIREMENTS = ()

PURCHASE = ENGINES[0]
ALIAS = "champion"


@contextlib.contextmanager
def start(
    model: Path,
    port: int,
    *,
    cache: bool = False,
    replicas: int | None = None,
    others: Sequence[Path] = (),
    more: Mapping[str, str] | None = None,
    checkout: Path = ROOT,
) -> Iterator[Target]:
    """Serve the purchase bundle `model`, and the bundles of other questions, on a loopback port, files beside the bundle.

    `more`: of the environment, which is where the settings are. `checkout`: the root of the build that is served, this one by default.
    """
    home = model.parent / f"home-{checkout.name}"
    registry = home / "models"
    for bundle in (model, *others):
        Registry(str(registry), home / "fetched").add(bundle, alias=ALIAS)
    environment = {
        "REVENUE_ENGINE_HOME": str(home),
        "REVENUE_ENGINE_MODELS__REGISTRY": str(registry),
        "REVENUE_ENGINE_MODELS__ALIAS": ALIAS,
        "REVENUE_ENGINE_SERVER__HOST": "127.0.0.1",
        "REVENUE_ENGINE_CACHE__ENABLED": str(cache).lower(),
        **({} if more is None else more),
        **({} if cache else {"REVENUE_ENGINE_FEATURES__FRESH_S": "0"}),
    }
    if replicas is not None:
        environment["REVENUE_ENGINE_SERVER__REPLICAS"] = str(replicas)
    target = Target(f"http://127.0.0.1:{port}{PURCHASE.route}", marker='"purchaseProbability":')
    command = [*module("serving.cli"), "serve", "--port", str(port)]
    with running(command, target, msgspec.json.encode(PURCHASE.example), model.parent / f"{checkout.name}.log", environment, checkout):
        yield target
