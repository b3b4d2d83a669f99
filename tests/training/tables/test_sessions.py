"""A table's columns become features by their names, whatever library holds them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from training import features
from training.errors import CellError, TableError
from training.features import INDEX, Vocabulary
from training.tables import sessions

VOCABULARY = Vocabulary({"region": {"1": 0.0, "3": 1.0}, "visitorType": {"new": 0.0, "returning": 1.0}, "deviceType": {"mobile": 0.0}})
PUBLISHED = {
    "ProductRelated": [1.0, 5.0, None],
    "ExitRates": [0.2, None, 0.0],
    "Month": ["Nov", "June", "2"],
    "Region": ["3", "1", "9"],
    "VisitorType": ["Returning_Visitor", "New_Visitor", None],
    "Weekend": ["FALSE", "TRUE", ""],
    "Revenue": ["TRUE", "false", "0"],
}


def column(frame, name, mapping=None):
    return sessions.matrix(frame, VOCABULARY, mapping)[:, INDEX[name]]


def same(found, expected):
    return np.array_equal(found, np.array(expected, np.float32), equal_nan=True)


def test_the_published_cells_are_read_as_what_they_mean():
    frame = pl.DataFrame(PUBLISHED)
    assert same(column(frame, "productCount"), [1, 5, np.nan])
    assert same(column(frame, "month"), [11, 6, 2])
    assert same(column(frame, "region"), [1, 0, np.nan])  # 9 was not in training
    assert same(column(frame, "visitorType"), [1, 0, np.nan])
    assert same(column(frame, "weekend"), [0, 1, np.nan])
    assert sessions.labels(frame).tolist() == [1, 0, 0]


def test_published_names_feature_names_and_mapped_names_give_one_matrix():
    frame = pl.DataFrame(PUBLISHED)
    by_name = frame.rename({column: field for column, field in sessions.online_shoppers.COLUMNS.items() if column in frame.columns})
    odd = frame.rename({"ProductRelated": "views", "Month": "when"})
    expected = sessions.matrix(frame, VOCABULARY)
    assert np.array_equal(sessions.matrix(by_name, VOCABULARY), expected, equal_nan=True)
    assert np.array_equal(sessions.matrix(odd, VOCABULARY, {"productCount": "views", "month": "when"}), expected, equal_nan=True)


def test_pandas_and_polars_give_one_matrix():
    """The same lines read cuDF, which narwhals treats as it does pandas."""
    numbers = {
        "month": [1, 2],
        "weekend": [True, False],
        "region": [3.0, float("nan")],
        "visitorType": ["new", None],
        "pageViews": [1.5, 2.0],
    }
    assert np.array_equal(
        sessions.matrix(pd.DataFrame(numbers), VOCABULARY),
        sessions.matrix(pl.DataFrame(numbers, nan_to_null=True), VOCABULARY),
        equal_nan=True,
    )


@pytest.mark.parametrize("values", [[3, 1], [3.0, 1.0], ["3", "1"], ["3.0", " 1 "]], ids=str)
def test_a_whole_number_is_one_category_however_it_is_written(values):
    assert column(pl.DataFrame({"region": values}), "region").tolist() == [1, 0]


def test_a_device_called_unknown_is_missing():
    assert np.isnan(column(pl.DataFrame({"deviceType": ["unknown"]}), "deviceType")).all()
    assert sessions.keys(pl.DataFrame({"deviceType": ["unknown", "Mobile", "mobile "]})) == {"deviceType": ["mobile"]}


def test_a_feature_without_a_column_is_missing_and_a_day_says_whether_it_is_weekend():
    X = sessions.matrix(pl.DataFrame({"dayOfWeek": [0, 3, 6, None]}), VOCABULARY)
    assert same(X[:, INDEX["weekend"]], [1, 0, 1, np.nan])
    others = [i for name, i in INDEX.items() if name not in ("dayOfWeek", "weekend")]
    assert np.isnan(X[:, others]).all()


def test_columns_that_are_nothing_are_named_and_a_table_of_them_is_refused():
    resolved = sessions.resolve(["ProductRelated", "colour", "Revenue"])
    assert resolved.ignored == ("colour", "Revenue")
    assert set(resolved.absent) == set(features.NAMES) - {"productCount"}
    with pytest.raises(TableError, match=r"no column is a feature; the table has colour, size.*--map"):
        sessions.resolve(["colour", "size"])


def test_a_mapping_of_what_does_not_exist_is_refused_with_a_suggestion():
    with pytest.raises(TableError, match=r"no column 'Prodct' \(did you mean Product\?\)"):
        sessions.resolve(["Product"], {"productCount": "Prodct"})
    with pytest.raises(TableError, match=r"no field 'productcount' \(did you mean productCount\?\)"):
        sessions.resolve(["Product"], {"productcount": "Product"})


def test_a_mapped_column_is_only_what_it_is_mapped_to():
    of = sessions.resolve(["Region", "Browser"], {"deviceType": "Browser"}).of
    assert of == {"deviceType": "Browser", "region": "Region"}


BAD = {
    "Month": (["Nov", "Brumaire"], "row 2, column Month: 'Brumaire' is not a month"),
    "Weekend": (["perhaps"], "row 1, column Weekend: 'perhaps' is not TRUE or FALSE"),
    "ProductRelated": ([1.0, -1.0], r"row 2, column ProductRelated: -1.0 is not in the range 0 to 1e\+09"),
    "BounceRates": (["0.1", "much"], "row 2, column BounceRates: 'much' is not a number"),
    "ExitRates": ([1.5], "row 1, column ExitRates: 1.5 is not in the range 0 to 1"),
    "PageValues": ([float("inf")], "row 1, column PageValues: inf is not in the range"),
    "month": ([13], "row 1, column month: 13 is not in the range 1 to 12"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_cell_that_is_no_value_of_its_column_is_named(name):
    values, message = BAD[name]
    with pytest.raises(CellError, match=message):
        sessions.matrix(pl.DataFrame({name: values}), VOCABULARY)


def test_a_label_must_be_there_and_be_yes_or_no():
    with pytest.raises(TableError, match="no column is the label: name it purchased or Revenue"):
        sessions.labels(pl.DataFrame({"month": [1]}))
    with pytest.raises(CellError, match="row 2, column Revenue: None is not a label"):
        sessions.labels(pl.DataFrame({"month": [1, 1], "Revenue": ["TRUE", None]}))
    with pytest.raises(CellError, match=r"row 1, column purchased: 0\.5 is not a label"):
        sessions.labels(pl.DataFrame({"month": [1], "purchased": [0.5]}))
    assert sessions.labels(pl.DataFrame({"month": [1, 2], "purchased": [True, False]})).tolist() == [1, 0]


def test_the_order_value_is_the_mean_of_those_that_bought_in_one_currency():
    frame = pl.DataFrame({"month": [1, 1, 1], "orderValue": [10.0, 30.0, 99.0], "currency": ["EUR", "EUR", None]})
    bought = np.array([1.0, 1.0, 0.0])
    assert sessions.order_value(frame, bought) == (20.0, "EUR")
    assert sessions.order_value(frame.drop("currency"), bought) == (20.0, "XXX")
    assert sessions.order_value(frame.drop("orderValue"), bought) is None
    with pytest.raises(TableError, match="CHF, EUR; order values need one currency"):
        sessions.order_value(frame.with_columns(currency=pl.Series(["EUR", "CHF", "EUR"])), bought)


def test_only_columns_of_numbers_are_read_as_numbers():
    numbers = sessions.TABLE.number_columns({"pageValue": "worth", "region": "pageViews"})
    assert {"ProductRelated", "productCount", "worth", "orderValue"} <= numbers
    assert not {"Month", "month", "Weekend", "Region", "Revenue", "purchased", "pageViews"} & numbers


def test_a_column_that_resembles_a_feature_and_is_none_is_warned_of():
    frame = pl.DataFrame({"pageViews": [1.0, 2.0], "cartAdds": [0, 1], "purchased": [True, False], "colour": ["a", "b"]})
    (warning,) = sessions.warnings(frame)
    assert "cartAdds (did you mean cartAddCount?)" in warning
    assert "colour" not in warning
    assert sessions.warnings(frame.rename({"cartAdds": "cartAddCount"})) == []
