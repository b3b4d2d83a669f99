"""Periods are read in the one form that fits every row."""

from datetime import date

import pytest

from training.errors import TableError
from training.tables import periods


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["2025-01-06", "2025-12-29"], [date(2025, 1, 6), date(2025, 12, 29)]),
        (["06-01-2025", "29-12-2025"], [date(2025, 1, 6), date(2025, 12, 29)]),
        (["06.01.2025"], [date(2025, 1, 6)]),
        (["03/04/2025", "25/04/2025"], [date(2025, 4, 3), date(2025, 4, 25)]),
        (["03/04/2025", "04/25/2025"], [date(2025, 3, 4), date(2025, 4, 25)]),
        (["2025-W02"], [date(2025, 1, 6)]),
        (["2025-01-06T00:00:00"], [date(2025, 1, 6)]),
    ],
)
def test_dates_are_read_in_the_form_that_fits_all(texts, days):
    numbers, form = periods.read(texts)
    assert form.is_date
    assert [date.fromordinal(numbers[text]) for text in texts] == days


def test_week_numbers_are_numbers():
    numbers, form = periods.read(["40", "9", "160"])
    assert (numbers, form.is_date) == ({"40": 40, "9": 9, "160": 160}, False)


def test_two_forms_in_one_column_are_refused_with_the_odd_one_named():
    with pytest.raises(TableError, match=r"'13/01/2025' has another format than those before it \(YYYY-MM-DD\)"):
        periods.read(["2025-01-06", "2025-01-13", "13/01/2025"])
