"""Purchases and histories: one purchase a day, returns taken off, weeks not rounded; against plain loops and CDNOW as published."""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import CellError, TableError
from training.tables import frames, histories
from training.tables import purchases as transactions_table
from training.tables.cells import CellOptions

FIRST = date(2026, 1, 1)
ROWS = st.lists(
    st.tuples(st.sampled_from(["17850.0", "17850", " a ", "a", "b"]), st.integers(0, 60), st.sampled_from([-5.0, 0.0, 2.5, 5.0])),
    min_size=1,
    max_size=40,
)


def table(rows):
    return pl.DataFrame(
        {
            "customer": [customer for customer, _, _ in rows],
            "time": [(FIRST + timedelta(days=day)).isoformat() for _, day, _ in rows],
            "amount": [amount for _, _, amount in rows],
        }
    )


def plainly(rows, split, end):
    """Return {customer: (x, t_x, T, spend repeats, mean spend, total, hold-out purchases, hold-out spend)} by plain loops."""
    days = defaultdict(lambda: defaultdict(float))
    for customer, day, amount in rows:
        name = customer.strip()
        days[name[:-2] if name.endswith(".0") else name][day] += amount
    found = {}
    for name, by_day in days.items():
        bought = sorted(day for day, amount in by_day.items() if amount >= 0)
        before = [day for day in bought if day <= split]
        if not before:
            continue
        first, repeats = before[0], before[1:]
        spent = [by_day[day] for day in repeats if by_day[day] > 0]
        later = [day for day in bought if split < day <= end]
        found[name] = (
            *(len(repeats), (before[-1] - first) / 7, (split - first) / 7, len(spent)),
            *(sum(spent) / len(spent) if spent else None, sum(by_day[day] for day in before)),
            *(len(later), sum(by_day[day] for day in later)),
        )
    return found


@given(ROWS, st.integers(0, 60), st.integers(0, 30))
@settings(deadline=None, max_examples=150)
def test_histories_are_their_plain_twins(rows, split, more):
    expected = plainly(rows, split, split + more)
    kwargs = {"split": FIRST + timedelta(days=split), "end": FIRST + timedelta(days=split + more)}
    if not expected:
        with pytest.raises(TableError):
            histories.of(transactions_table.read(table(rows)), **kwargs)
        return
    got = histories.of(transactions_table.read(table(rows)), **kwargs)
    assert got.customers == tuple(sorted(expected))
    for place, name in enumerate(got.customers):
        x, t_x, age, repeats, mean, total, count, spend = expected[name]
        assert (got.known.frequency[place], got.known.spend_repeats[place]) == (x, repeats)
        assert (got.known.recency[place], got.known.age[place]) == (t_x, age)
        assert got.known.total[place] == pytest.approx(total)
        assert np.isnan(got.known.mean_spend[place]) if mean is None else got.known.mean_spend[place] == pytest.approx(mean)
        if more:
            assert (got.holdout_count[place], got.holdout_spend[place]) == (count, pytest.approx(spend))
    assert (got.holdout_count is None) == (more == 0)


@pytest.fixture(scope="module")
def cdnow(data_dir):
    lines = [line.split() for line in (data_dir / "cdnow" / "CDNOW_sample.txt").read_text().splitlines() if line.strip()]
    columns = {"id": [line[1] for line in lines], "day": [line[2] for line in lines], "dollars": [float(line[4]) for line in lines]}
    return transactions_table.read(pl.DataFrame(columns), {"customer": "id", "time": "day", "amount": "dollars"})


def test_cdnow_is_as_published(cdnow, data_dir):
    got = histories.of(cdnow, split=date(1997, 9, 30), end=date(1998, 6, 30))
    published = pl.read_csv(data_dir / "cdnow" / "cdnow_customers_summary_with_transactions.csv")
    assert (len(got.customers), int((got.known.frequency > 0).sum()), int(got.known.frequency.sum())) == (2357, 946, 2457)
    assert int(got.holdout_count.sum()) == 1882
    np.testing.assert_array_equal(got.known.frequency, published["x"].to_numpy())
    np.testing.assert_allclose(got.known.recency, published["t_x"].to_numpy(), atol=0.0051)
    np.testing.assert_allclose(got.known.age, published["T"].to_numpy(), atol=0.0051)
    np.testing.assert_allclose(np.nan_to_num(got.known.mean_spend), published["zbar"].to_numpy(), atol=0.0051)


