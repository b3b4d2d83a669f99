#!/usr/bin/env bash
# Polars: %Y reads a year of two digits as a year of the first century.
#
# Guess     `%Y` is a year of four digits, as for Python's strptime and pandas. A column of dates such as 1/5/24 does not fit "%d/%m/%Y", and
#           is refused, so that the format with `%y` is tried next.
# Behaviour Polars accepts it: 1/5/24 is 0024-05-01, 10-05-01 with "%Y-%m-%d" is 0010-05-01. No error, also with `strict=True`, and the same
#           for datetimes. Of a column in which some years have two digits and some four, the former become 2,000 years older.
# Versions  Polars 2.1.0, pandas 3.1.1 for comparison, Python 3.11. Seen on 2026-12-01.
# Matters   Formats that are tried one after the other, `%Y` first: the first is accepted. Recency, age and seasons are then off by
#           centuries, or every later purchase counts as recent. A check of the years' range has to follow each parse.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check polars==2.1.0 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import platform
from datetime import date, datetime

import pandas as pd
import polars as pl

print("Polars", pl.__version__, "pandas", pd.__version__, "Python", platform.python_version())


def refused(parse):
    """Return whether the text is refused."""
    try:
        print("   ", parse())
    except ValueError:
        return True
    return False


found = {}
for text, form in (("1/5/24", "%d/%m/%Y"), ("10-05-01", "%Y-%m-%d")):
    found[text] = pl.Series([text]).str.to_date(form, strict=True)[0]
    print(f"  {text} with {form}: Polars {found[text].isoformat()}")
    assert refused(lambda: datetime.strptime(text, form)), "Python reads it, too"
    assert refused(lambda: pd.to_datetime(pd.Series([text]), format=form)), "pandas reads it, too"
mixed = pl.Series(["01/05/2024", "02/05/24"]).str.to_date("%d/%m/%Y", strict=True).to_list()
moment = pl.Series(["1/5/24 10:00"]).str.to_datetime("%d/%m/%Y %H:%M", strict=True)[0]
print("  mixed:", [day.isoformat() for day in mixed], "datetime:", moment.isoformat())

assert found == {"1/5/24": date(24, 5, 1), "10-05-01": date(10, 5, 1)}, "Polars reads a year of two digits in another way, or refuses it"
assert mixed == [date(2024, 5, 1), date(24, 5, 2)], "a mixed column is read in another way"
assert moment == datetime(24, 5, 1, 10), "datetimes are read in another way"
PYTHON
