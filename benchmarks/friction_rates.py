"""How fast friction is counted: `python -m benchmarks.friction_rates [--quick]`, from the project's root.

A million sessions of about 20 events, in one call on one core, against the same rules in plain Python (`tests/naive/sessions.py`) on some
of the same sessions, in turn; both must count alike. Writes benchmarks/results/friction_rates.json.
"""

import argparse
import statistics
import sys
import time
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.clicks import random_sessions
from benchmarks.harness import log
from kernels.sessions import friction
from tests.naive import sessions as naive

MANY, QUICK_MANY = 1_000_000, 20_000
PLAIN = 2_000
ROUNDS, QUICK_ROUNDS = 5, 1
LIMITS = {threshold.name: threshold.value for threshold in friction.THRESHOLDS}


def ours(arrays: Any) -> tuple[float, Any]:
    """Return the seconds that the kernel takes for all sessions, and the counts int32 [sessions, counted]."""
    out = np.zeros((len(arrays[0]) - 1, 2 * len(friction.COUNTED)), np.int32)
    began = time.perf_counter()
    friction.friction(*arrays, friction.DEFAULTS, out)
    return time.perf_counter() - began, out[:, : len(friction.COUNTED)]


def events(arrays: Any, sessions: int) -> list[list[naive.FrictionEvent]]:
    """Return the first sessions as the plain rules take them."""
    offsets, kind, *columns = arrays
    kinds = [friction.KINDS[code] for code in kind[: offsets[sessions]].tolist()]
    rows = [naive.FrictionEvent(*row) for row in zip(kinds, *(column[: offsets[sessions]].tolist() for column in columns), strict=True)]
    return [rows[offsets[place] : offsets[place + 1]] for place in range(sessions)]


def plain(sessions: list[list[naive.FrictionEvent]]) -> tuple[float, list[list[int]]]:
    """Return the seconds that the plain rules take, and their counts."""
    began = time.perf_counter()
    found = [[len(fired) for fired in naive.friction(session, LIMITS).values()] for session in sessions]
    return time.perf_counter() - began, found


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MANY:,} sessions once; prints, and writes nothing")
    quick = parser.parse_args().quick
    arrays = random_sessions(QUICK_MANY if quick else MANY)
    some, many = events(arrays, PLAIN), len(arrays[0]) - 1
    ours(random_sessions(10))  # compile
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        took, counts = ours(arrays)
        other, found = plain(some)
        if counts[:PLAIN].tolist() != found:
            sys.exit("the kernel and the plain rules count differently; nothing is recorded")
        times["ours"].append(took / many)
        times["plain"].append(other / PLAIN)
        log(f"a session: ours {took / many * 1e6:.2f} us, plain Python {other / PLAIN * 1e6:.0f} us")
    ratio = statistics.median(one / other for one, other in zip(times["plain"], times["ours"], strict=True))
    found_all = {"sessions": many, "events": int(arrays[0][-1]), "seconds_a_session": times, "times_ours": round(ratio, 1)}
    results.conclude("friction_rates", found_all, write=not quick)


if __name__ == "__main__":
    main()
