"""The file of a table of customers: what is wrong in it is named with file and line, and too little of it is refused."""

import re

import polars as pl
import pytest

from tests import customers as simulated
from training.errors import CellError, TableError
from training.tables import customers

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
