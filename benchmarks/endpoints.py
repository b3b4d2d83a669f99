"""Every question of one server, in turn: `python -m benchmarks.endpoints [--quick]`, from the project's root.

The server holds a model for each question, its cache off. 32 connections ask one question after another in short slices, round after round.
Rates are compared with the purchase endpoint's of the same round, since a machine that others use too is not always as fast. Every answer
is held against the engine's own, computed in this process. Writes benchmarks/results/endpoints.json.
"""

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import numpy as np

from benchmarks import results
from benchmarks.contest import CONNECTIONS
from benchmarks.contestants import ours
from benchmarks.gauge import Questions, clean, load, say
from benchmarks.servers import free_port
from benchmarks.workload import SEED, Workload, make, right_answers
from serving.engines import Engine, named
from training import bundle as bundles
from training.datasets import shop
from training.models import MODELS, pricing

ROUNDS, SLICE_S = 8, 2.5
WARM_UP_S = 2.0
BODIES, SESSIONS = 200, 4_000
AS_OF = "2026-11-20T12:00:00Z"  # a price has its season


@dataclass(frozen=True)
class Asked:
    """What is asked of one endpoint: bodies, and of each answer the number after `marker`."""

    engine: Engine
    bodies: Sequence[bytes]
    expected: Sequence[float]
    marker: str


def pricing_bodies(bundle: bundles.Bundle) -> list[bytes]:
    """Return requests for products that the model knows, as complete as the documentation's example."""
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


# Of each question besides the purchase: how its requests are made, and the number in its answers that is checked, in Python and in JSON.
OTHERS: dict[str, tuple[Callable[[bundles.Bundle], list[bytes]], str, str]] = {
    "pricing": (pricing_bodies, "recommended_price", '"recommendedPrice":'),
}


def trained(work: Workload) -> Iterator[tuple[str, Path]]:
    """Yield the name and the bundle of every question but the purchase, trained on one simulated shop."""
    data = work.folder / "shop"
    if not data.exists():
        say(f"simulating {SESSIONS:,} sessions")
        shop.write(shop.simulate(SESSIONS, SEED), data)
    for name in OTHERS:
        out = work.folder / name
        if not out.exists():
            say(f"training {name}")
            MODELS[name].train(data, out, mapping={}, seed=SEED, progress=lambda what, share: None)
        yield name, out


def asked(work: Workload, models: dict[str, Path]) -> list[Asked]:
    """Return what every endpoint is asked, the purchase endpoint first."""
    found = [Asked(named("purchase"), work.requests, work.probabilities, '"purchaseProbability":')]
    for name, path in models.items():
        bodies_of, number, marker = OTHERS[name]
        bundle, engine = bundles.load(path), named(name)
        bodies = bodies_of(bundle)
        found.append(Asked(engine, bodies, right_answers(bundle, bodies, engine, number), marker))
    return found


def compare(questions: dict[str, Questions], rounds: int, seconds: float) -> dict[str, Any]:
    """Return the rates of every endpoint, round by round, and how they compare with the first one's."""
    for each in questions.values():
        clean(load(each, "--connections", CONNECTIONS, "--seconds", WARM_UP_S), each.url)
    rates: dict[str, list[float]] = {name: [] for name in questions}
    for number in range(rounds):
        for name, each in questions.items():
            rates[name].append(clean(load(each, "--connections", CONNECTIONS, "--seconds", seconds), each.url)["rate"])
        say(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
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
    work = make(say)
    models = dict(trained(work))
    with contextlib.ExitStack() as stack:
        every = asked(work, models)
        target = stack.enter_context(ours.start(work.bundle, free_port(), others=tuple(models.values())))
        origin = urlsplit(target.url)
        questions = {
            each.engine.name: stack.enter_context(
                Questions.written(
                    urlunsplit(origin._replace(path=each.engine.route)), each.bodies, [(one,) for one in each.expected], each.marker
                )
            )
            for each in every
        }
        found = compare(questions, 1 if quick else ROUNDS, SLICE_S)
    workload = {**work.facts, "cache": "off", "connections": CONNECTIONS, "seconds": SLICE_S, "rounds": ROUNDS}
    results.conclude("endpoints", {"workload": workload, "endpoints": found}, write=not quick)


if __name__ == "__main__":
    main()
