"""Simulated purchases with known parameters: each customer buys at their own rate until they churn (BG/NBD)."""

from datetime import date, timedelta

import numpy as np
import polars as pl

FIRST = date(2025, 1, 1)
R, ALPHA, A, B = 0.8, 8.0, 0.8, 2.5  # weekly purchase rates, and churn after a repeat purchase
P, Q, V = 6.0, 4.0, 60.0  # Gamma-Gamma spend per purchase


def simulate(customers: int, seed: int, weeks: float = 60.0) -> pl.DataFrame:
    """Return the purchases of customers who first buy within the first third of `weeks`: customer, time (ISO date), amount."""
    random = np.random.default_rng(seed)
    rows: list[tuple[str, date, float]] = []
    for number in range(customers):
        rows += _purchases(f"c{number:05}", weeks, random)
    return pl.DataFrame(rows, schema=["customer", "time", "amount"], orient="row").with_columns(pl.col("time").cast(pl.String))


def _purchases(name: str, weeks: float, random: np.random.Generator) -> list[tuple[str, date, float]]:
    """Return a customer's purchases: name, date and amount of each."""
    rate, churn, spend = random.gamma(R, 1 / ALPHA), random.beta(A, B), random.gamma(Q, 1 / V)
    at, rows = random.uniform(0, weeks / 3), list[tuple[str, date, float]]()
    while at < weeks:
        rows.append((name, FIRST + timedelta(days=int(at * 7)), round(float(random.gamma(P, 1 / spend)), 2) + 0.01))
        if len(rows) > 1 and random.random() < churn:
            break
        at += max(random.exponential(1 / rate), 1 / 7)
    return rows
