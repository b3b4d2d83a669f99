import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import records

CELL = st.text(st.sampled_from('ab,"\n é'), max_size=8)
TABLE = st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=20)
LOOSE = st.lists(
    st.sampled_from(['5" pipe,3', "tape,4", '6",5', '"a, ""b""",1', "", '"two\nlines",2', 'x,"y"', '"",""', 'a ""b"",1']), max_size=12
)


def written(rows, quoting=csv.QUOTE_MINIMAL):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(rows)
    return text.getvalue().encode()


def parsed(text):
    return [row for row in csv.reader(io.StringIO(text.decode(), newline="")) if row]


@given(rows=TABLE, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_records_are_counted_as_a_csv_reader_counts_them(rows, quoting):
    text = written(rows, quoting)
    assert records.count(text) == len(parsed(text))


@given(lines=LOOSE)
def test_quotation_marks_inside_cells_that_are_not_quoted_are_text(lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    assert records.count(text) == len(parsed(text))


@given(lines=LOOSE)
def test_text_is_cut_where_a_csv_reader_ends_a_record(lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    assert records.last_end(text) == len(text)
    first = text[: records.first_end(text)]
    assert parsed(first) + parsed(text[len(first) :]) == parsed(text)


@given(lines=LOOSE, cut=st.integers(0, 200))
def test_a_cut_text_ends_with_its_last_whole_record(lines, cut):
    text = "".join(f"{line}\n" for line in lines).encode()
    end = records.last_end(text[:cut])
    assert end <= cut
    assert parsed(text[:end]) + parsed(text[end:]) == parsed(text)


@pytest.mark.parametrize(("text", "number"), [(b"", 0), (b"\n\r\n", 0), (b"a", 1), (b"a,b\n\nc,d", 2), (b'"a\n\nb",1\r\n', 1)])
def test_empty_lines_are_no_records_and_the_last_needs_no_line_break(text, number):
    assert records.count(text) == number
