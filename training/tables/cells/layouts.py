"""The forms in which dates are written, and how a text is split into date, time of day and zone."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import NamedTuple

import polars as pl

MIN_YEAR, MAX_YEAR = 1900, 2200  # of a date: others are readings that nobody meant
MICROS = 1_000_000
DAY_S = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()

_WEEKDAY_NAME = r"^(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+"
_BEGIN = r",?(?:[Tt]|\s+)\d{1,2}:\d{2}"  # of a time of day
_COMPACT = r"[Tt]\d{4}"
# What stands after a date: a time of day, and a zone.
_REST = (
    r"^(?:(?:(?:[Tt]|,?\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"|[Tt](?P<hour2>\d{2})(?P<minute2>\d{2})(?P<second2>\d{2}(?:[.,]\d+)?)?)"
    r"(?:\s*(?P<zone>[Zz]|(?:UTC|GMT)?[-+]\d{2}(?::?\d{2})?(?:\s+(?:UTC|GMT))?|UTC|GMT))?"
    r"|\s*(?P<zone2>[Zz]|UTC|GMT))?$"
)
_ZONE_ALONE = r"\s*(?:[Zz]|UTC|GMT)$"  # after a date without a time of day


class DateForm(NamedTuple):
    """A form of dates. layout: what matches it; parse: the ordinals (date.toordinal) of distinct texts, null for one that is no such date;
    option: how --time-format names it.
    """

    name: str
    layout: str
    parse: Callable[[pl.Series], pl.Series]
    option: str


def _written(name: str, layout: str, option: str) -> DateForm:
    def parse(dates: pl.Series) -> pl.Series:
        found = dates.set(~dates.str.contains(layout), None).str.to_date(option, strict=False)
        return ordinals(found)

    return DateForm(name, layout, parse, option)


def ordinals(dates: pl.Series) -> pl.Series:
    """Return the ordinals of a Series of Date, Int64, null for years out of MIN_YEAR to MAX_YEAR."""
    kept = dates.set(~dates.dt.year().is_between(MIN_YEAR, MAX_YEAR), None)
    return kept.cast(pl.Int32).cast(pl.Int64) + _EPOCH_DAY


def by_text(dates: pl.Series, parse: Callable[[str], date | None]) -> pl.Series:
    """Return the ordinals that `parse` finds for each of a few distinct texts, Int64, null where it finds none."""
    found = [None if text is None else parse(text) for text in dates.to_list()]
    return pl.Series(dates.name, [None if day is None else day.toordinal() for day in found], pl.Int64)


_WEEK = re.compile(r"(\d{4})-?[Ww](\d{1,2})(?:-?([1-7]))?")


def _week(text: str) -> date | None:
    found = _WEEK.fullmatch(text)
    return None if found is None else week_day(int(found[1]), int(found[2]), int(found[3] or 1))


def week_day(year: int, week: int, day: int = 1) -> date | None:
    """Return the day of an ISO week, None where there is no such week."""
    try:
        return date.fromisocalendar(year, week, day)
    except ValueError:
        return None


def _month_first(layout: str, option: str, name: str) -> DateForm:
    """Return a form of months, each of which is its first day."""

    def parse(dates: pl.Series) -> pl.Series:
        kept = dates.set(~dates.str.contains(layout), None)
        return ordinals((kept + " 1").str.to_date(f"{option} %d", strict=False))

    return DateForm(name, layout, parse, option)


_TWO, _YEAR, _SHORT = r"\d{1,2}", r"\d{4}", r"\d{2}"

FORMS: tuple[DateForm, ...] = (
    _written("YYYY-MM-DD", rf"^{_YEAR}-{_TWO}-{_TWO}$", "%Y-%m-%d"),
    _written("YYYY/MM/DD", rf"^{_YEAR}/{_TWO}/{_TWO}$", "%Y/%m/%d"),
    _written("YYYY.MM.DD", rf"^{_YEAR}\.{_TWO}\.{_TWO}$", "%Y.%m.%d"),
    _written("YYYYMMDD", r"^\d{8}$", "%Y%m%d"),
    DateForm("YYYY-Www", r"^\d{4}-?[Ww]", lambda dates: by_text(dates, _week), "%G-W%V"),
    _written("DD-MM-YYYY", rf"^{_TWO}-{_TWO}-{_YEAR}$", "%d-%m-%Y"),
    _written("MM-DD-YYYY", rf"^{_TWO}-{_TWO}-{_YEAR}$", "%m-%d-%Y"),
    _written("DD/MM/YYYY", rf"^{_TWO}/{_TWO}/{_YEAR}$", "%d/%m/%Y"),
    _written("MM/DD/YYYY", rf"^{_TWO}/{_TWO}/{_YEAR}$", "%m/%d/%Y"),
    _written("DD.MM.YYYY", rf"^{_TWO}\.{_TWO}\.{_YEAR}$", "%d.%m.%Y"),
    _written("DD-MM-YY", rf"^{_TWO}-{_TWO}-{_SHORT}$", "%d-%m-%y"),
    _written("MM-DD-YY", rf"^{_TWO}-{_TWO}-{_SHORT}$", "%m-%d-%y"),
    _written("YY-MM-DD", rf"^{_SHORT}-{_TWO}-{_TWO}$", "%y-%m-%d"),
    _written("DD/MM/YY", rf"^{_TWO}/{_TWO}/{_SHORT}$", "%d/%m/%y"),
    _written("MM/DD/YY", rf"^{_TWO}/{_TWO}/{_SHORT}$", "%m/%d/%y"),
    _written("YY/MM/DD", rf"^{_SHORT}/{_TWO}/{_TWO}$", "%y/%m/%d"),
    _written("DD.MM.YY", rf"^{_TWO}\.{_TWO}\.{_SHORT}$", "%d.%m.%y"),
    _written("DD Month YYYY", rf"^{_TWO}\.? \p{{L}}+\.? {_YEAR}$", "%d %B %Y"),
    _written("DD-Month-YYYY", rf"^{_TWO}-\p{{L}}+-{_YEAR}$", "%d-%B-%Y"),
    _written("DD-Month-YY", rf"^{_TWO}-\p{{L}}+-{_SHORT}$", "%d-%B-%y"),
    _written("DDMonthYYYY", rf"^{_TWO}\p{{L}}+{_YEAR}$", "%d%B%Y"),
    _written("Month DD, YYYY", rf"^\p{{L}}+ {_TWO}, {_YEAR}$", "%B %d, %Y"),
    _written("Month DD YYYY", rf"^\p{{L}}+ {_TWO} {_YEAR}$", "%B %d %Y"),
    _month_first(r"^\d{4}-\d{1,2}$", "%Y-%m", "YYYY-MM"),
    _month_first(r"^\d{4}/\d{1,2}$", "%Y/%m", "YYYY/MM"),
    _month_first(r"^\d{1,2}/\d{4}$", "%m/%Y", "MM/YYYY"),
    _month_first(r"^\p{L}+ \d{4}$", "%B %Y", "Month YYYY"),
)


class SplitTexts(NamedTuple):
    """Distinct texts in parts. dates: text; of_day: microseconds since midnight, null where the text has no such time; offset: microseconds
    east of UTC, null without a zone.
    """

    dates: pl.Series
    of_day: pl.Series
    offset: pl.Series


def split(distinct: pl.Series) -> SplitTexts:
    """Return the parts of distinct texts, which are stripped of surrounding blanks."""
    named = distinct.str.replace(_WEEKDAY_NAME, "") if distinct.str.contains(_WEEKDAY_NAME).any() else distinct
    place = named.str.find(_BEGIN)
    for other in (_COMPACT, _ZONE_ALONE):
        place = place if place.null_count() == 0 else place.fill_null(named.str.find(other))
    frame = pl.DataFrame({"text": named, "place": place})
    if frame["place"].null_count() == frame.height:
        nothing, midnight = (pl.Series([value] * len(distinct), dtype=pl.Int64) for value in (None, 0))
        return SplitTexts(named, midnight, nothing)
    # `find` counts bytes, and so do these slices.
    parts = frame.select(
        dates=pl.when(pl.col("place").is_null()).then("text").otherwise(_before("text", "place")), rests=_after("text", "place")
    )
    rests = parts["rests"].unique(maintain_order=True)
    of_day, offset = _rest(rests)
    mapped = (parts["rests"].replace_strict(rests, one, return_dtype=pl.Int64) for one in (of_day, offset))
    return SplitTexts(parts["dates"], *mapped)


def _before(text: str, place: str) -> pl.Expr:
    return pl.col(text).cast(pl.Binary).bin.slice(0, pl.col(place)).cast(pl.String).str.strip_chars_end()


def _after(text: str, place: str) -> pl.Expr:
    return pl.col(text).cast(pl.Binary).bin.slice(pl.col(place)).cast(pl.String).fill_null("")


def _rest(rests: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return what `SplitTexts` has beside the dates, of distinct texts that follow a date."""
    parts = rests.str.extract_groups(_REST).struct.unnest()
    fits = rests.str.contains(_REST)
    hour, minute, second = (parts[name].fill_null(parts[f"{name}2"]) for name in ("hour", "minute", "second"))
    hours = _of_half(hour.cast(pl.Int64, strict=False), parts["half"].str.to_lowercase().str.slice(0, 1))
    minutes = minute.cast(pl.Int64, strict=False)
    seconds = second.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False).fill_null(0.0)
    right = hours.is_between(0, 23) & minutes.is_between(0, 59) & (seconds < 61)
    micros = (hours * 3600 + minutes * 60) * MICROS + (seconds * MICROS).round().cast(pl.Int64)
    of_day = pl.when(fits & hour.is_null()).then(0).when(fits & right).then(micros).otherwise(None)
    return pl.select(of_day.cast(pl.Int64)).to_series(), _offset(parts["zone"].fill_null(parts["zone2"]))


