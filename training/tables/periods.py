"""Parse dates and week numbers of a table in the one format that fits every row."""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import NamedTuple

from training.errors import TableError

_WEEK = re.compile(r"(\d{4})-?W(\d{1,2})(?:-?([1-7]))?")


class PeriodFormat(NamedTuple):
    """A format of periods: its name for messages, and its parser, which raises ValueError for another text."""

    name: str
    number: Callable[[str], int]
    is_date: bool = True


def _week(text: str) -> int:
    found = _WEEK.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return date.fromisocalendar(int(found[1]), int(found[2]), int(found[3] or 1)).toordinal()


def _written(layout: str) -> Callable[[str], int]:
    return lambda text: datetime.strptime(text, layout).toordinal()


FORMS = (
    PeriodFormat("a whole number, such as a week's", int, is_date=False),
    PeriodFormat("YYYY-MM-DD", _written("%Y-%m-%d")),
    PeriodFormat("ISO 8601 with a time", lambda text: datetime.fromisoformat(text).toordinal()),
    PeriodFormat("YYYY-Www", _week),
    PeriodFormat("DD-MM-YYYY", _written("%d-%m-%Y")),
    PeriodFormat("DD.MM.YYYY", _written("%d.%m.%Y")),
    PeriodFormat("DD/MM/YYYY", _written("%d/%m/%Y")),
    PeriodFormat("MM/DD/YYYY", _written("%m/%d/%Y")),
    PeriodFormat("YYYY/MM/DD", _written("%Y/%m/%d")),
    PeriodFormat("YYYYMMDD", _written("%Y%m%d")),
    PeriodFormat("YYYY-MM", _written("%Y-%m")),
)


def read(texts: Sequence[str]) -> tuple[dict[str, int], PeriodFormat]:
    """Return the number of each distinct text, in order of time, and the format of all.

    Raises TableError where no format fits all of them: it names the text that the best format does not fit.
    """
    best, failed = -1, (FORMS[1], "")
    for form in FORMS:
        numbers = dict[str, int]()
        for text in texts:
            try:
                numbers[text] = form.number(text.strip())
            except ValueError:
                break
        if len(numbers) == len(texts):
            return numbers, form
        if len(numbers) > best:
            best, failed = len(numbers), (form, texts[len(numbers)])
    known = ", ".join(form.name for form in FORMS)
    raise TableError(
        f"period {failed[1]!r} has another format than those before it ({failed[0].name}): write all in one format, of {known}"
    )


def day_of_digits(text: str) -> int:
    """Return the ordinal of a day written as YYYYMMDD, which `read` takes for a number. Raises ValueError for another text."""
    try:
        return _written("%Y%m%d")(text.strip())
    except ValueError:
        raise ValueError(f"period {text!r} is not a day: write days in one format, such as YYYY-MM-DD") from None
