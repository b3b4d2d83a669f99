"""What a GPU makes of the kernels: `python -m benchmarks.gpu_rates`, from the project's root, on a machine that has one.

The same arrays drive the launch on CUDA and that on the CPU: trees against XGBoost's own prediction on the GPU, both from rows that are on
the device; customers, prices and sessions against one core of the machine. The results of the GPU are compared with those of the CPU before
anything is recorded. Needs CuPy and XGBoost with CUDA, and of this project the kernels alone. Writes benchmarks/results/gpu_rates.json.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xgboost as xgb
from numba import cuda
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.clicks import random_journeys, random_network, random_sessions
from benchmarks.products import RATIOS, products
from benchmarks.value_rates import PARAMETERS, WEEKS, customers
from kernels.customers.counting import BG_NBD, PARETO_NBD
from kernels.customers.expected_purchases import expected_purchases, expected_purchases_on_cuda
from kernels.networks import gru
from kernels.pricing import ladder as pricing
from kernels.sessions import friction, journey
from kernels.trees.forest import Forest

TREES, DEPTH, FEATURES = 200, 6, 17
ROWS = (1_000, 100_000, 1_000_000, 10_000_000)
MANY = 1_000_000
SESSIONS = (1_000, 4_096, 100_000, 1_000_000)
PAGES, ATTRIBUTES, WIDTH, OUTPUTS = 9, 5, 64, 12  # of the journeys that are published
ROUNDS = 7
PARETO = (0.5533, 10.578, 0.6061, 11.669)  # CDNOW's


def log(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def seconds(*calls: Callable[[], object]) -> list[float]:
    """Return the median seconds of each call, taken in turn, after one that is not counted."""
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for times, call in zip(taken, calls, strict=True):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in taken]


def booster() -> xgb.Booster:
    """Return trees of the size that the other benchmarks have."""
    random = np.random.default_rng(0)
    X = random.normal(size=(60_000, FEATURES)).astype(np.float32)
    waves = np.sin(3 * X * np.linspace(0.5, 1.5, FEATURES)).sum(axis=1)
    how = {"objective": "binary:logistic", "max_depth": DEPTH, "eta": 0.05, "tree_method": "hist", "min_child_weight": 0}
    return xgb.train(how, xgb.QuantileDMatrix(X, 1 / (1 + np.exp(-waves))), TREES)


def forest() -> dict[str, Any]:
    """Return the times of trees: ours and XGBoost's on the GPU, and ours on one core."""
    import cupy

    trained = booster()
    ours = Forest.from_booster(trained)
    ours.tune()
    trained.set_param({"device": "cuda"})
    found = {}
    for rows in ROWS:
        X = np.random.default_rng(1).normal(size=(rows, FEATURES)).astype(np.float32)
        there, theirs = cuda.to_device(X), cupy.asarray(X)
        expected = ours.margin(X[:100_000])
        if not np.array_equal(ours.margin_cuda(there).copy_to_host()[:100_000], expected):
            raise SystemExit("the GPU's margins are not the CPU's; nothing is recorded")

        def xgboost(rows_: Any = theirs) -> None:
            trained.inplace_predict(rows_, predict_type="margin")
            cuda.synchronize()

        gpu, other = seconds(lambda rows_=there: ours.margin_cuda(rows_), xgboost)
        found[str(rows)] = {"ours_s": gpu, "xgboost_s": other, "times_ours": round(other / gpu, 2), "rows_per_second": round(rows / gpu)}
        if rows <= MANY:
            (core,) = seconds(lambda X_=X: ours.margin(X_)) if rows < MANY else [_once(lambda X_=X: ours.margin(X_))]
            found[str(rows)] |= {"one_core_s": core, "times_one_core": round(core / gpu, 1)}
        log(f"trees, {rows:,} rows: {found[str(rows)]}")
    return found


def lives() -> dict[str, Any]:
    """Return the times of P(alive) and expected purchases of a million customers."""
    seen, horizons = customers(MANY), np.array([WEEKS])
    found = {}
    for name, model, params in (("bg_nbd", BG_NBD, PARAMETERS), ("pareto_nbd", PARETO_NBD, PARETO)):
        values, cpu, gpu = np.array(params), np.empty((MANY, 2)), np.empty((MANY, 2))
        core = _once(lambda m=model, v=values, out=cpu: expected_purchases(m, v, seen, horizons, out))
        device = [cuda.to_device(one) for one in (values, seen, horizons, gpu)]
        (there,) = seconds(lambda m=model, d=device: expected_purchases_on_cuda(MANY, m, *d))
        difference = _apart(device[-1].copy_to_host(), cpu)
        found[name] = {"gpu_s": there, "one_core_s": core, "times_one_core": round(core / there, 1), "largest_difference": difference}
        log(f"lives by {name}: {found[name]}")
    return found


