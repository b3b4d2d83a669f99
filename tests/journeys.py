"""Sessions for the journey's tests: drawn ones as its kernels take them, and simulated ones whose pages tell of what will be bought."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from kernels.types import F32, I64

PAGES = 5

Drawn = Sequence[Sequence[tuple[int, float]]]  # of each session its events: the page, and the seconds since the event before
GAPS = (0.0, 0.5, 1.5, 2.0, 31.0, 60.0, 61.5, 400.0)
DRAWN = st.lists(st.lists(st.tuples(st.integers(0, PAGES - 1), st.sampled_from(GAPS)), max_size=30), min_size=1, max_size=5)


def columns(drawn: Drawn) -> tuple[I64, I64, I64, F32]:
    """Return begins, ends, page and seconds of drawn sessions."""
    sizes = [len(session) for session in drawn]
    ends = np.cumsum(sizes).astype(np.int64)
    page = np.array([page for session in drawn for page, _ in session], np.int64)
    seconds = np.concatenate([np.empty(0), *(np.cumsum([gap for _, gap in session]) for session in drawn)]).astype(np.float32)
    return ends - sizes, ends, page, seconds


def write(folder: Path, number: int, seed: int) -> Path:
    """Write events.csv.gz and sessions.csv.gz of `number` sessions into `folder`, which is new, and return it."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    events, sessions = ["session_id,step,type,page,cum_time_s"], ["session_id,n_clicks,duration_s,purchase,static0,split0"]
    for session in range(number):
        bought = random.random() < 0.3
        size = int(random.integers(2, 15)) + 4 * bought
        weights = np.array([4, 3, 2, 1 + 3 * bought, 1 + bought], float)
        seconds = np.cumsum(np.round(random.exponential(20 if bought else 35, size)))
        pages = random.choice(PAGES, size, p=weights / weights.sum())
        kinds = np.where(random.random(size) < (0.3 if bought else 0.1), "add_to_cart", "page_view")
        told = zip(kinds, pages, seconds, strict=True)
        events += [f"{session},{step},{kind},{page},{at}" for step, (kind, page, at) in enumerate(told)]
        split = "val" if session % 4 == 0 else "train"
        sessions.append(f"{session},{size},{seconds[-1]},{int(bought)},{random.normal(bought):.3f},{split}")
    for name, lines in (("events", events), ("sessions", sessions)):
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder
