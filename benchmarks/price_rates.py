"""How fast the best price is found: `python -m benchmarks.price_rates [--quick]`, from the project's root.

The same expected profit, over 64 rungs and 64 draws of the elasticity, by our kernel, by NumPy over whole arrays, and by SciPy's
`minimize_scalar` on NumPy's mean over the draws; one thread each, in turn, so that the ratios are of the same minute. NumPy takes a million
products in chunks that fit its cache best of those tried. Every answer is held against NumPy's. Writes benchmarks/results/price_rates.json.
"""

import argparse
import resource
import time
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from benchmarks import results
from benchmarks.harness import log
from benchmarks.kernel_rates import measure, repeated
from benchmarks.products import RATIOS, RUNGS, products
from kernels.pricing import ladder
from kernels.pricing.demand import DRAWS, Z
from kernels.types import F64

MANY, QUICK_MANY = 1_000_000, 50_000
CHUNKS = (16, 64, 256, 1024)
ROUNDS, QUICK_ROUNDS = 9, 3


def ours(asked: F64) -> F64:
    """Return the best prices by our kernel, on one ladder of ratios."""
    out = np.empty((len(asked), ladder.OUTPUTS))
    ladder.prices(RATIOS[None, :], asked, out)
    return out[:, ladder.BEST]


def by_numpy(asked: F64, chunk: int) -> F64:
    """Return the best prices by NumPy over arrays of chunk x rungs x draws."""
    best = np.empty(len(asked))
    log = np.log(RATIOS)
    for first in range(0, len(asked), chunk):
        part = asked[first : first + chunk]
        elasticity = part[:, ladder.ELASTICITY, None] + part[:, ladder.SD, None] * Z
        demand = part[:, ladder.QUANTITY, None] * np.exp(elasticity[:, None, :] * log[None, :, None]).mean(axis=2)
        price = part[:, ladder.PRICE, None] * RATIOS
        profit = (price - part[:, ladder.COST, None]) * demand
        best[first : first + chunk] = price[np.arange(len(part)), profit.argmax(axis=1)]
    return best


def by_scipy(asked: F64) -> float:
    """Return the best price of one product by a search between the ends of the ladder."""
    price, quantity, cost = asked[0, ladder.PRICE], asked[0, ladder.QUANTITY], asked[0, ladder.COST]
    elasticity = asked[0, ladder.ELASTICITY] + asked[0, ladder.SD] * Z

    def loss(candidate: float) -> float:
        return float(-(candidate - cost) * quantity * np.exp(elasticity * np.log(candidate / price)).mean())

    return float(minimize_scalar(loss, bounds=(price / 2, price * 2), method="bounded").x)


def one(rounds: int) -> dict[str, Any]:
    """Return the times of one price."""
    asked = products(1)
    right = by_numpy(asked, 1)
    np.testing.assert_allclose(ours(asked), right, rtol=1e-12)
    assert abs(by_scipy(asked) / right[0] - 1) < 0.02, "SciPy is between two rungs"
    engines = {"ours": lambda: ours(asked), "numpy": lambda: by_numpy(asked, 1), "scipy": lambda: by_scipy(asked)}
    return measure({name: repeated(call) for name, call in engines.items()}, rounds)


def many(number: int) -> dict[str, Any]:
    """Return the seconds of a whole catalogue, NumPy's by the chunk that suits it best, and how much memory ours took beside its answer."""
    asked = products(number)
    few = asked[:2_000]
    chunk = min(CHUNKS, key=lambda size: _seconds(lambda: by_numpy(few, size)))
    ours(few)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = ours(asked)
    ours_s = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    began = time.perf_counter()
    right = by_numpy(asked, chunk)
    numpy_s = time.perf_counter() - began
    agree = float(np.isclose(found, right, rtol=1e-9).mean())
    if agree < 0.9999:  # two rungs may earn the same but for rounding
        raise RuntimeError(f"only {agree:.4%} of the prices are NumPy's; nothing is recorded")
    return {
        "products": number,
        "ours_s": round(ours_s, 3),
        "numpy_s": round(numpy_s, 3),
        "numpy_chunk": chunk,
        "times_ours": round(numpy_s / ours_s, 2),
        "grown_mib": round(grown, 1),
    }


def _seconds(call: Any) -> float:
    call()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and products; prints, and writes nothing")
    options = parser.parse_args()
    single = one(QUICK_ROUNDS if options.quick else ROUNDS)
    log(f"one price: {single}")
    catalogue = many(QUICK_MANY if options.quick else MANY)
    log(f"a catalogue: {catalogue}")
    base = single["ours"]["median_us"]
    for times in single.values():
        times["times_ours"] = round(times["median_us"] / base, 2)
    results.conclude("price_rates", {"rungs": RUNGS, "draws": DRAWS, "one": single, "many": catalogue}, write=not options.quick)


if __name__ == "__main__":
    main()
