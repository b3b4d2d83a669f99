"""Another build of this project beside this one, measured in one run: `python -m benchmarks.builds CHECKOUT [--rounds 7]`.

CHECKOUT is the root of another checkout of this project, such as a clone at an earlier commit. Both builds use this environment's packages.
Their servers run at the same time, and the load alternates between them, so that both get the same minutes of the machine: the purchase
endpoint with 32 connections and with one, and twice the peak on one core. Of the kernels, each build runs its own `benchmarks.kernel_rates`
in turn; what is compared is how many times as long XGBoost takes in the same process. Prints ratios of this build to the other, the median
over the rounds; above 1 this build is better. Writes benchmarks/results/builds.json.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.comparison import CONNECTIONS, PEERS
from benchmarks.harness import Questions, load, log, pinned, two_cores, without_errors
from benchmarks.machine import ROOT
from benchmarks.overload import DEGRADATION, offer, peak
from benchmarks.servers import Target, free_port, post
from benchmarks.workload import Workload, make

FIELDS = (DEGRADATION, '"rung":"')  # before the kind of degradation, in answers of this build and of those before it
SECONDS, WARM_UP_S = 5.0, 5.0
TIMES, OVERLOAD_S, OVERLOAD_ROUNDS = 2.0, 20.0, 3
OURS, OTHER = "this", "other"

Figures = dict[str, dict[str, list[float]]]  # of each measure and build, a figure a round


def environment(checkout: Path) -> dict[str, str]:
    """Return the variables with which Python imports a checkout's code and keeps its compiled kernels apart."""
    return {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": str(checkout / ".revenue-engine" / "numba")}


@contextlib.contextmanager
def serving(builds: Mapping[str, Path], work: Workload) -> Iterator[dict[str, Questions]]:
    """Run the server of each build, and yield what to send to each."""
    ours = PEERS[0].code
    with contextlib.ExitStack() as stack:
        asked = {}
        for name, checkout in builds.items():
            target = stack.enter_context(ours.start(work.bundle, free_port(), more=environment(checkout), checkout=checkout))
            expected = [[probability] for probability in work.probabilities]
            asked[name] = stack.enter_context(Questions.written(target.url, work.requests, expected))
            log(f"{name} serves at {target.url}")
        yield asked


def endpoint(asked: Mapping[str, Questions], rounds: int, found: Figures) -> None:
    """Add the rate with 32 connections, answers a second, and the median latency with one, ms, of each build in each round."""
    for questions in asked.values():
        load(questions, "--connections", CONNECTIONS, "--seconds", WARM_UP_S)
    for number in range(rounds):
        for name, questions in _order(asked, number):
            many = without_errors(load(questions, "--connections", CONNECTIONS, "--seconds", SECONDS), name)
            alone = without_errors(load(questions, "--connections", 1, "--seconds", SECONDS), name)
            _add(found, "answers/s, 32 connections", name, many["rate"])
            _add(found, "p50 ms, 1 connection", name, alone["p50_ms"])
        log(f"round {number + 1} of {rounds}: {_last(found)}")


def overload(asked: Mapping[str, Questions], fields: Mapping[str, str], core: int, found: Figures) -> None:
    """Add the answers a second within their deadline at twice the peak of this build, for each build in each round."""
    rate = peak(asked[OURS], core)
    for number in range(OVERLOAD_ROUNDS):
        for name, questions in _order(asked, number):
            offered = offer(questions, TIMES, rate, OVERLOAD_S, core, fields[name])
            _add(found, f"goodput/s, {TIMES:g} times the peak", name, offered["goodput"])


def kernels(builds: Mapping[str, Path], rounds: int, found: Figures) -> None:
    """Add how many times as long XGBoost takes for margins and for SHAP values, of each build in each round."""
    for number in range(rounds):
        for name, checkout in _order(builds, number):
            command = [sys.executable, "-m", "benchmarks.kernel_rates", "--quick"]
            printed = subprocess.run(command, cwd=checkout, env={**os.environ, **environment(checkout)}, stdout=subprocess.PIPE, check=True)
            for kind, measured in json.loads(printed.stdout).items():
                for rows, times in measured.get("rows", {}).items() if isinstance(measured, dict) else ():
                    _add(found, f"{_KINDS.get(kind, kind)}, {rows} rows, times faster than XGBoost", name, times["xgboost"]["times_ours"])


_KINDS = {"factors": "shap"}  # as builds before this one called it


def ratios(found: Figures) -> dict[str, dict[str, float]]:
    """Return of each measure the medians of both builds and their ratio, above 1 where this build is better."""
    medians = {measure: {name: statistics.median(values) for name, values in each.items()} for measure, each in found.items()}
    return {
        measure: {**each, "ratio": round(each[OTHER] / each[OURS] if " ms" in measure else each[OURS] / each[OTHER], 4)}
        for measure, each in medians.items()
    }


def _order(each: Mapping[str, Any], number: int) -> list[tuple[str, Any]]:
    """Return the builds in an order that alternates, so that neither always follows the other."""
    return list(each.items())[:: -1 if number % 2 else 1]


def _add(found: Figures, measure: str, name: str, value: float) -> None:
    found.setdefault(measure, {}).setdefault(name, []).append(value)


def _last(found: Figures) -> str:
    return "; ".join(
        f"{measure}: " + ", ".join(f"{name} {values[-1]:,.4g}" for name, values in each.items()) for measure, each in found.items()
    )


def _field(questions: Questions, work: Workload) -> str:
    """Return the text before the kind of degradation in a build's answers."""
    _, body = post(Target(questions.url), work.requests[0])
    return next(field for field in FIELDS if field.encode() in body)


def main() -> None:
    """Measure both builds, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=lambda text: Path(text).resolve(), help="the root of the other checkout")
    parser.add_argument("--rounds", type=int, default=7, help="of the endpoint (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=("kernels", "endpoint", "overload"), help="these alone, printed and not kept")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    builds, found, work = {OURS: ROOT, OTHER: options.checkout}, Figures(), make(log)
    only = options.only or ("kernels", "endpoint", "overload")
    if "kernels" in only:
        kernels(builds, max(2, options.rounds // 2), found)
    if "endpoint" in only:
        for order in (builds, dict(reversed(builds.items()))):  # the server that starts second is up to 3 % faster
            with serving(order, work) as asked:
                endpoint(asked, (options.rounds + 1) // 2, found)
    if "overload" in only:
        server, generator = two_cores()
        with contextlib.ExitStack() as stack:
            with pinned(server):
                asked = stack.enter_context(serving(builds, work))
            fields = {name: _field(questions, work) for name, questions in asked.items()}
            for questions in asked.values():
                load(questions, "--connections", CONNECTIONS, "--seconds", WARM_UP_S, core=generator)
            overload(asked, fields, generator, found)
    compared = ratios(found)
    for measure, each in compared.items():
        print(f"{each['ratio']:6.3f}  {measure}: this {each[OURS]:,.5g}, other {each[OTHER]:,.5g}")
    commit = subprocess.run(
        ["git", "-C", str(options.checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    results.conclude(
        "builds", {"other": commit, "rounds": options.rounds, "compared": compared, "figures": found}, write=options.only is None
    )


if __name__ == "__main__":
    main()