def test_online_retail_leaves_out_lines_without_a_customer(data_dir):
    mapping = {"customer": "CustomerID", "time": "InvoiceDate", "quantity": "Quantity", "price": "UnitPrice", "order": "InvoiceNo"}
    frame = frames.read(data_dir / "online_retail" / "online_retail.csv.gz", numbers=transactions_table.TABLE.number_columns(mapping))
    got = transactions_table.read(frame, mapping)
    assert got.left_out["without a customer"] == 135_080
    assert "17850" in got.customers
    assert not any("." in name for name in got.customers)
    assert (got.amount >= 0).all()


def test_a_day_in_the_future_is_said_with_its_row():
    with pytest.raises(CellError, match=r"row 2, column time: '2026-03-02' is after today, 2026-02-01"):
        transactions_table.read(table([("a", 1, 1.0), ("a", 60, 1.0)]), today=date(2026, 2, 1))


def test_days_in_several_forms_are_not_guessed_at():
    frame = pl.DataFrame({"customer": ["a"] * 3, "time": ["2026-01-02", "02.01.2026", "20260102"], "amount": [1.0] * 3})
    with pytest.raises(
        TableError, match=r"row 2, column time: '02\.01\.2026' has another form than other cells of the column \(YYYY-MM-DD\)"
    ):
        transactions_table.read(frame)


def test_digits_are_days_only_where_they_are_written_as_days():
    frame = pl.DataFrame({"customer": ["a"], "time": ["41"], "amount": [1.0]})
    with pytest.raises(TableError, match="'41' is no time"):
        transactions_table.read(frame)


def test_an_amount_that_is_no_number_is_said_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text('customer,time,amount\na,2026-01-02,1.5\na,2026-01-03,"1.234,50"\n')
    with pytest.raises(TableError, match=r"t\.csv, line 3, column amount: '1\.234,50'"):
        frames.read(tmp_path / "t.csv", numbers=transactions_table.TABLE.number_columns())


@pytest.mark.parametrize(
    ("columns", "mapping", "said"),
    [
        ({"time": ["2026-01-02"], "amount": [1.0]}, {}, "no column is the customer"),
        ({"customer": ["a"], "time": ["2026-01-02"], "quantity": [1.0]}, {}, "no column is the amount.*or quantity and price"),
        ({"customer": ["a"], "time": ["2026-01-02"], "amount": [1.0]}, {"custom": "customer"}, "there is no field 'custom'"),
        ({"customer": ["a"], "time": ["2026-01-02"], "amount": [1.0]}, {"time": "day"}, "the table has no column 'day'"),
        ({"customer": [" "], "time": ["2026-01-02"], "amount": [1.0]}, {}, "1 rows without a customer; correct the columns"),
        ({"customer": ["a"], "time": ["2026-01-02"], "amount": [-1.0]}, {}, "the net amount of every day is negative"),
    ],
)
def test_a_table_that_cannot_be_read_is_said(columns, mapping, said):
    with pytest.raises(TableError, match=said):
        transactions_table.read(pl.DataFrame(columns), mapping)


def test_two_currencies_are_not_added_up():
    frame = table([("a", 1, 1.0), ("a", 2, 1.0)]).with_columns(currency=pl.Series(["EUR", "USD"]))
    with pytest.raises(TableError, match="names EUR, USD"):
        transactions_table.read(frame)


def test_a_split_outside_of_the_data_is_said():
    purchases = transactions_table.read(table([("a", 10, 1.0), ("b", 20, 1.0)]))
    with pytest.raises(TableError, match="is before the first purchase, 2026-01-11"):
        histories.of(purchases, split=FIRST)
    with pytest.raises(TableError, match="is after --end"):
        histories.of(purchases, split=date(2026, 2, 1), end=date(2026, 1, 20))


