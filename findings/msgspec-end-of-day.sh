#!/usr/bin/env bash
# msgspec: the last tick of a day becomes the next day, or the beginning of its own day; other readers cut it.
#
# Guess     A timestamp with seven fractional digits, as .NET writes it, is cut to microseconds, as Python, Polars and pydantic do, or
#           refused. The day a record belongs to is the day in its text.
# Behaviour msgspec rounds to the nearest microsecond and carries. "2024-12-31T23:59:59.9999999Z" becomes 2025-01-01T00:00:00Z. A time of
#           day has no date to carry into: "23:59:59.9999999" becomes 00:00:00, almost 24 hours earlier. The largest .NET date,
#           "9999-12-31T23:59:59.9999999Z", often used for "no end", is refused as an invalid format, because the carry leaves the range of
#           years.
# Versions  msgspec 0.22.0, polars 2.1.0, pydantic 2.14.3, Python 3.11. Seen on 2026-12-01. Rounding came with pull request 201 of msgspec
#           (2022); it is deliberate.
# Matters   Ends of intervals that are written as the last tick of a day, such as a subscription's end, change day, month and year between a
#           server that decodes with msgspec and a training table read with Polars. A daily offer until 23:59:59.9999999 ends before it
#           begins.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check msgspec==0.22.0 polars==2.1.0 pydantic==2.14.3
"$folder/venv/bin/python" - <<'PYTHON'
import platform
from datetime import datetime, time, timezone

import msgspec
import polars as pl
import pydantic

print("msgspec", msgspec.__version__, "polars", pl.__version__, "pydantic", pydantic.VERSION, "Python", platform.python_version())


def read(text, kind):
    """Return what msgspec, Python, Polars and pydantic read, in this order."""
    series = pl.Series([text])
    polars = series.str.to_datetime(time_unit="us", time_zone="UTC") if kind is datetime else series.str.to_time()
    encoded = f'"{text}"'.encode()
    return (
        msgspec.json.decode(encoded, type=kind),
        kind.fromisoformat(text),
        polars[0],
        pydantic.TypeAdapter(kind).validate_json(encoded),
    )


moments = read("2024-12-31T23:59:59.9999999Z", datetime)
times = read("23:59:59.9999999", time)
for name, moment, of_day in zip(("msgspec", "Python", "Polars", "pydantic"), moments, times):
    print(f"  {name}: {moment.isoformat()}   {of_day.isoformat()}")
try:
    last = msgspec.json.decode(b'"9999-12-31T23:59:59.9999999Z"', type=datetime).isoformat()
except msgspec.ValidationError as error:
    last = str(error)
print("  the largest .NET date:", last, "| Python:", datetime.fromisoformat("9999-12-31T23:59:59.9999999Z"))

cut = datetime(2024, 12, 31, 23, 59, 59, 999_999, timezone.utc)
assert moments[0] == datetime(2025, 1, 1, tzinfo=timezone.utc), "msgspec no longer carries into the next year"
assert all(moment == cut for moment in moments[1:]), "another reader no longer cuts"
assert times[0] == time(0), "msgspec no longer turns the end of the day into its beginning"
assert all(of_day == time(23, 59, 59, 999_999) for of_day in times[1:]), "another reader of times no longer cuts"
assert last == "Invalid RFC3339 encoded datetime", "the largest .NET date is now read, or refused in other words"
PYTHON
