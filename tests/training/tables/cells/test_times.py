"""Times are read in the one form that fits the whole column, or refused with both readings."""

from datetime import UTC, date, datetime

import pandas as pd
import polars as pl
import pytest

from training.errors import CellError, TableError
from training.tables import cells
from training.tables.cells import CellOptions

MOMENT = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


def times(*values, whole_numbers=False, **options):
    return cells.times(pl.Series("t", list(values)), CellOptions(**options), whole_numbers=whole_numbers)


def days(read):
    return [date.fromordinal(day) if known else None for day, known in zip(read.day.tolist(), read.known.tolist(), strict=True)]


SAME_MOMENT = [
    "2024-05-01T10:00:00Z",
    "2024-05-01 10:00:00 UTC",
    "2024-05-01 10:00:00.000000 UTC",
    "2024-05-01T12:00:00+02:00",
    "2024-05-01T12:00+0200",
    "2024-05-01 12:00:00+02",
    "2024-05-01 10:00:00 +0000 UTC",
    "2024-05-01 10:00",
    "20240501T100000Z",
    "20240501100000",
    "202405011000",
    "01.05.2024 10:00",
    "01.05.24 10:00",
    "1 May 2024 10:00",
    "01-MAY-2024 10:00:00",
    "01-May-24 10:00",
    "May 1, 2024 10:00 AM",
    "Wed, 01 May 2024 10:00:00 +0000",
    "2024/5/1 10:00:00",
    "2024-W18-3 10:00",
    str(SECONDS),
    f"{SECONDS}.0",
    f"{SECONDS}000",
    f"{SECONDS}000000",
    f"{SECONDS}000000000",
]


@pytest.mark.parametrize("text", SAME_MOMENT)
def test_a_moment_is_one_however_it_is_written(text):
    read = times(text)
    assert (days(read), read.seconds.tolist()) == ([MOMENT.date()], [SECONDS])


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
def test_numbers_since_1970_are_of_the_unit_that_their_magnitude_shows(unit, kind):
    read = cells.times(pl.Series([SECONDS * unit, None], dtype=kind))
    assert (read.known.tolist(), read.seconds[0], read.form.endswith("since 1970")) == ([True, False], SECONDS, True)


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_typed_times_are_times_and_their_day_is_that_of_their_zone(zone):
    column = pl.Series([datetime(2024, 5, 1, 2, 0)]).dt.replace_time_zone("UTC")
    read = cells.times(column.dt.convert_time_zone(zone) if zone else column.dt.replace_time_zone(None))
    expected = datetime(2024, 5, 1, 2, 0, tzinfo=UTC).timestamp()
    day = date(2024, 4, 30) if zone == "America/New_York" else date(2024, 5, 1)
    assert (days(read), read.seconds.tolist()) == ([day], [expected])


def test_dates_of_any_library_are_days():
    assert days(cells.times(pd.Series(pd.to_datetime(["2024-05-01", None])))) == [date(2024, 5, 1), None]
    assert days(cells.times(pl.Series([date(2024, 5, 1), None]))) == [date(2024, 5, 1), None]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2025-01-06", "2025-12-29"], [date(2025, 1, 6), date(2025, 12, 29)]),
        (["06-01-2025", "29-12-2025"], [date(2025, 1, 6), date(2025, 12, 29)]),
        (["06.01.2025"], [date(2025, 1, 6)]),
        (["03/04/2025", "25/04/2025"], [date(2025, 4, 3), date(2025, 4, 25)]),
        (["03/04/2025", "04/25/2025"], [date(2025, 3, 4), date(2025, 4, 25)]),
        (["12/1/2010 8:26", "12/31/2010 17:00"], [date(2010, 12, 1), date(2010, 12, 31)]),
        (["2025-W02"], [date(2025, 1, 6)]),
        (["20250106", "20251229"], [date(2025, 1, 6), date(2025, 12, 29)]),
        (["2025-01", "2025-03"], [date(2025, 1, 1), date(2025, 3, 1)]),
        (["202445", "202501"], [date(2024, 11, 4), date(2024, 12, 30)]),
        (["202411", "202501"], [date(2024, 11, 1), date(2025, 1, 1)]),
        (["05/05/2025"], [date(2025, 5, 5)]),
        (["2025-01-06", "NULL", "", None], [date(2025, 1, 6), None, None, None]),
    ],
)
def test_the_form_is_the_one_that_fits_every_cell(texts, expected):
    assert days(times(*texts)) == expected


