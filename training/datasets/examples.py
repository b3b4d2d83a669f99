"""Small valid tables of every kind: what `train TASK --example FILE` and `batch TASK --example FILE` write.

They come from the simulated shop, from simulated buyers, or for texts from phrases with a known emotion. The same seed gives the same
table.
"""

import itertools
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from training.datasets import buyers
from training.datasets.shop import journeys, shop
from training.errors import TableError

SESSIONS = 2_000
BROWSED = 1_200  # sessions in a table of events
CUSTOMERS = 600
SHOPPED = 12_000  # sessions of which a table of customers is made
CHURN_DAYS = 60  # without a session until a customer counts as lost
PRODUCTS = 12
TEXTS = 240
SCORED = 25  # rows, or groups of rows, in a table to score


class ExampleTables(NamedTuple):
    """A table to learn from, and one to score, which has no label."""

    train: pl.DataFrame
    batch: pl.DataFrame


def of(table_module: str, seed: int) -> ExampleTables:
    """Return the tables of a kind, by the name of its module in `training.tables`. Raises TableError for a kind without an example."""
    kind = table_module.rpartition(".")[2]
    if kind not in EXAMPLES:
        raise TableError(f"there is no example of a table of {kind}; --column-help lists its fields")
    return EXAMPLES[kind](seed)


def _sessions(seed: int) -> ExampleTables:
    table = shop.training_table(SESSIONS, seed)
    return ExampleTables(table, table.head(SCORED).drop("purchased", "orderValue", "currency"))


def _sales(seed: int) -> ExampleTables:
    sales = shop.simulate(1, seed).sales
    kept = sales["product"].unique(maintain_order=True).head(PRODUCTS).to_list()
    table = sales.filter(pl.col("product").is_in(kept))
    last = table.sort("period").group_by("product", maintain_order=True).last().sort("product")
    return ExampleTables(table, last.select("product", *(name for name in ("price", "cost", "stock") if name in last.columns)))


def _purchases(seed: int) -> ExampleTables:
    table = buyers.simulate(CUSTOMERS, seed)
    return ExampleTables(
        table, table.filter(pl.col("customer").is_in(table["customer"].unique(maintain_order=True).head(SCORED).to_list()))
    )


def _customers(seed: int) -> ExampleTables:
    """Return the shop's customers as of CHURN_DAYS before its end: whether they had a session since is the label."""
    sessions = shop.simulate(SHOPPED, seed).sessions.filter(pl.col("customerId").is_not_null())
    moment = sessions["startedAt"].max() - timedelta(days=CHURN_DAYS)  # type: ignore[operator]
    before, after = sessions.filter(pl.col("startedAt") <= moment), sessions.filter(pl.col("startedAt") > moment)
    table = (
        before.group_by("customerId")
        .agg(
            region=pl.col("region").last(),
            device=pl.col("deviceType").mode().sort().first(),
            sessions=pl.len(),
            orders=pl.col("purchased").sum(),
            spent=pl.col("orderValue").sum().round(2),
            daysSinceSession=((moment - pl.col("startedAt").max()).dt.total_hours() / 24).round(1),
            daysSinceFirst=((moment - pl.col("startedAt").min()).dt.total_hours() / 24).round(1),
        )
        .sort("customerId")
        .with_columns(
            Churn=pl.when(pl.col("customerId").is_in(after["customerId"].unique().to_list())).then(pl.lit("No")).otherwise(pl.lit("Yes"))
        )
    )
    return ExampleTables(table, table.head(SCORED).drop("Churn"))


def _journeys(seed: int) -> ExampleTables:
    simulated = shop.simulate(BROWSED, seed)
    table = journeys.journeys(simulated.events, simulated.sessions)
    first = table["sessionId"].unique(maintain_order=True).head(SCORED).to_list()
    learned = ("purchase", "orderValue", "churned", "currency")
    return ExampleTables(table, table.filter(pl.col("sessionId").is_in(first)).drop(learned))


# A text is a beginning, a subject and an end; the emotion is that of the end.
_BEGINNINGS = ("", "Hello, ", "Honestly, ", "To whom it may concern: ")
_SUBJECTS = ("the parcel", "your delivery", "the new jacket", "this lamp", "the refund", "the chat with your support")
_ENDS: Mapping[str, tuple[str, ...]] = {
    "gratitude": ("was quick, thank you so much", "came early, thanks a lot"),
    "admiration": ("is wonderful, great work", "is the best I have seen"),
    "joy": ("made my day", "makes me so happy"),
    "anger": ("is an outrage, give me my money back", "makes me furious"),
    "annoyance": ("is late again and nobody answers", "has been promised three times now"),
    "disappointment": ("is not at all what the picture shows", "fell apart after a week, what a pity"),
    "confusion": ("is marked as delivered, but I do not understand where", "has two numbers and I am lost"),
    "curiosity": ("comes in which sizes?", "is made where?"),
    "sadness": ("was a present for my late mother, and it is broken", "is gone and I am in tears"),
    "neutral": ("arrived on Tuesday", "has the number 4711"),
}


def _texts(seed: int) -> ExampleTables:
    pairs = [(end, label) for label, ends in _ENDS.items() for end in ends]
    all_texts = [
        (f"{beginning}{subject} {end}", label) for beginning, subject, (end, label) in itertools.product(_BEGINNINGS, _SUBJECTS, pairs)
    ]
    chosen = np.random.default_rng(seed).permutation(len(all_texts))[:TEXTS]
    table = pl.DataFrame([all_texts[place] for place in chosen.tolist()], schema=["text", "labels"], orient="row")
    return ExampleTables(table, table.head(SCORED).drop("labels"))


# By kind of table: the modules of `training.tables`.
EXAMPLES: Mapping[str, Callable[[int], ExampleTables]] = {
    "sessions": _sessions,
    "sales": _sales,
    "purchases": _purchases,
    "customers": _customers,
    "journeys": _journeys,
    "texts": _texts,
}
