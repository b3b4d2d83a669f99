"""Factors and actions as columns of a batch job's output."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from serving.batch.task import Wanted
from serving.engines.details import BatchDetails, Factor, FactorDetails


def columns(details: BatchDetails, wanted: Wanted, scorer: Any, predictions: Any) -> list[pl.Series]:
    """Return the columns that are wanted beside the scores, each of one value for each row.

    Of each of the `wanted.factors` largest factors its name, value and contribution; the sum of the others where the question has one;
    the codes of recommended actions, by priority.
    """
    found = list[pl.Series]()
    if wanted.factors and details.factors is not None:
        found += _factors(details.factors, details.factors.of(scorer, predictions), wanted.factors)
    if wanted.actions and details.actions is not None:
        rows = details.actions.of(scorer, predictions)
        found.append(pl.Series(details.actions.column, [",".join(str(one.action) for one in row) for row in rows], pl.String))
    return found


def _factors(details: FactorDetails, rows: Sequence[Sequence[Factor]], number: int) -> list[pl.Series]:
    """Return the columns of factors; those of a row that has fewer are empty."""
    rest = [next((one.contribution for one in row if one.name == details.rest), None) for row in rows]
    listed = [[one for one in row if one.name != details.rest] for row in rows]
    found = list[pl.Series]()
    for place in range(number):
        ones = [row[place] if place < len(row) else None for row in listed]
        name = f"factor{place + 1}"
        found += [
            pl.Series(name, [None if one is None else one.name for one in ones], pl.String),
            pl.Series(f"{name}Value", [None if one is None else _text(one.value) for one in ones], pl.String),
            pl.Series(f"{name}Contribution", [None if one is None else one.contribution for one in ones], pl.Float64),
        ]
    return [*found, pl.Series(details.rest, rest, pl.Float64)] if details.rest else found


def _text(value: float | str | None) -> str | None:
    """Return a value as text: a number with the digits that float32 holds, which features are; None where it is missing."""
    if value is None or isinstance(value, str):
        return value
    text = str(np.float32(value))
    return text.removesuffix(".0")
