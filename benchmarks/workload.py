"""What every contestant gets: one purchase bundle, request bodies with exactly 20 interactions, and the right answer to each."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from serving.engines import ENGINES
from serving.settings import Settings
from training import bundle as bundles
from training.datasets import shop
from training.models import MODELS

PURCHASE = ENGINES[0]
INTERACTIONS = 20
SESSIONS = 20_000
SEED = 0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Workload:
    """The files of one run: `bodies` has a request a line, `expected` the purchaseProbability of each."""

    bundle: Path
    bodies: Path
    expected: Path
    facts: dict[str, Any]  # for the results


def make(folder: Path, model: Path | None, say: Say) -> Workload:
    """Return the workload, written to `folder`; `model`: a purchase bundle to use instead of one trained on simulated sessions."""
    say(f"simulating {SESSIONS:,} sessions")
    shop.write(shop.simulate(SESSIONS, SEED), folder / "shop")
    bundle = _copied(model, folder / "bundle") if model else _trained(folder, say)
    requests = twenty(msgspec.json.decode(line) for line in (folder / "shop" / "requests.ndjson").read_bytes().splitlines())
    bodies = [msgspec.json.encode(request) for request in requests]
    say(f"computing the right answers to {len(bodies)} requests with model {bundle.version}")
    expected = right_answers(bundle, bodies)
    paths = folder / "bodies.ndjson", folder / "expected.txt"
    paths[0].write_bytes(b"\n".join(bodies))
    paths[1].write_text("\n".join(map(repr, expected)))
    facts = {
        "model": bundle.version,
        "trained_on": "given with --model" if model else f"{SESSIONS:,} simulated sessions",
        "bodies": len(bodies),
        "interactions": INTERACTIONS,
        "mean_body_bytes": round(sum(map(len, bodies)) / len(bodies)),
    }
    return Workload(bundle.path, *paths, facts)


def twenty(requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests of sessions with at least 20 interactions, as of the twentieth."""
    long = [request for request in requests if len(request["behaviorData"]["interactions"]) >= INTERACTIONS]
    for request in long:
        del request["behaviorData"]["interactions"][INTERACTIONS:]
    return long


def right_answers(bundle: bundles.Bundle, bodies: Iterable[bytes]) -> list[float]:
    """Return the purchase probability of each body, computed by the engine in this process, one at a time."""
    scorer = PURCHASE.load(bundle, Settings())
    requests = [msgspec.json.decode(body, type=PURCHASE.request) for body in bodies]
    return [scorer.rows([request], scorer.run(scorer.columns([request])))[0].purchase_probability for request in requests]


def _trained(folder: Path, say: Say) -> bundles.Bundle:
    say("training the purchase model on them")
    sessions = folder / "shop" / "sessions.parquet"
    return MODELS[PURCHASE.name].train(sessions, folder / "bundle", mapping={}, seed=SEED, progress=lambda what, share: None)


def _copied(model: Path, to: Path) -> bundles.Bundle:
    shutil.copytree(model, to)
    return bundles.load(to)
