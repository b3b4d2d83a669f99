"""What a policy is worth by what another one logged, on real data: `python -m benchmarks.off_policy`, from the project's root.

The Open Bandit Dataset (Saito et al. 2020, CC BY 4.0): 10,000 recommendations of men's fashion drawn evenly, and 10,000 by Bernoulli
Thompson sampling. From the even ones alone, what would the bandit have earned? What it did earn is known. Its chances are the shares of the
items that it showed in each position. Writes benchmarks/results/off_policy.json.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import results
from benchmarks.harness import log
from benchmarks.machine import DATA
from kernels.types import F64
from training.evaluation.off_policy import LoggedDecisions, cross_fitted_rewards, doubly_robust, ips, snips

ITEMS, POSITIONS, FOLDS = 34, 3, 5
COLUMNS = ["item_id", "position", "click", "propensity_score"]


def chances(of: pl.DataFrame, asked: pl.DataFrame) -> F64:
    """Return the policy's chances float64 [decisions, ITEMS] for the decisions `asked`, from what it showed in each position."""
    counts = np.bincount((of["position"].to_numpy() - 1) * ITEMS + of["item_id"].to_numpy(), minlength=POSITIONS * ITEMS)
    table = counts.reshape(POSITIONS, ITEMS) / np.maximum(1, counts.reshape(POSITIONS, ITEMS).sum(axis=1, keepdims=True))
    return np.asarray(table[asked["position"].to_numpy() - 1])


def main() -> None:
    """Estimate, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA / "open_bandit", help="the folder with random_men.csv and bts_men.csv")
    data = parser.parse_args().data
    even, bandit = (pl.read_csv(data / f"{name}_men.csv", columns=COLUMNS) for name in ("random", "bts"))
    logged = LoggedDecisions(
        even["item_id"].to_numpy().astype(np.int64),
        even["click"].to_numpy().astype(np.float64),
        even["propensity_score"].to_numpy().astype(np.float64),
    )
    own = chances(bandit, even)
    fold, place = np.arange(len(even)) % FOLDS, even["position"].to_numpy().astype(np.int64) - 1
    found = {
        "ips": ips(logged, own),
        "snips": snips(logged, own),
        "dr": doubly_robust(logged, own, cross_fitted_rewards(logged, ITEMS, fold, place)),
    }
    for name, estimate in found.items():
        log(f"{name}: {estimate.value:.4%} ({estimate.low:.4%} to {estimate.high:.4%})")
    facts = {"decisions": len(even), "even_rate": float(logged.reward.mean()), "bandit_rate": float(bandit["click"].to_numpy().mean())}
    results.conclude("off_policy", {**facts, "estimates": {name: one._asdict() for name, one in found.items()}}, write=True)


if __name__ == "__main__":
    main()