def _of_half(hours: pl.Series, half: pl.Series) -> pl.Series:
    """Return hours of the day; half: "a" or "p" where they are of twelve."""
    twelve = half.is_not_null()
    of_twelve = pl.when(hours.is_between(1, 12)).then(hours % 12 + 12 * (half == "p").cast(pl.Int64)).otherwise(None)
    return pl.select(pl.when(twelve).then(of_twelve).otherwise(hours)).to_series()


def _offset(zone: pl.Series) -> pl.Series:
    parts = zone.str.extract_groups(r"(?P<sign>[-+])(?P<hours>\d{2}):?(?P<minutes>\d{2})?").struct.unnest()
    seconds = parts["hours"].cast(pl.Int64) * 3600 + parts["minutes"].cast(pl.Int64).fill_null(0) * 60
    east = pl.when(parts["sign"] == "-").then(-seconds).otherwise(seconds)
    return pl.select(pl.when(zone.is_null()).then(None).otherwise(east.fill_null(0) * MICROS)).to_series().cast(pl.Int64)


# Directives of a time of day or a zone: a --time-format with one of them is that of the whole text, another one that of the date alone.
_OF_DAY = re.compile(r"%[HIMSpfzZcXT]")
_WEEKS = re.compile(r"%[VWU]")
_WEEKDAY = re.compile(r"%[aAwu]")


def is_whole(form: str) -> bool:
    """Return whether a --time-format describes the time of day too, and not the date alone."""
    return _OF_DAY.search(form) is not None


def strptime(form: str) -> Callable[[str], datetime | None]:
    """Return the parser of a --time-format: `datetime.strptime`, None for another text. A week without a weekday is its Monday."""
    extra, suffix = "", ""
    if _WEEKS.search(form) and not _WEEKDAY.search(form):
        extra, suffix = (" 1", " %u" if "%V" in form else " %w")

    def parse(text: str) -> datetime | None:
        try:
            return datetime.strptime(text + extra, form + suffix)
        except ValueError:
            return None

    return parse


def micros_of(moment: datetime) -> int:
    """Return the microseconds since 1970 of a datetime as it is written, whatever its zone."""
    wall = moment.replace(tzinfo=UTC)
    return ((wall.toordinal() - _EPOCH_DAY) * DAY_S + wall.hour * 3600 + wall.minute * 60 + wall.second) * MICROS + wall.microsecond
