"""Every question of one server, in turn: `python -m benchmarks.endpoints [--quick]`, from the project's root.

The server holds a model for each question, its cache off. 32 connections ask one question after another in short slices, round after round.
By name, a customer is read from the feature store anew for every request: what was read a moment ago is not used here (`features.fresh_s`).
Rates are compared with the purchase endpoint's of the same round, since a machine that others use too is not always as fast. Every answer
is held against the engine's own, computed in this process. Writes benchmarks/results/endpoints.json.
"""

import argparse
import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import numpy as np
import polars as pl

from benchmarks import results
from benchmarks.comparison import CONNECTIONS
from benchmarks.harness import Questions, load, log, without_errors
from benchmarks.peers import ours
from benchmarks.servers import free_port
from benchmarks.workload import SEED, Workload, make, right_answers
from serving.batch import run as batch
from serving.batch.publish import Publication
from serving.batch.task import Task
from serving.engines import Engine, named
from serving.progress import silent
from serving.settings import load as load_settings
from training.datasets import buyers
from training.datasets.shop import shop
from training.models import MODELS
from training.models.pricing import model as pricing
from training.registry import bundle as bundles

ROUNDS, SLICE_S = 8, 2.5
WARM_UP_S = 2.0
BODIES, SESSIONS, CUSTOMERS = 200, 4_000, 3_000
AS_OF = "2026-11-20T12:00:00Z"  # a price has its season


@dataclass(frozen=True)
class EndpointLoad:
    """The requests for one endpoint: bodies, and for each answer the expected number after `marker`."""

    engine: Engine
    bodies: Sequence[bytes]
    expected: Sequence[float]
    marker: str


def pricing_bodies(bundle: bundles.Bundle) -> list[bytes]:
    """Return requests for products of the model, as complete as the documentation's example."""
    engine = named("pricing")
    random = np.random.default_rng(SEED)
    example = msgspec.to_builtins(engine.decode_example())
    products = bundle.json(pricing.DEMAND)["products"]
    bodies = []
    for number in range(BODIES):
        price = round(float(random.uniform(5, 60)), 2)
        facts = {
            "currentPrice": price,
            "priceAtDayStart": price,
            "unitCost": round(price * 0.55, 2),
            "previousUnitCost": round(price * 0.5, 2),
        }
        context = {**example["contextData"], **facts, "currentDemand": int(random.integers(1, 300)), "lowestPrice30Days": price}
        context["competitorPrices"] = [{**one, "price": round(price * 1.05, 2)} for one in context["competitorPrices"]]
        body = {**example, "productId": products[number % len(products)], "contextData": context, "asOf": AS_OF}
        bodies.append(msgspec.json.encode(body))
    return bodies


def value_bodies(bundle: bundles.Bundle) -> list[bytes]:
    """Return requests with the purchases of their customers."""
    random = np.random.default_rng(SEED)
    bodies = []
    for number in range(BODIES):
        age, frequency = int(random.integers(30, 700)), int(random.integers(0, 20))
        recency = int(random.integers(frequency, age)) if frequency else 0
        spend = round(float(random.uniform(10, 200)), 2)
        summary = {"frequency": frequency, "recencyDays": recency, "ageDays": age, "meanSpend": spend}
        body = {"customerId": f"c{number:05}", "summary": summary, "asOf": AS_OF, "predictionHorizon": 365}
        bodies.append(msgspec.json.encode(body))
    return bodies


def named_bodies(bundle: bundles.Bundle) -> list[bytes]:
    """Return requests that name customers of the published base."""
    return [msgspec.json.encode({"customerId": f"c{number:05}"}) for number in range(BODIES)]


def stored_answers(bundle: bundles.Bundle, bodies: Sequence[bytes], home: Path) -> list[float]:
    """Publish the base that the model has learned from, and return the values that the batch job gives the customers that are asked for."""
    engine, chosen = named("value"), load_settings(home=home)
    publication, out = Publication(engine, bundle.version), bundle.path.parent / "base.parquet"
    batch.run(Task("value", bundle.path, {}, chosen), _table(bundle.path.parent, "value"), out, on_answers=publication.add)
    publication.store(chosen, silent)
    values = dict(pl.read_parquet(out, columns=["customerId", "lifetimeValue"]).iter_rows())
    return [values[msgspec.json.decode(body)["customerId"]] for body in bodies]


