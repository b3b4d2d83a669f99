"""Dates and week numbers as people write them in a table: the one form that fits every row."""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import NamedTuple

from training.errors import TableError

_WEEK = re.compile(r"(\d{4})-?W(\d{1,2})(?:-?([1-7]))?")


class Form(NamedTuple):
    """A way to write a period: its name for people, and what makes a whole number of it; ValueError for what is not so written."""

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
    Form("a whole number, such as a week's", int, is_date=False),
    Form("YYYY-MM-DD", _written("%Y-%m-%d")),
    Form("ISO 8601 with a time", lambda text: datetime.fromisoformat(text).toordinal()),
    Form("YYYY-Www", _week),
    Form("DD-MM-YYYY", _written("%d-%m-%Y")),
    Form("DD.MM.YYYY", _written("%d.%m.%Y")),
    Form("DD/MM/YYYY", _written("%d/%m/%Y")),
    Form("MM/DD/YYYY", _written("%m/%d/%Y")),
    Form("YYYY/MM/DD", _written("%Y/%m/%d")),
    Form("YYYYMMDD", _written("%Y%m%d")),
    Form("YYYY-MM", _written("%Y-%m")),
)


def read(texts: Sequence[str]) -> tuple[dict[str, int], Form]:
    """Return the number of each distinct text, in order of time, and the form that all are written in.

    Raises TableError where no form fits all of them: it names the text that the best form does not fit.
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
    raise TableError(f"period {failed[1]!r} is not written as those before it ({failed[0].name}): write all in one form, of {known}")


def day_of_digits(text: str) -> int:
    """Return the ordinal of a day written as YYYYMMDD, which `read` takes for a number. Raises ValueError for what is none."""
    try:
        return _written("%Y%m%d")(text.strip())
    except ValueError:
        raise ValueError(f"period {text!r} is no day: write days in one form, such as YYYY-MM-DD") from None
