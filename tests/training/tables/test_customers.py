"""The file of a table of customers: what is wrong in it is named with file and line, and too little of it is refused."""

import re

import numpy as np
import polars as pl
import pytest

from tests import customers as simulated
from training.errors import CellError, TableError
from training.tables import customers
from training.tables.cells import CellOptions

ROWS = 300


@pytest.fixture(scope="module")
def table():
    return simulated.table(ROWS, 3)


def written(frame, path):
    frame.write_csv(path)
    return path


def test_a_file_is_read_as_its_frame_is(table, tmp_path):
    of_file, of_frame = customers.read_file(written(table, tmp_path / "in.csv")), customers.read(table)
    assert of_file.X.tobytes() == of_frame.X.tobytes()
    assert of_file.y.tolist() == of_frame.y.tolist()
    assert of_file.features == of_frame.features


def test_a_wrong_cell_is_named_with_file_line_and_column(table, tmp_path):
    wrong = table.with_columns(Churn=pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("")).otherwise("Churn"))
    with pytest.raises(CellError, match=r"in\.csv, line 9, column Churn: .* is a blank label"):
        customers.read_file(written(wrong, tmp_path / "in.csv"))


def test_a_wrong_column_is_named_with_its_file(table, tmp_path):
    path = written(table.drop("Churn"), tmp_path / "in.csv")
    with pytest.raises(TableError, match=rf"^{re.escape(str(path))}: no column is the label"):
        customers.read_file(path)


@pytest.mark.parametrize(
    ("positives", "negatives", "enough"), [(1, 299, False), (19, 281, False), (20, 280, True), (281, 19, False), (99, 100, False)]
)
def test_a_table_needs_enough_rows_of_each_label(tmp_path, positives, negatives, enough):
    labels = ["left"] * positives + ["stayed"] * negatives
    path = written(pl.DataFrame({"x": range(len(labels)), "label": labels}), tmp_path / "in.csv")
    if enough:
        assert customers.read_file(path, positive="left").y.sum() == positives
        return
    found = f"{len(labels)} rows, {positives} with the label left and {negatives} with stayed; at least 200 rows are needed, 20 with each"
    with pytest.raises(TableError, match=re.escape(f"{path}: insufficient data: {found}")):
        customers.read_file(path, positive="left")


def priced(texts, label=None):
    """Return 400 customers, who leave where their spend, one of `texts`, is of the first half."""
    rows = np.random.default_rng(0).integers(0, len(texts), ROWS)
    return pl.DataFrame({"spend": [texts[row] for row in rows], "label": [["no", "yes"][int(row < len(texts) / 2)] for row in rows]})


@pytest.mark.parametrize("texts", [["1,234.50", "950.25", "7"], ["1.234,50", "950,25", "7"], ["$1,234.50", "$950.25", "$7.00"]], ids=str)
def test_money_is_a_number_in_every_notation(texts):
    frame = priced(texts)
    rows = customers.read(frame)
    assert [(one.name, one.kind) for one in rows.features] == [("spend", "number")]
    assert rows.warnings == ()
    assert set(rows.X[:, 0].tolist()) == {1234.5, 950.25, 7.0}


def test_a_number_that_fits_two_notations_is_refused():
    with pytest.raises(TableError, match=r"column spend: '(1,234|2,500)' is \d+ with a decimal point and .* with a decimal comma"):
        customers.read(priced(["1,234", "2,500", "7"]))


MANY = {
    "an id": ([f"x-{row:x}" for row in range(ROWS)], "it may be an id"),
    "times": ([f"2024-01-01 10:{row // 60:02d}:{row % 60:02d}" for row in range(ROWS)], "it may be times"),
    "numbers": ([f"{row}.5" if row % 4 else f"{row} pcs" for row in range(ROWS)], "it may be numbers, of which '0 pcs' is none"),
    "free text": ([f"the customer wrote about order {row} at length" for row in range(ROWS)], "it may be free text"),
}


@pytest.mark.parametrize(("values", "said"), MANY.values(), ids=MANY)
def test_a_category_with_nearly_as_many_values_as_rows_is_warned_about(values, said):
    frame = priced(["1", "2"]).with_columns(note=pl.Series(values))
    (warning,) = customers.read(frame).warnings
    assert warning.startswith(f"column note is read as a category, and has {ROWS} values in {ROWS} rows: {said}")
    assert warning.endswith("leave it out with --map leftOut=note")


def test_which_words_are_blank_is_chosen_and_a_model_reads_them_as_it_learned():
    frame = priced(["1", "2"]).with_columns(country=pl.Series(["NA", "ZA", "BW", None] * (ROWS // 4)))
    (country,) = [one for one in customers.read(frame).features if one.name == "country"]
    assert country.values == ("BW", "ZA")
    (country,) = [one for one in customers.read(frame, options=CellOptions(blank=("unknown",))).features if one.name == "country"]
    assert country.values == ("BW", "NA", "ZA")
    X = customers.matrix(pl.DataFrame({"country": ["na", "ZA", "NULL", None]}), [country])
    assert np.array_equal(X[:, 0], [1, 2, np.nan, np.nan], equal_nan=True)
    assert country.reader()("NA") == 1


def test_none_is_an_arm_and_other_blank_words_are_not():
    frame = priced(["1", "2"]).with_columns(treatment=pl.Series(["None", "mail"] * (ROWS // 2)))
    assert customers.read(frame).arms == ("None", "mail")
    coded = frame.with_columns(treatment=pl.Series([0.0, 1.0] * (ROWS // 2)))
    assert customers.read(coded).arms == ("0", "1")
    with pytest.raises(CellError, match="row 1, column treatment: 'NULL' is a blank treatment"):
        customers.read(frame.with_columns(treatment=pl.Series(["NULL", "mail"] * (ROWS // 2))))


def test_customers_are_one_however_their_id_is_written():
    frame = priced(["1", "2"]).with_columns(customer=pl.Series(["7", " 7 ", "7.0", "NULL"] * (ROWS // 4)))
    found = customers.read(frame).customer
    assert len(set(found[:3].tolist())) == 1
    assert len(set(found.tolist())) == 1 + ROWS // 4
