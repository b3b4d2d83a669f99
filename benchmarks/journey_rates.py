"""How fast a journey is scored: `python -m benchmarks.journey_rates [--quick]`, from the project's root.

The network of `kernels.networks.gru` against the Torch module that it was learned as, eager, one thread, on sessions of 20 events in turn:
one more event against the whole session again, and a batch of 64 sessions. Writes benchmarks/results/journey_rates.json.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import results
from benchmarks.harness import log
from kernels.networks import gru
from training.models.journey import model as journey
from training.models.journey import network

EVENTS, BATCH, PAGES, ATTRIBUTES = 20, 64, 8, 5
ROUNDS, QUICK_ROUNDS, CALLS = 15, 2, 50
CLOSE = 1e-4


def seconds_a_call(call: Callable[[], object], calls: int = CALLS) -> float:
    """Return what a call takes, the mean of many."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds; prints, and writes nothing")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    net = network.Net(PAGES, ATTRIBUTES).eval()
    weights, scaling = net.network(), np.stack([np.zeros(ATTRIBUTES), np.ones(ATTRIBUTES)]).astype(np.float32)
    offsets = np.arange(0, (BATCH + 1) * EVENTS, EVENTS, dtype=np.int64)
    seconds = np.concatenate([np.cumsum(random.exponential(30, EVENTS)) for _ in range(BATCH)]).astype(np.float32)
    attributes = random.normal(size=(BATCH, ATTRIBUTES)).astype(np.float32)
    sessions = network.SessionArrays(offsets, random.integers(0, PAGES, BATCH * EVENTS), seconds, attributes, np.zeros(BATCH))
    given = network.padded(sessions, PAGES, scaling)
    columns = sessions.columns(np.arange(BATCH), np.full(BATCH, EVENTS), np.zeros(BATCH))
    state, out = np.zeros(network.WIDTH, np.float32), np.empty(len(weights.out_bias), np.float32)

    def event() -> None:
        gru.journey_advance(3, 12.0, 300.0, EVENTS - 1, attributes[0], weights, state, out)

    def eager(number: int) -> torch.Tensor:
        with torch.inference_mode():
            margins: torch.Tensor = net(given.page[:number], given.times[:number], given.attributes[:number])[:, -1]
            return margins

    event()
    ours = journey.margins([weights], scaling, columns)
    if np.abs(ours - eager(BATCH).numpy()).max() > CLOSE:
        sys.exit("the kernel and Torch give different outputs; nothing is recorded")
    calls: dict[str, Callable[[], object]] = {
        "event": event,
        "event_torch": lambda: eager(1),
        "batch": lambda: journey.margins([weights], scaling, columns),
        "batch_torch": lambda: eager(BATCH),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for name, call in calls.items():
            times[name].append(seconds_a_call(call))
    ratios = {
        f"{name}_times_torch": round(
            statistics.median(one / other for one, other in zip(times[f"{name}_torch"], times[name], strict=True)), 2
        )
        for name in ("event", "batch")
    }
    log(", ".join(f"{name} {statistics.median(took) * 1e6:.0f} us" for name, took in times.items()))
    log(str(ratios))
    results.conclude("journey_rates", {"events": EVENTS, "batch": BATCH, "seconds_a_call": times, **ratios}, write=not quick)


if __name__ == "__main__":
    main()
