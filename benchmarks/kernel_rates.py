"""How fast the compiled trees and SHAP values are: `python -m benchmarks.kernel_rates [--quick]`, from the project's root.

Each engine predicts the same rows with one thread, in turn, again and again, so that whatever slows the machine slows everybody: the ratios
are of the same minute. XGBoost's `inplace_predict` gets its rows as ours do; `pred_contribs` gets its DMatrix ready-made, which is kind.
Writes benchmarks/results/kernel_rates.json.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from benchmarks import baselines, environments, results
from benchmarks.harness import log
from benchmarks.workload import DEPTH, FEATURES, TREES, make, matrix
from kernels.trees import ensemble
from kernels.trees.forest import Forest
from kernels.trees.shap import TreeShap

SIZES = (1, 8, 64, 1_024, 65_536)
FACTOR_SIZES = (1, 64, 1_000)
SLICE_S = 0.08  # of one engine's turn
ROUNDS, QUICK_ROUNDS = 9, 3
MAX_CALLS = 20_000
TOLERANCE = 1e-5

Seconds = Callable[[int], float]  # of one call, the mean of so many


def measure(engines: Mapping[str, Seconds], rounds: int, turn_s: float = SLICE_S) -> dict[str, dict[str, float]]:
    """Return the microseconds of one call of each engine, taken in turn: the median over the rounds, the lowest and the highest."""
    calls = {name: max(1, min(MAX_CALLS, int(turn_s / max(seconds(1), 1e-9)))) for name, seconds in engines.items()}
    calls = {name: max(1, min(MAX_CALLS, int(turn_s / seconds(calls[name])))) for name, seconds in engines.items()}
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, seconds in engines.items():
            taken[name].append(seconds(calls[name]) * 1e6)
    return {
        name: {"median_us": _digits(statistics.median(times)), "lowest_us": _digits(min(times)), "highest_us": _digits(max(times))}
        for name, times in taken.items()
    }


def repeated(call: Callable[[], object]) -> Seconds:
    """Return what times a call."""

    def seconds(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - began) / calls

    return seconds


def forest(booster: xgb.Booster, model: Path, rounds: int, asked: Sequence[str] = tuple(baselines.BASELINES)) -> dict[str, Any]:
    """Return the times of every engine at every number of rows, with the baselines that were `asked` for, and why some are missing."""
    ours = Forest.from_booster(booster)
    ours.tune()
    found: dict[str, Any] = {"labels": {"ours": "revenue-engine", "xgboost": f"XGBoost {xgb.__version__} inplace_predict"}, "rows": {}}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kernels-")))
        others, found["missing"] = _baselines(stack, booster, model, folder, asked)
        for size in SIZES:
            X, file = matrix(size), folder / f"rows-{size}.npy"
            np.save(file, X)
            right = booster.inplace_predict(X)
            _check("ours", ours.predict(X), right)
            engines = {"ours": repeated(partial(ours.predict, X)), "xgboost": repeated(partial(booster.inplace_predict, X))}
            for name, other in others.items():
                _check(name, other.scores(file), right)
                found["labels"][name] = other.label
                engines[name] = partial(other.seconds, file)
            found["rows"][str(size)] = _ratios(measure(engines, rounds))
            log(f"{size:,} rows: " + ", ".join(f"{name} {times['median_us']:,.4g} us" for name, times in found["rows"][str(size)].items()))
    return found


def shap(booster: xgb.Booster, rounds: int) -> dict[str, Any]:
    """Return the times of our SHAP values and of `pred_contribs` at every number of rows."""
    ours = TreeShap(ensemble.read(booster))
    found: dict[str, Any] = {"labels": {"ours": "revenue-engine", "xgboost": f"XGBoost {xgb.__version__} pred_contribs"}, "rows": {}}
    for size in FACTOR_SIZES:
        X = matrix(size)
        data = xgb.DMatrix(X, nthread=1)
        _check("ours", ours.values(X), booster.predict(data, pred_contribs=True)[:, :-1])
        engines = {
            "ours": repeated(partial(ours.values, X)),
            "xgboost": repeated(partial(booster.predict, data, pred_contribs=True)),
        }
        found["rows"][str(size)] = _ratios(measure(engines, rounds))
        log(f"SHAP values, {size:,} rows: {found['rows'][str(size)]}")
    return found


def _baselines(
    stack: contextlib.ExitStack, booster: xgb.Booster, model: Path, folder: Path, asked: Sequence[str]
) -> tuple[dict[str, baselines.Baseline], dict[str, str]]:
    """Return the baselines that started, and why the others did not."""
    arrays, started, missing = folder / "trees.npz", dict[str, baselines.Baseline](), dict[str, str]()
    np.savez(arrays, **ensemble.read(booster)._asdict())
    for name in asked:
        log(f"preparing {name}")
        try:
            python = environments.python(baselines.ENVIRONMENT, baselines.REQUIREMENTS)
            started[name] = stack.enter_context(baselines.running(python, name, model, arrays))
        except (environments.NotInstalledError, RuntimeError, OSError) as error:
            missing[name] = str(error)
            log(f"{name} is left out: {error}")
    return started, missing


def _ratios(times: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Add to the times of each engine how many times as long as ours they are."""
    ours = times["ours"]["median_us"]
    return {name: {**each, "times_ours": round(each["median_us"] / ours, 2)} for name, each in times.items()}


def _check(name: str, scores: Any, right: NDArray[Any]) -> None:
    difference = float(np.abs(np.asarray(scores, np.float64) - right).max())
    if difference > TOLERANCE:
        raise RuntimeError(f"{name} differs from XGBoost by {difference}; nothing is recorded")


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no baselines but XGBoost; prints, and writes nothing")
    options = parser.parse_args()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    model = make(log).model
    booster = xgb.Booster({"nthread": 1}, model_file=model)
    found = {
        "model": {"trees": TREES, "depth": DEPTH, "features": FEATURES, "rounds": rounds},
        "forest": forest(booster, model, rounds, () if options.quick else tuple(baselines.BASELINES)),
        "shap": shap(booster, rounds),
    }
    results.conclude("kernel_rates", found, write=not options.quick)


if __name__ == "__main__":
    main()