def guests(word, customers="text"):
    """Return 3 purchases of customer 1, and one of nobody: `word` in the place of their customer."""
    ids = ["1", " 1 ", word, "1.0"] if customers == "text" else [1.0, 1.0, word, 1.0]
    return pl.DataFrame({"customer": ids, "time": ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"], "amount": [1.0, 2.0, 9.0, 3.0]})


@pytest.mark.parametrize("word", [None, "", "NULL", "nan", "None", "N/A", "NA", "(not set)", "(none)"])
def test_a_blank_word_is_nobody_and_is_counted_and_named(word):
    got = transactions_table.read(guests(word))
    assert (got.customers, got.amount.tolist(), got.left_out["without a customer"]) == (("1",), [1.0, 2.0, 3.0], 1)
    assert len(got.warnings) == 1
    assert got.warnings[0].endswith("in row 3")
    assert not word or repr(word) in got.warnings[0]


def test_a_missing_number_is_nobody():
    assert transactions_table.read(guests(float("nan"), "floats")).left_out["without a customer"] == 1
    assert transactions_table.read(guests(None, "floats").to_pandas()).customers == ("1",)


def test_given_blank_words_replace_the_list():
    got = transactions_table.read(guests("NULL"), options=CellOptions(blank=("guest",)))
    assert (got.customers, got.left_out["without a customer"]) == (("1", "NULL"), 0)
    assert transactions_table.read(guests("Guest"), options=CellOptions(blank=("guest",))).customers == ("1",)


@pytest.mark.parametrize("ids", [[1, 2], [1.0, 2.0], ["1", "2.0"]], ids=str)
def test_a_pandas_frame_with_numeric_ids_gives_their_digits(ids):
    frame = pd.DataFrame({"customer": ids, "time": ["2026-01-01"] * 2, "amount": [1.0, 2.0]})
    assert transactions_table.read(frame).customers == ("1", "2")


def test_decimals_are_multiplied_without_losing_digits():
    columns = {"customer": ["a"], "time": ["2026-01-01"], "quantity": [Decimal("2.5")], "price": [Decimal("9.9")]}
    assert transactions_table.read(pl.DataFrame(columns)).amount.tolist() == [24.75]
    assert transactions_table.read(pl.DataFrame({**columns, "quantity": ["2,5"], "price": ["9,90 EUR"]})).amount.tolist() == [24.75]


def test_an_amount_that_is_not_finite_is_named():
    with pytest.raises(CellError, match="row 2, column amount: inf is not a finite number"):
        transactions_table.read(table([("a", 1, 1.0), ("a", 2, float("inf"))]))


SUBSCRIPTIONS = [(f"S{number}", date(2025, 1 + month, 1)) for number in range(4) for month in range(number, number + 6)]


def subscriptions(form):
    return pl.DataFrame({"customer": [c for c, _ in SUBSCRIPTIONS], "time": [d.strftime(form) for _, d in SUBSCRIPTIONS], "amount": 9.9})


def test_days_that_are_days_both_ways_are_refused_and_the_option_chooses():
    expected = transactions_table.read(subscriptions("%Y-%m-%d"))
    with pytest.raises(TableError, match=r"column time: '02/01/2025' is 2 January 2025 as DD/MM/YYYY and 1 February 2025 as MM/DD/YYYY"):
        transactions_table.read(subscriptions("%m/%d/%Y"))
    got = transactions_table.read(subscriptions("%m/%d/%Y"), options=CellOptions(time_format="%m/%d/%Y"))
    assert (got.day.tolist(), got.customers) == (expected.day.tolist(), expected.customers)


@pytest.mark.parametrize("form", ["%Y%m%d", "%d.%m.%Y 10:15", "%Y-%m-%d 10:15:00 UTC", "%Y-%m-%dT10:15:00+02:00"])
def test_days_are_days_in_every_form(form):
    assert transactions_table.read(subscriptions(form)).day.tolist() == transactions_table.read(subscriptions("%Y-%m-%d")).day.tolist()


def test_times_since_1970_and_typed_days_are_days():
    frame = subscriptions("%Y-%m-%d")
    days = frame["time"].str.to_date()
    expected = transactions_table.read(frame).day.tolist()
    for column in (days, days.cast(pl.Datetime("ms")), *(days.cast(pl.Datetime(unit)).cast(pl.Int64) for unit in ("ms", "us", "ns"))):
        assert transactions_table.read(frame.with_columns(column.alias("time"))).day.tolist() == expected
