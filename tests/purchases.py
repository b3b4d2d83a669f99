"""Purchases of customers whose habits are known: who buys at a rate of his own until he stops, as the BG/NBD has it."""

from datetime import date, timedelta

import numpy as np
import polars as pl

FIRST = date(2025, 1, 1)
R, ALPHA, A, B = 0.8, 8.0, 0.8, 2.5  # weeks
P, Q, V = 6.0, 4.0, 60.0


def table(customers, seed, weeks=60):
    """Return columns customer, time, amount of `customers` who come within the first third of `weeks`."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(customers):
        rate, stops = random.gamma(R, 1 / ALPHA), random.beta(A, B)
        spend = random.gamma(Q, 1 / V)
        at = random.uniform(0, weeks / 3)
        while at < weeks:
            rows.append((f"c{number:04}", FIRST + timedelta(days=int(at * 7)), round(float(random.gamma(P, 1 / spend)), 2) + 0.01))
            if len(rows) > 1 and rows[-2][0] == rows[-1][0] and random.random() < stops:
                break
            at += max(random.exponential(1 / rate), 1 / 7)
    return pl.DataFrame(rows, schema=["customer", "time", "amount"], orient="row").with_columns(pl.col("time").cast(pl.String))
