"""Read a table of purchases as days on which customers bought.

All that a customer buys on one day, less that day's returns, is one purchase. A day with a net amount of 0 is a purchase of 0; a negative
one is no purchase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from kernels.types import F64, I64
from training.errors import CellError, TableError
from training.tables import periods
from training.tables.table import WHOLE, Field, FieldColumns, Grain, Mapped, ReadPlan, TableKind, check, listed, single

CUSTOMER, TIME, AMOUNT, QUANTITY, PRICE, ORDER, CURRENCY = "customer", "time", "amount", "quantity", "price", "order", "currency"
FIELDS: tuple[Field, ...] = (
    Field(CUSTOMER, "text; 17850.0 is 17850", "yes"),
    Field(TIME, "a date, or a date and time, all in one format", "yes"),
    Field(AMOUNT, "money; returns are negative", "yes, or quantity and price"),
    Field(QUANTITY, "units; returns are negative", "with price, instead of amount"),
    Field(PRICE, "money a unit", "with quantity, instead of amount"),
    Field(ORDER, "text", "no: lines of one order are of one day anyway"),
    Field(CURRENCY, "ISO 4217, one for the whole table", "no"),
)
FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
_NUMBERS = {AMOUNT, QUANTITY, PRICE}
ROUNDING = 1e-9  # of money: a net amount of a day smaller than this is 0


@dataclass(frozen=True, slots=True)
class Purchases:
    """Days on which customers bought, ordered by customer and day; arrays are [purchases].

    customer: int64, which of `customers`; day: int64, the day's ordinal (date.toordinal); amount: float64, money, 0 or more. left_out:
    numbers of rows, or days, that were left out, by reason; rows: of the table.
    """

    customers: tuple[str, ...]
    customer: I64
    day: I64
    amount: F64
    currency: str | None
    left_out: Mapping[str, int]
    rows: int


class PurchasesTable(TableKind):
    """A table of purchases, several rows for a customer, who is what an answer is for."""

    fields = FIELDS
    grain: Grain = "group"

    def number_columns(self, mapping: Mapped | None = None) -> frozenset[str]:
        """Return the fields of numbers, or the columns mapped to them."""
        mapping = single(mapping)
        texts = {column for field, column in mapping.items() if field not in _NUMBERS}
        return frozenset({mapping.get(field, field) for field in _NUMBERS} - texts)

    def plan(self, columns: Sequence[str], mapping: Mapped | None = None) -> ReadPlan:
        """Return how to read the purchases; see `resolve` for what it raises."""
        return ReadPlan(tuple(columns), self.number_columns(mapping), resolve(columns, mapping).ignored, whole=True, per_row=False)


TABLE = PurchasesTable()


def resolve(columns: Sequence[str], mapping: Mapped | None = None) -> FieldColumns:
    """Return the column of each field: that in `mapping`, else the one with the field's name.

    Raises TableError when a mapped field or column does not exist, or one that is needed is not there.
    """
    mapping = single(mapping)
    check({field: (column,) for field, column in mapping.items()}, FIELD_NAMES, columns)
    taken = set(mapping.values())
    of = {field: mapping.get(field, field) for field in FIELD_NAMES if field in mapping or (field in columns and field not in taken)}
    needed = (CUSTOMER, TIME, *((AMOUNT,) if not {QUANTITY, PRICE} <= of.keys() else ()))
    for field in needed:
        if field not in of:
            instead = ", or quantity and price with --map quantity=COLUMN --map price=COLUMN" if field == AMOUNT else ""
            raise TableError(f"no column is the {field}; the table has {listed(columns)}. Name it with --map {field}=COLUMN{instead}")
    used = set(of.values())
    return FieldColumns(of, tuple(column for column in columns if column not in used))


def read(frame: Any, mapping: Mapped | None = None, *, today: date | None = None) -> Purchases:
    """Return the purchases in a table (polars, cudf or pandas).

    Rows without a customer, a time or an amount are left out and counted. Raises CellError for a day after `today`, TableError where times
    are not all in one format, or nothing is left.
    """
    table = nw.from_native(frame, eager_only=True)
    of = resolve(table.columns, mapping).of
    lines, left_out = _lines(table, of)
    if not len(lines):
        raise TableError(f"no row has a customer, a time and an amount: {_counts(left_out)}; correct the columns")
    days = _days(lines, table, of, today)
    names, customer, day, amount = _netted(days)
    kept = amount >= 0
    left_out["days of returns alone"] = int((~kept).sum())
    if not kept.any():
        raise TableError("the net amount of every day is negative: write amounts of purchases as positive numbers")
    there, customer = np.unique(customer[kept], return_inverse=True)
    customers = tuple(names[there].tolist())
    return Purchases(customers, customer.astype(np.int64), day[kept], amount[kept], _currency(table, of), left_out, len(table))


def _netted(days: nw.DataFrame[Any]) -> tuple[NDArray[Any], I64, I64, F64]:
    """Return the customers in order, and the net amount of each of their days: the customer's place, the day, money.

    Summed by one thread: the last digit of a sum over several threads depends on their order.
    """
    names, which = np.unique(np.asarray(days["customer"].to_numpy(), object).astype(str), return_inverse=True)
    day = np.asarray(days["day"].to_numpy(), np.int64)
    first, span = day.min(), np.ptp(day) + 1
    dates, place = np.unique(which * span + (day - first), return_inverse=True)
    amount = np.bincount(place, np.asarray(days["amount"].to_numpy(), np.float64)).astype(np.float64)
    amount[np.abs(amount) < ROUNDING] = 0.0
    return names, (dates // span).astype(np.int64), (dates % span + first).astype(np.int64), amount


def _lines(table: nw.DataFrame[Any], of: Mapping[str, str]) -> tuple[nw.DataFrame[Any], dict[str, int]]:
    """Return customer, time and amount of the rows that have all three, and the numbers of other rows, by reason."""
    customer = nw.col(of[CUSTOMER]).cast(nw.String).str.strip_chars().str.replace(WHOLE, "${1}")
    amount = nw.col(of[AMOUNT]) if AMOUNT in of else nw.col(of[QUANTITY]) * nw.col(of[PRICE])
    lines = table.select(
        customer=customer, time=nw.col(of[TIME]).cast(nw.String).str.strip_chars(), amount=amount.cast(nw.Float64)
    ).with_row_index("row")
    left_out = dict[str, int]()
    for name, missing in (
        ("without a customer", nw.col("customer").is_null() | (nw.col("customer") == "")),
        ("without a time", nw.col("time").is_null() | (nw.col("time") == "")),
        ("without an amount", nw.col("amount").is_null() | nw.col("amount").is_nan()),
    ):
        before = len(lines)
        lines = lines.filter(~missing)
        left_out[name] = before - len(lines)
    return lines, left_out


def _days(lines: nw.DataFrame[Any], table: nw.DataFrame[Any], of: Mapping[str, str], today: date | None) -> nw.DataFrame[Any]:
    """Return the lines with the ordinal of their day. Raises TableError for times in several formats, CellError for one in the future."""
    texts = lines["time"].unique(maintain_order=True).to_list()
    try:
        numbers, form = periods.read(texts)
        if not form.is_date:  # YYYYMMDD is read as a number first
            numbers = {text: periods.day_of_digits(text) for text in texts}
    except (TableError, ValueError) as error:
        raise TableError(f"column {of[TIME]}: {str(error).replace('period', 'time', 1)}") from None
    days = lines.with_columns(day=nw.col("time").replace_strict(texts, [numbers[text] for text in texts], return_dtype=nw.Int64))
    if today is not None and max(numbers.values()) > today.toordinal():
        row, text = days.filter(nw.col("day") > today.toordinal()).select("row", "time").row(0)
        raise CellError(int(row), of[TIME], text, f"is after today, {today.isoformat()}; correct it, or leave the row out")
    return days


def _currency(table: nw.DataFrame[Any], of: Mapping[str, str]) -> str | None:
    """Return the one currency. Raises TableError for several."""
    if CURRENCY not in of:
        return None
    found = table[of[CURRENCY]].drop_nulls().unique(maintain_order=True).to_list()
    if len(found) > 1:
        raise TableError(f"column {of[CURRENCY]} names {listed(found)}: amounts must be in one currency; convert them")
    return str(found[0]) if found else None


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} rows {reason}" for reason, number in left_out.items() if number) or "the table is empty"