AMBIGUOUS = {
    "days and months": (["01/02/2024", "01/03/2024"], "1 February 2024 as DD/MM/YYYY and 2 January 2024 as MM/DD/YYYY", "%m/%d/%Y"),
    "days and months with dashes": (["01-02-2024"], "as DD-MM-YYYY and 2 January 2024 as MM-DD-YYYY", "%m-%d-%Y"),
    "with a time of day": (["01/02/2024 10:00"], "as DD/MM/YYYY and 2 January 2024 as MM/DD/YYYY", "%m/%d/%Y"),
    "years of two digits": (["24/05/01", "24/05/31"], "as DD/MM/YY and 1 May 2024 as YY/MM/DD", "%y/%m/%d"),
    "months and weeks": (["202401", "202402"], "1 February 2024 as YYYYMM and 8 January 2024 as YYYYWW", "%Y%m"),
}


@pytest.mark.parametrize(("texts", "said", "option"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_fits_two_forms_is_refused_with_both_readings_and_the_option_that_chooses(texts, said, option):
    with pytest.raises(TableError, match=rf"column t: .*{said}.*--time-format '{option}'"):
        times(*texts, whole_numbers=True)
    assert times(*texts, time_format=option).known.all()


@pytest.mark.parametrize(
    ("texts", "option", "expected"),
    [
        (["01/02/2024"], "%m/%d/%Y", date(2024, 1, 2)),
        (["01/02/2024 9:05 PM"], "%d/%m/%Y", date(2024, 2, 1)),
        (["2024y05m01d 10h"], "%Yy%mm%dd %Hh", date(2024, 5, 1)),
        (["202418"], "%G%V", date(2024, 4, 29)),
        (["1714557600000"], "milliseconds", date(2024, 5, 1)),
        (["100"], "seconds", date(1970, 1, 1)),
    ],
)
def test_a_given_format_is_used(texts, option, expected):
    assert days(times(*texts, time_format=option)) == [expected]


def test_a_cell_that_a_given_format_does_not_fit_is_named():
    with pytest.raises(CellError, match=r"row 2, column t: '2024-01-31' is no time of --time-format %d/%m/%Y"):
        times("31/01/2024", "2024-01-31", time_format="%d/%m/%Y")


WRONG = {
    "another form": ("13/01/2025", r"has another form than other cells of the column \(YYYY-MM-DD\)"),
    "no such day": ("2025-02-30", r"has another form than other cells"),
    "no such hour": ("2025-01-06 25:00", "has another form"),
    "text": ("soon", "has another form"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_cell_of_another_form_is_named_with_its_row(text, said):
    with pytest.raises(CellError, match=said) as raised:
        times("2025-01-06", "2025-01-13", text)
    assert (raised.value.row, raised.value.column, raised.value.value) == (2, "t", text)


def test_a_time_with_a_zone_and_one_without_are_two_forms():
    with pytest.raises(CellError, match="row 2"):
        times("2024-05-01T10:00:00Z", "2024-05-01T10:00:00")


def test_whole_numbers_are_no_times_where_they_are_not_expected():
    with pytest.raises(CellError, match="'41' is no time"):
        times("41", "42")
    read = times("40", "9", "160", whole_numbers=True)
    assert (read.day.tolist(), read.is_date) == ([40, 9, 160], False)
    assert times("20220103", "20220110", whole_numbers=True).is_date


@pytest.mark.parametrize("rows", [10, 30_000])
def test_many_distinct_times_are_read_as_few_are(rows):
    at = [SECONDS + 61 * place for place in range(rows)]
    texts = [
        None if place % 7 == 3 else datetime.fromtimestamp(second, UTC).strftime("%m/%d/%Y %H:%M:%S") for place, second in enumerate(at)
    ]
    read = cells.times(pl.Series(texts), CellOptions(time_format="%m/%d/%Y"))
    assert read.seconds[read.known].tolist() == [second for place, second in enumerate(at) if place % 7 != 3]
    assert read.known.tolist() == [text is not None for text in texts]