@dataclass(frozen=True)
class Other:
    """A question besides the purchase: its engine, how its requests are made, the number in its answers that is checked, in Python and in
    JSON; stored: its customers are read from the feature store.
    """

    engine: str
    bodies: Callable[[bundles.Bundle], list[bytes]]
    number: str
    marker: str
    stored: bool = False


OTHERS: dict[str, Other] = {
    "pricing": Other("pricing", pricing_bodies, "recommended_price", '"recommendedPrice":'),
    "value": Other("value", value_bodies, "lifetime_value", '"lifetimeValue":'),
    "value, by name": Other("value", named_bodies, "lifetime_value", '"lifetimeValue":', stored=True),
}


def trained(work: Workload) -> dict[str, Path]:
    """Return the bundle of every question but the purchase, by its engine's name, trained on a simulated shop."""
    found = {}
    for name in dict.fromkeys(other.engine for other in OTHERS.values()):
        found[name] = work.folder / name
        if not found[name].exists():
            log(f"training {name}")
            MODELS[name].train(_table(work.folder, name), found[name], mapping={}, seed=SEED, progress=silent)
    return found


def _table(folder: Path, name: str) -> Path:
    """Return the table that a model learns from, simulated where it is not there yet."""
    path = folder / ("purchases.parquet" if name == "value" else "shop")
    if not path.exists():
        log(f"simulating {path.name}")
        if name == "value":
            buyers.simulate(CUSTOMERS, SEED).write_parquet(path)
        else:
            shop.write(shop.simulate(SESSIONS, SEED), path)
    return path


def endpoint_loads(work: Workload, models: dict[str, Path]) -> dict[str, EndpointLoad]:
    """Return the requests for every endpoint, the purchase endpoint first."""
    found = {"purchase": EndpointLoad(named("purchase"), work.requests, work.probabilities, '"purchaseProbability":')}
    for label, other in OTHERS.items():
        bundle, engine = bundles.load(models[other.engine]), named(other.engine)
        bodies = other.bodies(bundle)
        if other.stored:
            expected = stored_answers(bundle, bodies, work.bundle.parent / "home")
        else:
            expected = right_answers(bundle, bodies, engine, other.number)
        found[label] = EndpointLoad(engine, bodies, expected, other.marker)
    return found


def compare(questions: dict[str, Questions], rounds: int, seconds: float) -> dict[str, Any]:
    """Return the rates of every endpoint, round by round, and how they compare with the first one's."""
    for each in questions.values():
        without_errors(load(each, "--connections", CONNECTIONS, "--seconds", WARM_UP_S), each.url)
    rates: dict[str, list[float]] = {name: [] for name in questions}
    for number in range(rounds):
        for name, each in questions.items():
            rates[name].append(without_errors(load(each, "--connections", CONNECTIONS, "--seconds", seconds), each.url)["rate"])
        log(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
    first = next(iter(rates.values()))
    alone = {name: load(each, "--connections", 1, "--seconds", seconds) for name, each in questions.items()}
    return {
        name: {
            "rate": round(statistics.median(found), 1),
            "rates": found,
            "times_purchase": round(statistics.median(one / other for one, other in zip(found, first, strict=True)), 3),
            "p50_ms": alone[name]["p50_ms"],
            "p99_ms": alone[name]["p99_ms"],
        }
        for name, found in rates.items()
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round; prints, and writes nothing")
    quick = parser.parse_args().quick
    work = make(log)
    models = trained(work)
    with contextlib.ExitStack() as stack:
        every = endpoint_loads(work, models)
        target = stack.enter_context(ours.start(work.bundle, free_port(), others=tuple(models.values())))
        origin = urlsplit(target.url)
        questions = {
            label: stack.enter_context(
                Questions.written(
                    urlunsplit(origin._replace(path=each.engine.route)), each.bodies, [(one,) for one in each.expected], each.marker
                )
            )
            for label, each in every.items()
        }
        found = compare(questions, 1 if quick else ROUNDS, SLICE_S)
    workload = {**work.facts, "cache": "off", "connections": CONNECTIONS, "seconds": SLICE_S, "rounds": ROUNDS}
    results.conclude("endpoints", {"workload": workload, "endpoints": found}, write=not quick)


if __name__ == "__main__":
    main()
