"""Runs all benchmarks, one after the other, and draws them: `make bench`, or `make bench-quick` for a few short ones.

    python -m benchmarks.run [--quick] [--only NAME ...]

Each is a command of its own, `python -m benchmarks.NAME`, and writes benchmarks/results/NAME.json; one that fails leaves its old result and
the others go on. The quick ones write nothing: a figure to keep needs more than one short run. benchmarks/readme_numbers.py then puts the
numbers into docs/benchmarks.md and the README.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.machine import ROOT

ALL = (
    *("comparison", "overload", "promotions", "single_flight", "endpoints"),
    *("kernel_rates", "costs", "price_rates", "profit", "value_rates", "plot"),
)
QUICK = ("comparison", "kernel_rates")


def run(name: str, *arguments: str) -> bool:
    """Run one benchmark and return whether it succeeded."""
    began = time.monotonic()
    print(f"== {name}", file=sys.stderr, flush=True)
    code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=ROOT, check=False).returncode
    outcome = "done" if code == 0 else f"FAILED with exit code {code}"
    print(f"== {name}: {outcome} after {(time.monotonic() - began) / 60:.1f} min", file=sys.stderr, flush=True)
    return code == 0


def main() -> None:
    """Run them; exit code 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"short runs of {' and '.join(QUICK)}, printed and not kept")
    parser.add_argument("--only", nargs="+", choices=ALL, help="these alone")
    options = parser.parse_args()
    names = options.only or (QUICK if options.quick else ALL)
    done = [run(name, *(("--quick",) if options.quick else ())) for name in names]
    sys.exit(0 if all(done) else 1)


if __name__ == "__main__":
    main()
