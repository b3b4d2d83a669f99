"""How fast a customer base is scored: `python -m benchmarks.value_rates [--quick]`, from the project's root.

P(alive) and the expected purchases of the next 39 weeks, of a million customers, by our BG/NBD kernel and by `lifetimes`, whose archived
releases are what most shops still run; in turn, one core each, so that the ratio is of the same minute. Both must agree within 1e-6. The
other package has an environment, and a process, of its own. Writes benchmarks/results/value_rates.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

REQUIREMENTS = ("lifetimes", "setuptools")  # of a version, in its constraints, that still has the pkg_resources that it imports
ENVIRONMENT = "lifetimes"
PARAMETERS = (0.2426, 4.4135, 0.7929, 2.4258)  # of BG/NBD: CDNOW's
WEEKS = 39.0
MANY, QUICK_MANY = 1_000_000, 50_000
ROUNDS, QUICK_ROUNDS = 5, 1
TOLERANCE = 1e-6


def customers(number: int) -> Any:
    """Return customers as a shop has them: float64 [number, 3], x, t_x and T in weeks, the seldom ones the most."""
    random = np.random.default_rng(0)
    age = random.integers(7, 7 * 104, number) / 7
    x = np.minimum(random.geometric(0.4, number) - 1.0, np.floor(age * 7))
    t_x = np.where(x > 0, np.maximum(np.ceil(age * 7 * random.beta(2, 1.5, number)), x), 0) / 7
    return np.stack([x, np.minimum(t_x, age), age], axis=1)


def by_lifetimes(rows: Path, out: Path) -> float:
    """Return the seconds that `lifetimes` takes for the customers in an .npy file, after writing its results: [customers, 2]."""
    from lifetimes import BetaGeoFitter

    model = BetaGeoFitter()
    model.params_ = dict(zip(("r", "alpha", "a", "b"), PARAMETERS, strict=True))
    x, t_x, age = np.load(rows).T
    began = time.perf_counter()
    expected = model.conditional_expected_number_of_purchases_up_to_time(WEEKS, x, t_x, age)
    alive = model.conditional_probability_alive(x, t_x, age)
    took = time.perf_counter() - began
    np.save(out, np.stack([np.asarray(alive), np.asarray(expected)], axis=1))
    return took


def theirs(python: Path, rows: Path, out: Path) -> float:
    """Return the results of `by_lifetimes` in its own environment."""
    command = [str(part) for part in (python, Path(__file__), "--lifetimes", rows, out)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def ours(seen: Any) -> tuple[float, Any]:
    """Return the seconds that our kernel takes, and its results."""
    from kernels.customers.counting import BG_NBD
    from kernels.customers.expected_purchases import expected_purchases

    out = np.empty((len(seen), 2))
    began = time.perf_counter()
    expected_purchases(BG_NBD, np.array(PARAMETERS), seen, np.array([WEEKS]), out)
    return time.perf_counter() - began, out


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MANY:,} customers once; prints, and writes nothing")
    parser.add_argument("--lifetimes", nargs=2, type=Path, metavar=("ROWS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lifetimes:
        print(json.dumps(by_lifetimes(*options.lifetimes)))
        return
    from benchmarks import environments, results
    from benchmarks.harness import log

    python = environments.python(ENVIRONMENT, REQUIREMENTS)
    seen = customers(QUICK_MANY if options.quick else MANY)
    ours(seen[:100])  # compile
    times: dict[str, list[float]] = {"ours": [], "lifetimes": []}
    with tempfile.TemporaryDirectory(prefix="bench-value-") as folder:
        rows, out = Path(folder) / "rows.npy", Path(folder) / "out.npy"
        np.save(rows, seen)
        for _ in range(QUICK_ROUNDS if options.quick else ROUNDS):
            took, found = ours(seen)
            times["ours"].append(took)
            times["lifetimes"].append(theirs(python, rows, out))
            difference = float(np.abs(np.load(out) - found).max())
            log(f"ours {times['ours'][-1]:.2f} s, lifetimes {times['lifetimes'][-1]:.2f} s, apart by {difference:.1e} at most")
            if not difference <= TOLERANCE:
                sys.exit(f"they differ by {difference}; nothing is recorded")
    ratio = float(np.median(np.array(times["lifetimes"]) / np.array(times["ours"])))
    found = {"customers": len(seen), "weeks": WEEKS, "seconds": times, "times_ours": round(ratio, 1), "largest_difference": difference}
    results.conclude("value_rates", found, write=not options.quick)


if __name__ == "__main__":
    main()