def prices() -> dict[str, Any]:
    """Return the times of pricing a million products."""
    asked, ladder = products(MANY), RATIOS[None, :]
    cpu = np.empty((MANY, pricing.OUTPUTS))
    core = _once(lambda: pricing.prices(ladder, asked, cpu))
    device = [cuda.to_device(one) for one in (np.ascontiguousarray(ladder), asked, cpu)]
    (there,) = seconds(lambda: pricing.prices_on_cuda(MANY, *device))
    difference = _apart(device[-1].copy_to_host(), cpu)
    found = {"gpu_s": there, "one_core_s": core, "times_one_core": round(core / there, 1), "largest_difference": difference}
    log(f"prices: {found}")
    return found


def clicks() -> dict[str, Any]:
    """Return the times of counting friction in a million sessions."""
    arrays = random_sessions(MANY)
    reals, ints = np.empty((MANY, friction.REALS)), np.empty((MANY, friction.INTS), np.int64)
    out = np.empty((MANY, 2 * len(friction.COUNTED)), np.int32)
    core = _once(lambda: friction.friction(*arrays, friction.DEFAULTS, out))
    device = [cuda.to_device(one) for one in (*arrays, friction.DEFAULTS, reals, ints, out)]
    (there,) = seconds(lambda: friction.friction_on_cuda(MANY, *device))
    found = {"gpu_s": there, "one_core_s": core, "times_one_core": round(core / there, 1)}
    if not np.array_equal(device[-1].copy_to_host(), out):
        raise SystemExit("the GPU does not count friction as the CPU does; nothing is recorded")
    log(f"friction: {found}")
    return found


def journeys() -> dict[str, Any]:
    """Return the times of a session's features and of its network: from how many on the GPU pays, each copied there and back."""
    found = {}
    weights = random_network(PAGES, ATTRIBUTES, WIDTH, OUTPUTS)
    for rows in SESSIONS:
        begins, ends, page, elapsed, _, attributes = arrays = random_journeys(rows, PAGES, ATTRIBUTES)
        order = np.argsort(ends - begins)
        walked = (begins, ends, page, elapsed, attributes, weights, order)
        launches: dict[str, tuple[Callable[..., None], Callable[..., None], tuple[Any, ...], int]] = {
            "features": (journey.journey_features, journey.journey_features_cuda, (*arrays, PAGES), journey.columns(PAGES, ATTRIBUTES)),
            "network": (gru.journey_margins, gru.journey_margins_cuda, walked, OUTPUTS),
        }
        for name, (on_cpu, on_cuda, given, width) in launches.items():
            cpu, gpu = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
            core = _once(lambda call=on_cpu, given=given, out=cpu: call(*given, out))
            (there,) = seconds(lambda call=on_cuda, given=given, out=gpu: call(*given, out))
            if not np.array_equal(gpu, cpu, equal_nan=True):
                raise SystemExit(f"the GPU's {name} of journeys are not the CPU's; nothing is recorded")
            found[f"{name}, {rows:,}"] = {"gpu_s": there, "one_core_s": core, "times_one_core": round(core / there, 1)}
            log(f"journeys, {name} of {rows:,}: {found[f'{name}, {rows:,}']}")
    return found


def _once(call: Callable[[], object]) -> float:
    """Return the seconds of a call, after one that is not counted."""
    call()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest relative difference. Exits where it is one."""
    with np.errstate(invalid="ignore"):
        apart = float(np.nanmax(np.abs(found - expected) / np.maximum(np.abs(expected), 1e-12)))
    if not apart <= 1e-6:
        raise SystemExit(f"the GPU and the CPU differ by {apart}; nothing is recorded")
    return apart


def main() -> None:
    """Measure, and write the results."""
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    found = {"gpu": name, "model": {"trees": TREES, "depth": DEPTH, "features": FEATURES}, "customers": MANY, "products": MANY}
    measured = {"forest": forest(), "lives": lives(), "prices": prices(), "friction": clicks(), "journeys": journeys()}
    results.conclude("gpu_rates", {**found, **measured}, write=True)


if __name__ == "__main__":
    main()
