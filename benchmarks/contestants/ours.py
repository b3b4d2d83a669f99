"""`revenue-engine serve` as a user starts it: one replica, default settings, except that the cache is off."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers import running
from serving.engines import ENGINES
from training.registry import Registry

LABEL = "revenue-engine"
ALIAS = "champion"


@contextlib.contextmanager
def start(bundle: Path, port: int) -> Iterator[str]:
    """Serve the bundle on a loopback port, files beside the bundle; yield the URL that answers purchase predictions."""
    home = bundle.parent / "home"
    registry = home / "models"
    Registry(str(registry), home / "fetched").add(bundle, alias=ALIAS)
    environment = {
        "REVENUE_ENGINE_HOME": str(home),
        "REVENUE_ENGINE_MODELS__REGISTRY": str(registry),
        "REVENUE_ENGINE_MODELS__ALIAS": ALIAS,
        "REVENUE_ENGINE_SERVER__HOST": "127.0.0.1",
        "REVENUE_ENGINE_SERVER__REPLICAS": "1",
        "REVENUE_ENGINE_CACHE__ENABLED": "false",
    }
    url = f"http://127.0.0.1:{port}{ENGINES[0].route}"
    with running(["serving.cli", "serve", "--port", str(port)], environment, url, bundle.parent / "ours.log"):
        yield url
