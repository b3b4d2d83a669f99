"""Simulated sessions whose pages tell of what will be bought: for the journey model's tests, in the form of its published table."""

import gzip
from pathlib import Path

import numpy as np

PAGES = 5


def write(folder: Path, number: int, seed: int) -> Path:
    """Write events.csv.gz and sessions.csv.gz of `number` sessions into `folder`, which is new, and return it."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    events, sessions = ["session_id,step,page,cum_time_s"], ["session_id,n_clicks,duration_s,purchase,static0,split0"]
    for session in range(number):
        bought = random.random() < 0.3
        size = int(random.integers(2, 15)) + 4 * bought
        weights = np.array([4, 3, 2, 1 + 3 * bought, 1 + bought], float)
        seconds = np.cumsum(np.round(random.exponential(20 if bought else 35, size)))
        pages = random.choice(PAGES, size, p=weights / weights.sum())
        events += [f"{session},{step},{page},{at}" for step, (page, at) in enumerate(zip(pages, seconds, strict=True))]
        split = "val" if session % 4 == 0 else "train"
        sessions.append(f"{session},{size},{seconds[-1]},{int(bought)},{random.normal(bought):.3f},{split}")
    for name, lines in (("events", events), ("sessions", sessions)):
        with gzip.open(folder / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder
