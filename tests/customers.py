"""Customers with a known truth, in a table like the published Telco one: some columns of it, spelled as there, blanks included."""

import numpy as np
import polars as pl

CONTRACTS = ("Month-to-month", "One year", "Two year")
INTERNET = ("DSL", "Fiber optic", "No")


def table(rows: int, seed: int) -> pl.DataFrame:
    """Return `rows` customers as text, as the published CSV has them; about 3 in 10 leave."""
    random = np.random.default_rng(seed)
    tenure = random.integers(0, 73, rows)
    monthly = np.round(random.uniform(20, 120, rows), 2)
    contract, internet, senior = random.integers(0, 3, rows), random.integers(0, 3, rows), random.integers(0, 2, rows)
    margin = 0.6 - 0.05 * tenure - 1.2 * contract + 0.8 * (internet == 1) + 0.01 * monthly
    left = random.random(rows) < 1 / (1 + np.exp(-margin))
    return pl.DataFrame(
        {
            "customerID": [f"{number:04d}-CUST" for number in range(rows)],
            "SeniorCitizen": [str(one) for one in senior],
            "tenure": [str(one) for one in tenure],
            "Contract": [CONTRACTS[one] for one in contract],
            "InternetService": [INTERNET[one] for one in internet],
            "MonthlyCharges": [str(one) for one in monthly],
            "TotalCharges": [str(round(m * t, 2)) if t else " " for m, t in zip(monthly.tolist(), tenure.tolist(), strict=True)],
            "Churn": ["Yes" if one else "No" for one in left],
        }
    )
