"""What a score costs, against what makes it cost more: `python -m benchmarks.costs`, from the project's root.

The trees against their number, their depth and the number of features, at one row and at 1,024, with XGBoost beside them; the whole of a
request in process (decode, features, score, SHAP values, actions, encode) against its interactions. Everything in turn, with one thread.
Writes benchmarks/results/costs.json.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
import numpy as np
import xgboost as xgb

from benchmarks import results
from benchmarks.harness import log
from benchmarks.kernel_rates import measure, repeated
from benchmarks.workload import DEPTH, FEATURES, PURCHASE, TREES, Workload, grown, make, matrix
from kernels.trees.forest import Forest
from serving.scoring.question import score
from serving.settings import Settings
from training.registry import bundle as bundles

ROWS = (1, 1_024)
AGAINST: dict[str, tuple[int, ...]] = {"trees": (25, 50, 100, 200, 400, 800), "depth": (2, 4, 6, 8, 10), "features": (8, 17, 64, 128)}
USUAL = {"trees": TREES, "depth": DEPTH, "features": FEATURES}
INTERACTIONS = (0, 1, 5, 10, 20, 50, 100, 200)
ROUNDS = 5
SLICE_S = 0.03


def trees() -> dict[str, dict[str, Any]]:
    """Return the microseconds of ours and of XGBoost: {what varies: {its value: {rows: {engine: times}}}}."""
    found: dict[str, dict[str, Any]] = {}
    for what, values in AGAINST.items():
        found[what] = {str(value): _times(booster) for value, booster in _grown(what, values)}
        log(f"{what}: " + ", ".join(f"{value}: {times['1']['ours']['median_us']:g} us" for value, times in found[what].items()))
    return found


def _grown(what: str, values: tuple[int, ...]) -> Iterator[tuple[int, xgb.Booster]]:
    """Yield a booster for each value; fewer trees are the first ones of more."""
    most = grown(max(values)) if what == "trees" else None
    for value in values:
        shape = {**USUAL, what: value}
        yield value, most[:value] if most is not None else grown(shape["trees"], shape["depth"], shape["features"])


def _times(booster: xgb.Booster) -> dict[str, Any]:
    features = booster.num_features()
    forest = Forest.from_booster(booster)
    forest.tune()
    found = {}
    for rows in ROWS:
        X = matrix(rows, features)
        if not np.array_equal(forest.margin(X), booster.inplace_predict(X, predict_type="margin")):
            raise RuntimeError(f"{booster.num_boosted_rounds()} trees over {features} features: our margins are not XGBoost's")
        engines = {"ours": repeated(partial(forest.predict, X)), "xgboost": repeated(partial(booster.inplace_predict, X))}
        found[str(rows)] = measure(engines, ROUNDS, SLICE_S)
    return found


def interactions(work: Workload) -> dict[str, Any]:
    """Return the microseconds of one whole request in process, by the number of its interactions."""
    scorer = PURCHASE.load(bundles.load(work.bundle), Settings())
    decode = msgspec.json.Decoder(PURCHASE.request).decode
    engines = {str(number): repeated(_whole(scorer, decode, body)) for number, body in bodies(work, INTERACTIONS)}
    return measure(engines, ROUNDS, SLICE_S)


def bodies(work: Workload, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield bodies with so many interactions: those of a simulated session, from the first again as often as it takes."""
    request = json.loads(work.requests[0])
    once = request["behaviorData"]["interactions"]
    for number in numbers:
        request["behaviorData"]["interactions"] = [once[i % len(once)] for i in range(number)]
        yield number, json.dumps(request, separators=(",", ":")).encode()


def _whole(scorer: Any, decode: Callable[[bytes], Any], body: bytes) -> Callable[[], object]:
    def call() -> object:
        request = decode(body)
        PURCHASE.check(request)
        return score(scorer, [request])

    return call


def main() -> None:
    """Measure, and write the results."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    xgb.set_config(verbosity=0)
    work = make(log)
    found: dict[str, Any] = {"model": {**USUAL, "rounds": ROUNDS}, "trees": trees(), "interactions": interactions(work)}
    log("interactions: " + ", ".join(f"{number}: {times['median_us']:g} us" for number, times in found["interactions"].items()))
    results.conclude("costs", found, write=True)


if __name__ == "__main__":
    main()
