"""Times: dates, dates with a time of day, and times since 1970, in the one form that fits a whole column."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from kernels.types import F64, I64, Bool
from training.errors import CellError, TableError
from training.tables.cells import layouts
from training.tables.cells.columns import as_polars
from training.tables.cells.ids import ids
from training.tables.cells.layouts import DAY_S, FORMS, MICROS, DateForm
from training.tables.cells.options import DEFAULT, CellOptions

_EPOCH_DAY = date(1970, 1, 1).toordinal()
MIN_EPOCH_S, MAX_EPOCH_S = 315_532_800, 4_200_000_000  # 1980 to 2103: numbers in this range are times since 1970, others are not
SAMPLE = 10_000  # values; where most of them are distinct, most of all are
WHOLE_NUMBER = "a whole number, such as a week's"

# Units of times since 1970: the name, as --time-format has it too, and how many make a second. Their ranges do not overlap.
EPOCHS: Mapping[str, int] = {"seconds": 1, "milliseconds": 1_000, "microseconds": MICROS, "nanoseconds": 1_000 * MICROS}
NUMBER = "number"  # the --time-format of whole numbers


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """The times of a column, [rows] each.

    form: the name of the form; is_date: False for whole numbers, such as a week's. known: False where a cell is blank, whose numbers are 0.
    day: the ordinal (date.toordinal) of the day as it is written, or the whole number; seconds: since 1970, UTC where the text has a zone.
    """

    form: str
    is_date: bool
    known: Bool
    day: I64
    seconds: F64


class _Reading(NamedTuple):
    """One reading of distinct values. wall, instant: microseconds since 1970, null for one that does not fit; option: its --time-format."""

    name: str
    wall: pl.Series
    instant: pl.Series
    option: str

    @property
    def fits(self) -> bool:
        return self.wall.null_count() == 0


def times(column: Any, options: CellOptions = DEFAULT, *, whole_numbers: bool = False) -> TimeColumn:
    """Return the times of a column of text, numbers, dates or datetimes.

    whole_numbers: whether numbers that are no times are accepted, such as those of weeks. Raises TableError where more than one form fits
    every cell and they differ, CellError for the first cell that is no time in the form that fits most.
    """
    series = as_polars(column)
    if series.dtype == pl.Date or isinstance(series.dtype, pl.Datetime):
        return _typed(series)
    if series.dtype.is_numeric():
        values = series.cast(pl.Float64).fill_nan(None) if series.dtype.is_float() or series.dtype.is_decimal() else series.cast(pl.Int64)
        distinct = _distinct(values)
        return _column(values, distinct, _of_numbers(series.name, distinct, options, whole_numbers), series, options)
    text = series.cast(pl.String).str.strip_chars()
    text = text.set(text.str.to_lowercase().is_in(options.blank_cells), None)
    distinct = _distinct(text)
    return _column(text, distinct, _of_texts(series.name, distinct, options, whole_numbers), series, options)


def _distinct(values: pl.Series) -> pl.Series:
    """Return the distinct values; all of them, blank ones left out, where most are distinct, which is faster."""
    there = values.drop_nulls()
    return there if there.head(SAMPLE).n_unique() > SAMPLE // 2 else there.unique(maintain_order=True)


def _of_rows(values: pl.Series, distinct: pl.Series, found: pl.Series) -> pl.Series:
    """Return what was found for distinct values, for every row of `values`."""
    if len(distinct) < len(values) - values.null_count():
        return values.replace_strict(distinct, found, default=None, return_dtype=pl.Int64)
    if len(distinct) == len(values):
        return found
    out = np.zeros(len(values), np.int64)
    known = values.is_not_null().to_numpy()
    out[known] = found.to_numpy()
    return pl.Series(out).set(values.is_null(), None)


def _typed(series: pl.Series) -> TimeColumn:
    """Return a column of dates or datetimes; the day of one with a zone is that of the zone."""
    wall = series.cast(pl.Datetime("us")) if series.dtype == pl.Date else series.dt.cast_time_unit("us")
    zone = getattr(wall.dtype, "time_zone", None)
    instant = wall.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else wall
    wall = wall.dt.replace_time_zone(None) if zone else wall
    return _arrays("a date" if series.dtype == pl.Date else "a date and time", wall.cast(pl.Int64), instant.cast(pl.Int64))


def _arrays(form: str, wall: pl.Series, instant: pl.Series) -> TimeColumn:
    known = wall.is_not_null().to_numpy()
    assert len(known) == len(instant), "times were lost: this is a bug"
    days = (wall.fill_null(0) // (DAY_S * MICROS)).to_numpy()
    seconds = np.asarray(instant.cast(pl.Float64).fill_null(0.0).to_numpy(), np.float64) / MICROS
    return TimeColumn(form, True, known, np.where(known, days + _EPOCH_DAY, 0).astype(np.int64), seconds)


def _column(values: pl.Series, distinct: pl.Series, reading: _Reading, original: pl.Series, options: CellOptions) -> TimeColumn:
    """Return the reading of distinct values, for every row. Raises CellError for the first that does not fit."""
    if not reading.fits:
        wrong = values.is_in(distinct.filter(reading.wall.is_null()).implode()).fill_null(False)
        row = int(wrong.arg_true()[0])
        written = f"has another form than other cells of the column ({reading.name}): write all in one, such as YYYY-MM-DD"
        unread = "is no time: write all cells in one form, such as YYYY-MM-DD, or name theirs with --time-format, such as %d/%m/%Y"
        given = f"is no time of --time-format {options.time_format}: correct it, or the format"
        fix = given if options.time_format is not None else written if reading.wall.null_count() < len(distinct) else unread
        raise CellError(row, original.name, original[row], fix)
    if reading.name == WHOLE_NUMBER:
        numbers = values.cast(pl.Int64)
        known = numbers.is_not_null().to_numpy()
        found = numbers.fill_null(0).to_numpy().astype(np.int64)
        return TimeColumn(reading.name, False, known, found, found.astype(np.float64))
    wall = _of_rows(values, distinct, reading.wall)
    instant = wall if reading.instant is reading.wall else _of_rows(values, distinct, reading.instant)
    return _arrays(reading.name, wall, instant)


def _chosen(column: str, distinct: pl.Series, readings: Sequence[_Reading]) -> _Reading:
    """Return the one reading that fits all values, or else the one that fits most.

    Raises TableError where several fit all values, and differ for one of them.
    """
    fitting = [one for one in readings if one.fits]
    if not fitting:
        return min(readings, key=lambda one: one.wall.null_count())
    first = fitting[0]
    for other in fitting[1:]:
        differing = (first.wall != other.wall).arg_true()
        if len(differing):
            place = int(differing[0])
            raise TableError(
                f"column {column}: {distinct[place]!r} is {_shown(first, place)} as {first.name} and {_shown(other, place)} as "
                f"{other.name}, and every cell fits both; state which: --time-format {first.option!r} or --time-format {other.option!r}"
            )
    return first


def _shown(reading: _Reading, place: int) -> str:
    if reading.name == WHOLE_NUMBER:
        return f"the number {reading.wall[place]}"
    day = date(1970, 1, 1) + timedelta(days=reading.wall[place] // (DAY_S * MICROS))
    return f"{day.day} {day:%B %Y}"


def _of_texts(column: str, distinct: pl.Series, options: CellOptions, whole_numbers: bool) -> _Reading:
    """Return the reading of distinct texts, stripped of surrounding blanks."""
    form = options.time_format
    if form is not None and form not in (*EPOCHS, NUMBER):
        return _of_format(distinct, form)
    digits = distinct.str.contains(r"^[-+]?\d+(?:\.\d+)?$")
    if len(distinct) and (digits.all() or form is not None):
        whole = distinct.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
        exact = whole if whole.null_count() == 0 else distinct.cast(pl.Float64, strict=False)
        return _of_numbers(column, exact, options, whole_numbers)
    parts = layouts.split(distinct)
    if parts.offset.null_count() not in (0, len(distinct)):  # some have a zone: those without are no instants
        parts = parts._replace(of_day=parts.of_day.set(parts.offset.is_null(), None))
    dates = parts.dates.unique(maintain_order=True)
    readings = [_of_form(form, dates, parts) for form in _candidates(dates)]
    return _chosen(column, distinct, readings)


def _candidates(dates: pl.Series) -> list[DateForm]:
    """Return the forms of which the layout fits all dates, or else those that fit most of them."""
    counts = [int(dates.str.contains(form.layout).sum()) for form in FORMS]
    most = max(counts)
    return [form for form, count in zip(FORMS, counts, strict=True) if count == most]


def _of_form(form: DateForm, dates: pl.Series, parts: layouts.SplitTexts) -> _Reading:
    days = parts.dates.replace_strict(dates, form.parse(dates), default=None, return_dtype=pl.Int64)
    wall = (days - _EPOCH_DAY) * (DAY_S * MICROS) + parts.of_day
    instant = wall if parts.offset.null_count() == len(wall) else wall - parts.offset.fill_null(0)
    return _Reading(form.name, wall, instant, form.option)


def _of_format(distinct: pl.Series, form: str) -> _Reading:
    """Return the reading of distinct texts, or numbers, by a --time-format."""
    texts, parse = ids(distinct), layouts.strptime(form)
    if not layouts.is_whole(form):
        parts = layouts.split(texts)
        dates = parts.dates.unique(maintain_order=True)
        return _of_form(DateForm(form, "", lambda given: layouts.by_text(given, parse), form), dates, parts)
    moments = [parse(text) for text in texts.to_list()]
    wall = pl.Series([None if one is None else layouts.micros_of(one) for one in moments], dtype=pl.Int64)
    east = [0 if one is None else round((one.utcoffset() or timedelta()).total_seconds() * MICROS) for one in moments]
    return _Reading(form, wall, wall - pl.Series(east, dtype=pl.Int64), form)


def _of_numbers(column: str, distinct: pl.Series, options: CellOptions, whole_numbers: bool) -> _Reading:
    """Return the reading of distinct numbers, Int64 or Float64."""
    form = options.time_format
    if form is not None and form not in (*EPOCHS, NUMBER):
        return _of_format(distinct, form)
    readings = {name: read(distinct) for name, read in _NUMBER_FORMS.items()}
    if form is not None:
        return _given(readings[WHOLE_NUMBER if form == NUMBER else form], distinct, form)
    if whole_numbers and len(distinct) and not any(one.fits for one in readings.values() if one.name != WHOLE_NUMBER):
        return readings[WHOLE_NUMBER]
    months = readings["YYYYMM"]
    if months.fits and len(months.wall) and _spans_years(distinct):  # weekly data that end with week 12 each year do not exist
        return months
    return _chosen(column, distinct, [one for one in readings.values() if one.name != WHOLE_NUMBER])


def _given(reading: _Reading, distinct: pl.Series, form: str) -> _Reading:
    """Return the reading that --time-format names; times since 1970 may then be of any year."""
    return reading if form == NUMBER else _since_1970(distinct, form, anything=True)


def _spans_years(distinct: pl.Series) -> bool:
    years = distinct // 100
    return bool(years.min() != years.max())


def _since_1970(distinct: pl.Series, unit: str, *, anything: bool = False) -> _Reading:
    a_second = EPOCHS[unit]
    within = distinct.is_between(MIN_EPOCH_S * a_second, MAX_EPOCH_S * a_second) | anything
    kept = distinct.set(~within.fill_null(False), None)
    if a_second > MICROS:
        micros = kept.cast(pl.Int64) // (a_second // MICROS)
    elif distinct.dtype.is_float():
        micros = (kept * (MICROS // a_second)).round().cast(pl.Int64)
    else:
        micros = kept * (MICROS // a_second)
    return _Reading(f"{unit} since 1970", micros, micros, unit)


def _digits(name: str, layout: str, option: str, parse: Callable[[pl.Series], pl.Series]) -> Callable[[pl.Series], _Reading]:
    """Return the reader of a form of digits; parse: the microseconds since 1970 of texts, null for one that is no such time."""

    def read(distinct: pl.Series) -> _Reading:
        texts = ids(distinct)
        kept = texts.set(~texts.str.contains(layout), None)
        micros = parse(kept) if kept.null_count() < len(kept) else pl.Series([None] * len(kept), dtype=pl.Int64)
        return _Reading(name, micros, micros, option)

    return read


def _days(form: DateForm) -> Callable[[pl.Series], pl.Series]:
    return lambda texts: (form.parse(texts) - _EPOCH_DAY) * (DAY_S * MICROS)


def _clock(option: str) -> Callable[[pl.Series], pl.Series]:
    def parse(texts: pl.Series) -> pl.Series:
        found = texts.str.to_datetime(option, time_unit="us", strict=False)
        return found.set(~found.dt.year().is_between(layouts.MIN_YEAR, layouts.MAX_YEAR), None).cast(pl.Int64)

    return parse


def _week_digits(texts: pl.Series) -> pl.Series:
    def day(text: str) -> date | None:
        return layouts.week_day(int(text[:4]), int(text[4:]))

    return (layouts.by_text(texts, day) - _EPOCH_DAY) * (DAY_S * MICROS)


def _month_digits(texts: pl.Series) -> pl.Series:
    return (layouts.ordinals((texts + "01").str.to_date("%Y%m%d", strict=False)) - _EPOCH_DAY) * (DAY_S * MICROS)


def _whole(distinct: pl.Series) -> _Reading:
    whole = distinct if distinct.dtype.is_integer() else distinct.set(distinct != distinct.floor(), None).cast(pl.Int64)
    return _Reading(WHOLE_NUMBER, whole, whole, NUMBER)


_YYYYMMDD = next(form for form in FORMS if form.name == "YYYYMMDD")
_CENTURY = r"^(?:19|2[01])\d{2}"

# Readers of numbers, by name. Times since 1970 and digits of dates never overlap; months and weeks do: YYYYMM and YYYYWW.
_NUMBER_FORMS: Mapping[str, Callable[[pl.Series], _Reading]] = {
    **{unit: lambda distinct, unit=unit: _since_1970(distinct, unit) for unit in EPOCHS},  # type: ignore[misc]
    "YYYYMMDD": _digits("YYYYMMDD", rf"{_CENTURY}\d{{4}}$", "%Y%m%d", _days(_YYYYMMDD)),
    "YYYYMMDDHHMM": _digits("YYYYMMDDHHMM", rf"{_CENTURY}\d{{8}}$", "%Y%m%d%H%M", _clock("%Y%m%d%H%M")),
    "YYYYMMDDHHMMSS": _digits("YYYYMMDDHHMMSS", rf"{_CENTURY}\d{{10}}$", "%Y%m%d%H%M%S", _clock("%Y%m%d%H%M%S")),
    "YYYYMM": _digits("YYYYMM", rf"{_CENTURY}\d{{2}}$", "%Y%m", _month_digits),
    "YYYYWW": _digits("YYYYWW", rf"{_CENTURY}\d{{2}}$", "%G%V", _week_digits),
    WHOLE_NUMBER: _whole,
}
