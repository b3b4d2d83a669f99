"""Sessions with their events: who is nobody, what is one session, and how times become seconds since its beginning."""

import numpy as np
import polars as pl
import pytest

from training.errors import CellError, TableError
from training.tables import journeys
from training.tables.cells import CellOptions

GAPS = [0, 10, 25, 70, 95]
START_S = 1_732_130_000


@pytest.fixture
def table(tmp_path):
    """Write events, and sessions where there are some, and return the sessions of the folder."""

    def read(events, sessions=None, name="events.csv", **options):
        for file, frame in ((name, events), ("sessions.parquet", sessions)):
            if frame is not None:
                (frame.write_csv if file.endswith("csv") else frame.write_parquet)(tmp_path / file)
        return journeys.read(journeys.join(tmp_path, options=CellOptions(**options)))

    return read


def events(seconds, sessions=None):
    return pl.DataFrame({"sessionId": sessions or ["s"] * len(seconds), "page": [f"p{n}" for n in range(len(seconds))], "seconds": seconds})


@pytest.mark.parametrize("word", ["", "NULL", "(not set)", "None", "nan"])
def test_lines_without_a_session_are_left_out_and_counted(table, word):
    got = table(events([0, 5, 0, 3, 9], ["s1", "s1", word, word, word]))
    assert (got.ids, got.pages, got.left_out) == (["s1"], ["p0", "p1"], {"without a session": 3})
    assert "3 rows without a session were left out" in got.warnings[0]


@pytest.mark.parametrize("first", [None, 1])
def test_ids_of_both_files_are_one_however_they_are_written(tmp_path, first):
    events([0, 5, 0], ["1", " 1 ", "2.0"]).write_csv(tmp_path / "events.csv")
    pl.DataFrame({"sessionId": [1.0, 2.0, None], "purchase": [1, 0, 1]}).write_parquet(tmp_path / "sessions.parquet")
    got = journeys.read(journeys.join(tmp_path, first=first))
    assert (got.ids, got.y.tolist(), np.diff(got.offsets).tolist()) == (["1", "2"], [1.0, 0.0], [1 if first else 2, 1])


def iso(form):
    return [
        pl.select(pl.lit(START_S + gap).cast(pl.Int64) * 1_000_000).to_series().cast(pl.Datetime("us")).dt.strftime(form)[0] for gap in GAPS
    ]


TIMES = {
    "seconds since 1970": [START_S + gap for gap in GAPS],
    "milliseconds since 1970": [(START_S + gap) * 1000 for gap in GAPS],
    "microseconds since 1970": [(START_S + gap) * 1_000_000 for gap in GAPS],
    "seconds since 1970 with decimals": [float(START_S + gap) for gap in GAPS],
    "ISO 8601": iso("%Y-%m-%dT%H:%M:%SZ"),
    "a zone's name": iso("%Y-%m-%d %H:%M:%S UTC"),
    "day first": iso("%d.%m.%Y %H:%M:%S"),
    "seconds since the session began": GAPS,
}


@pytest.mark.parametrize("name", ["events.csv", "events.parquet"])
@pytest.mark.parametrize("seconds", TIMES.values(), ids=TIMES)
def test_times_keep_their_gaps(table, seconds, name):
    assert table(events(seconds), name=name).seconds.tolist() == GAPS


def test_times_count_from_the_beginning_of_their_own_session():
    frame = events([START_S + after for after in (0.0, 7.0, 1000.0, 1001.5)], ["a", "a", "b", "b"])
    assert journeys.read(frame).seconds.tolist() == [0, 7, 0, 1.5]
    typed = frame.with_columns((pl.col("seconds") * 1_000_000).cast(pl.Int64).cast(pl.Datetime("us", "UTC")))
    assert journeys.read(typed).seconds.tolist() == [0, 7, 0, 1.5]


def test_seconds_of_a_session_and_times_since_1970_are_not_mixed():
    with pytest.raises(CellError, match=r"row 2, column seconds: .*another form than other cells of the column \(seconds since 1970\)"):
        journeys.read(events([START_S, 12]))


def test_days_that_are_days_both_ways_are_refused_and_the_option_chooses(table):
    frame = events(["01/02/2024 10:00", "01/02/2024 10:01"])
    with pytest.raises(TableError, match="--time-format '%d/%m/%Y'"):
        table(frame)
    assert table(frame, time_format="%d/%m/%Y").seconds.tolist() == [0, 60]


def test_attributes_are_numbers_in_the_notation_of_their_column(table):
    sessions = pl.DataFrame({"sessionId": ["s"], "purchase": ["1"], "age": ["1.234,5"]})
    assert table(events(GAPS), sessions).attributes.tolist() == [[1234.5]]


def test_a_wrong_cell_is_named_with_its_file_and_row(table, tmp_path):
    frame = events([0, 5, 0], ["a", "b", "c"])
    with pytest.raises(CellError, match=r"events\.csv, line 3, column seconds: 'soon' is not a number"):
        table(frame.with_columns(seconds=pl.Series(["0", "soon", "7"])))
    with pytest.raises(CellError, match=r"sessions\.parquet, row 1, column mood: 'good' is not a number: a column without a field"):
        table(frame, pl.DataFrame({"sessionId": ["b", "a"], "mood": ["good", "1"]}))


def test_a_page_is_one_however_it_is_written():
    frame = pl.DataFrame({"sessionId": ["s"] * 2, "page": [3.0, 4.0], "seconds": [0, 1]})
    assert journeys.read(frame).pages == journeys.read(frame.with_columns(page=pl.Series([" 3", "4 "]))).pages == ["3", "4"]
