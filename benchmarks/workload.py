"""What every peer gets: the same models, request bodies, rows and right answers, made once and kept for the next run.

Two models of the same size, 200 trees of depth 6 over 17 float32 features: a purchase bundle trained on simulated sessions, for the whole
endpoint, and bare trees with every leaf grown, for the peers that answer 17 numbers with a probability.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xgboost as xgb

from benchmarks.machine import ROOT
from kernels.types import F32
from serving.engines import ENGINES, Engine
from serving.settings import Settings
from training.datasets.shop import shop
from training.models import MODELS
from training.models.shared import trees
from training.registry import bundle as bundles

PURCHASE = ENGINES[0]
INTERACTIONS = 20
SESSIONS = 20_000
SEED = 0
TREES, DEPTH, FEATURES = 200, 6, 17
LEARNED_ROWS, ROWS = 50_000, 1_000  # of the bare model: to grow it, and to ask it
KEPT = ROOT / ".revenue-engine" / "bench" / "workload"

Log = Callable[[str], None]


@dataclass(frozen=True)
class Workload:
    """The files of `folder`: bundle/, other/ (the same model under another version), model.ubj, requests.ndjson and rows.json."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """Return the purchase bundle."""
        return self.folder / "bundle"

    @property
    def other(self) -> Path:
        """Return a bundle with the same model and another version, whose answers are therefore known too."""
        return self.folder / "other"

    @property
    def model(self) -> Path:
        """Return the bare trees."""
        return self.folder / "model.ubj"

    @cached_property
    def requests(self) -> list[bytes]:
        """Return the bodies for the purchase endpoint."""
        return (self.folder / "requests.ndjson").read_bytes().splitlines()

    @cached_property
    def probabilities(self) -> list[float]:
        """Return the purchaseProbability of each body."""
        return [float(line) for line in (self.folder / "probabilities.txt").read_text().splitlines()]

    @cached_property
    def rows(self) -> list[list[float]]:
        """Return the rows for the bare model."""
        found: list[list[float]] = json.loads((self.folder / "rows.json").read_text())
        return found

    @cached_property
    def scores(self) -> list[float]:
        """Return the bare model's probability of each row."""
        booster = xgb.Booster({"nthread": 1}, model_file=self.model)
        found: list[float] = booster.inplace_predict(np.array(self.rows, np.float32)).tolist()
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """Return its description for the results."""
        return {
            "model": bundles.load(self.bundle).version,
            "trained_on": f"{SESSIONS:,} simulated sessions",
            "trees": TREES,
            "depth": DEPTH,
            "features": FEATURES,
            "bodies": len(self.requests),
            "interactions": INTERACTIONS,
            "mean_body_bytes": round(sum(map(len, self.requests)) / len(self.requests)),
        }


def make(log: Log, folder: Path = KEPT) -> Workload:
    """Return the workload in `folder`, made anew unless it was made by the same code."""
    marker, key = folder / "made-by", _key()
    if not marker.is_file() or marker.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(folder, log)
        marker.write_text(key)
    return Workload(folder)


def twenty(requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests of sessions with at least 20 interactions, as of the twentieth."""
    long = [request for request in requests if len(request["behaviorData"]["interactions"]) >= INTERACTIONS]
    for request in long:
        del request["behaviorData"]["interactions"][INTERACTIONS:]
    return long


def right_answers(
    bundle: bundles.Bundle, bodies: Iterable[bytes], engine: Engine = PURCHASE, number: str = "purchase_probability"
) -> list[float]:
    """Return of the answer to each body the attribute called `number`, computed by the engine in this process, one at a time."""
    scorer = engine.load(bundle, Settings())
    requests = [msgspec.json.decode(body, type=engine.request) for body in bodies]
    return [getattr(scorer.rows([request], scorer.run(scorer.columns([request])))[0], number) for request in requests]


def grown(trees_: int = TREES, depth: int = DEPTH, features: int = FEATURES, seed: int = SEED) -> xgb.Booster:
    """Return trees that are as good as complete: they follow a sum of waves over all features, of which no few splits are enough."""
    rows = np.random.default_rng(seed).normal(size=(LEARNED_ROWS, features)).astype(np.float32)
    waves = np.sin(3 * rows * np.linspace(0.5, 1.5, features)).sum(axis=1)
    data = xgb.QuantileDMatrix(rows, 1 / (1 + np.exp(-waves)), nthread=1)
    how = {"objective": "binary:logistic", "tree_method": "hist", "eta": 0.05, "nthread": 1, "seed": seed}
    return xgb.train({**how, "max_depth": depth, "min_child_weight": 0}, data, trees_)


def matrix(rows: int, features: int = FEATURES, seed: int = SEED + 1) -> F32:
    """Return rows as the bare model may be asked, float32 [rows, features], with four decimals: JSON holds them in a few digits."""
    return np.round(np.random.default_rng(seed).normal(size=(rows, features)), 4).astype(np.float32)


def _make(folder: Path, log: Log) -> None:
    log(f"simulating {SESSIONS:,} sessions")
    shop.write(shop.simulate(SESSIONS, SEED), folder / "shop")
    log(f"training the purchase model on them, {TREES} trees of depth {DEPTH}")
    bundle = trained(folder / "shop" / "sessions.parquet", folder / "bundle", MODELS[PURCHASE.name].train)
    _write_again(bundle, folder / "other")
    requests = twenty(msgspec.json.decode(line) for line in (folder / "shop" / "requests.ndjson").read_bytes().splitlines())
    bodies = [msgspec.json.encode(request) for request in requests]
    log(f"computing the right answers to {len(bodies)} requests")
    (folder / "requests.ndjson").write_bytes(b"\n".join(bodies))
    (folder / "probabilities.txt").write_text("\n".join(map(repr, right_answers(bundle, bodies))))
    shutil.rmtree(folder / "shop")
    log(f"growing {TREES} trees of depth {DEPTH} over {FEATURES} features")
    grown().save_model(folder / "model.ubj")
    (folder / "rows.json").write_text(json.dumps(_plain(matrix(ROWS))))


def trained(sessions: Path, out: Path, train: Callable[..., bundles.Bundle]) -> bundles.Bundle:
    """Return a bundle with as many and as deep trees as here, whatever the product's own are."""
    usual = trees.ROUNDS, trees.PARAMETERS
    trees.ROUNDS, trees.PARAMETERS = TREES, {**trees.PARAMETERS, "max_depth": DEPTH}
    try:
        return train(sessions, out, mapping={}, seed=SEED, progress=lambda what, share: None)
    finally:
        trees.ROUNDS, trees.PARAMETERS = usual


def _write_again(bundle: bundles.Bundle, out: Path) -> None:
    meta = {name: value for name, value in bundle.manifest.items() if name not in ("format", "task", "version", "createdAt", "files")}
    files = {name: bundle.read(name) for name in bundle.manifest["files"]}
    bundles.write(out, task=bundle.task, files=files, meta={**meta, "note": "the same model once more"})


def _plain(rows: F32) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in rows.astype(np.float64).tolist()]


def _key() -> str:
    """Return the hash of what decides what is made: the code that simulates, trains and counts features, and the versions it runs on."""
    sources: Sequence[Path] = (*sorted((ROOT / "training").rglob("*.py")), *sorted((ROOT / "kernels" / "sessions").glob("*.py")))
    content = [file.read_bytes() for file in (*sources, Path(__file__))] + [np.__version__.encode(), xgb.__version__.encode()]
    return hashlib.sha256(b"\0".join(content)).hexdigest()
