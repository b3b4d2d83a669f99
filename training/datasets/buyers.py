"""Purchases of customers whose habits are known: each buys at a rate of his own until he stops, as the BG/NBD has it."""

from datetime import date, timedelta

import numpy as np
import polars as pl

FIRST = date(2025, 1, 1)
R, ALPHA, A, B = 0.8, 8.0, 0.8, 2.5  # of rates a week, and of stopping after a repeat purchase
P, Q, V = 6.0, 4.0, 60.0  # of money at a purchase


def simulate(customers: int, seed: int, weeks: float = 60.0) -> pl.DataFrame:
    """Return the purchases of customers who come within the first third of `weeks`: columns customer, time (ISO days) and amount."""
    random = np.random.default_rng(seed)
    rows: list[tuple[str, date, float]] = []
    for number in range(customers):
        rows += _life(f"c{number:05}", weeks, random)
    return pl.DataFrame(rows, schema=["customer", "time", "amount"], orient="row").with_columns(pl.col("time").cast(pl.String))


def _life(name: str, weeks: float, random: np.random.Generator) -> list[tuple[str, date, float]]:
    """Return a customer's purchases: name, day and money of each."""
    rate, stops, spend = random.gamma(R, 1 / ALPHA), random.beta(A, B), random.gamma(Q, 1 / V)
    at, rows = random.uniform(0, weeks / 3), list[tuple[str, date, float]]()
    while at < weeks:
        rows.append((name, FIRST + timedelta(days=int(at * 7)), round(float(random.gamma(P, 1 / spend)), 2) + 0.01))
        if len(rows) > 1 and random.random() < stops:
            break
        at += max(random.exponential(1 / rate), 1 / 7)
    return rows
