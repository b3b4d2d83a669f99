"""A table is read as it is, or refused with the file, the line, the column and the fix."""

import csv
import gzip
import io
import zlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import CellError, TableError
from training.tables import frames
from training.tables.cells import CellOptions

TEXT = b"count,name\n1,a\n2.5,b\n"
NUMBERS = {"count"}


@pytest.fixture
def table(tmp_path):
    """Write bytes to a file and return its path."""

    def write(content, name="t.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def test_csv_gzip_parquet_and_folders_hold_the_same_table(table, tmp_path):
    plain = frames.read(table(TEXT), numbers=NUMBERS)
    assert plain.to_dict(as_series=False) == {"count": [1.0, 2.5], "name": ["a", "b"]}
    plain.write_parquet(tmp_path / "t.parquet")
    assert frames.read(table(gzip.compress(TEXT), "t.csv.gz"), numbers=NUMBERS).equals(plain)
    assert frames.read(tmp_path / "t.parquet").equals(plain)
    table(b"count,name\n1,a\n", "parts/1.csv")
    second = table(b"name,count\nb,2.5\n", "parts/2.csv")
    assert frames.read(second.parent, numbers=NUMBERS).equals(plain)


def test_nothing_is_guessed_so_that_a_chunk_reads_as_the_whole_file():
    chunk = frames.parse(b"a,b\n1,007\n", {"a"})
    assert chunk.schema == {"a": pl.Float64, "b": pl.String}
    assert chunk["b"].to_list() == ["007"]


def test_marks_at_the_start_empty_lines_and_spaces_around_numbers_do_no_harm(table):
    content = b"\xef\xbb\xbfcount,name\r\n 1 ,a\r\n\r\n2,\r\nNA,c\r\n\r\n"
    assert frames.read(table(content), numbers=NUMBERS).to_dict(as_series=False) == {"count": [1.0, 2.0, None], "name": ["a", None, "c"]}


def test_a_header_alone_is_a_table_without_rows(table):
    assert frames.read(table(b"count,name\n"), numbers=NUMBERS).shape == (0, 2)


WRONG = {
    "line 3.*has 3 cells.*2 columns": b"count,name\n1,a\n2,b,c\n",
    "line 4.*has 1 cells.*2 columns": b"count,name\n1,a\n\n2\n",
    "line 4, column count: 'many' is not a number": b'count,name\n1,"a\nb"\nmany,c\n',
    "is empty; its first line must name the columns": b"",
    r"line 1: holds values \(1, 2, ...\) instead of column names": b"1,2\n3,4\n",
    "line 1: the columns are separated by ';'": b"count;name\n1;a\n",
    "line 1: column 'name' is there twice": b"count,name,name\n1,a,b\n",
    "line 1: a column has no name": b"count,,name\n1,a,b\n",
    "line 2: is not UTF-8": b"count,name\n1,\xff\n",
    "line 2.*quotation mark": b'count,name\n1,"a\n2,b\n',
}


@pytest.mark.parametrize(("message", "content"), [pytest.param(m, c, id=m[:25]) for m, c in WRONG.items()])
def test_a_wrong_file_names_itself_the_line_and_what_is_wrong(table, message, content):
    path = table(content)
    with pytest.raises(TableError, match=message) as raised:
        frames.read(path, numbers=NUMBERS)
    assert str(raised.value).startswith(str(path))


def test_a_wrong_cell_of_a_chunk_is_named_by_its_line_in_the_file():
    with pytest.raises(CellError, match=r"big\.csv, line 1002, column count: 'x' is not a number"):
        frames.parse(b"count,name\n1,a\n2,b\nx,c\n", NUMBERS, file="big.csv", line=1000)
    with pytest.raises(TableError, match=r"big\.csv, line 1001: has 1 cells"):
        frames.parse(b"count,name\n1,a\n2\n", NUMBERS, file="big.csv", line=1000)


def test_a_path_that_holds_no_table_says_what_would(table, tmp_path):
    with pytest.raises(TableError, match="no such file"):
        frames.read(tmp_path / "absent.csv")
    with pytest.raises(TableError, match=r"use \.csv"):
        frames.read(table(b"x", "t.xlsx"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="holds no table"):
        frames.read(tmp_path / "empty")


def test_a_broken_parquet_or_gzip_file_is_named(table):
    with pytest.raises(TableError, match=r"t\.parquet: cannot be read as Parquet"):
        frames.read(table(b"PAR1 not really", "t.parquet"))


@pytest.mark.parametrize("rows", [3, 100_000])
def test_a_gzip_file_that_ends_early_is_named_with_its_last_whole_row(table, rows):
    plain = b"count,name\n" + b"".join(b'%d,"a\n%d"\n' % (row, row * 7919 % 10_007) for row in range(rows))
    packed = gzip.compress(plain)
    cut = len(packed) * 2 // 3
    whole = zlib.decompressobj(31).decompress(packed[:cut])
    last = whole.count(b'"\n')
    with pytest.raises(TableError, match=rf"^ends early: .*t\.csv\.gz, after row {last};"):
        frames.read(table(packed[:cut], "t.csv.gz"), numbers=NUMBERS)


def test_a_gzip_file_that_is_damaged_is_named(table):
    packed = bytearray(gzip.compress(TEXT * 1000))
    packed[-6] ^= 255  # of the checksum
    with pytest.raises(TableError, match=r"^is damaged \(.*\): .*t\.csv\.gz, after row"):
        frames.read(table(bytes(packed), "t.csv.gz"), numbers=NUMBERS)


def test_gzip_files_that_follow_each_other_are_one(table):
    content = gzip.compress(TEXT) + gzip.compress(b"3,c\n") + b"\0" * 512
    assert frames.read(table(content, "t.csv.gz"), numbers=NUMBERS)["count"].to_list() == [1.0, 2.5, 3.0]


MALFORMED = {
    "a quotation mark that is not doubled": (b'id,text,stars\n1,"The 17" screen",5\n2,fine,1\n', 2),
    "one that is not doubled, before a comma": (b'id,text,stars\n1,fine,1\n2,"17" laptop, new",3\n', 3),
    "two records that would be one": (b'id,text,stars\n1,"17" laptop",3\n2,tape,4\n3,"15" laptop",5\n', 2),
    "one that is left open": (b'id,text,stars\n1,fine,3\n2,"tape,4\n3,x,5\n', 3),
    "one after blanks": (b'id,text,stars\n1,fine,3\n2, "tape",4\n', 3),
    "a carriage return alone": (b"id,text,stars\n1,fi\rne,3\n2,tape,4\n", 2),
}


@pytest.mark.parametrize(("content", "line"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_quotation_is_refused_with_its_line_whatever_the_parser_makes_of_it(table, content, line):
    with pytest.raises(TableError, match=rf"t\.csv, line {line}: .*RFC 4180"):
        frames.read(table(content))
    with pytest.raises(TableError, match=rf"part\.csv, line {line + 98}: .*RFC 4180"):
        frames.parse(content, file="part.csv", line=100)


def test_an_inch_mark_inside_a_cell_that_is_not_quoted_is_text(table):
    frame = frames.read(table(b'id,desc,qty\n1,5" pipe,3\n2,"6"" rope, blue",4\n\n3,"tape",5\n'), numbers={"qty"})
    assert frame.rows() == [("1", '5" pipe', 3.0), ("2", '6" rope, blue', 4.0), ("3", "tape", 5.0)]


def test_a_quoted_cell_may_hold_everything(table):
    cell = 'a,"b"\r\nc\rd'
    text = io.StringIO()
    csv.writer(text).writerows([("id", "text"), ("1", cell), ("2", "")])
    assert frames.read(table(text.getvalue().encode())).rows() == [("1", cell), ("2", None)]


def test_numbers_as_text_are_numbers_in_every_kind_of_file_and_are_decided_over_all_of_a_folder(table, tmp_path):
    pl.DataFrame({"count": ["1.234,50", "n/a", "7"]}).write_parquet(tmp_path / "t.parquet")
    assert frames.read(tmp_path / "t.parquet", numbers=NUMBERS)["count"].to_list() == [1234.5, None, 7.0]
    table(b'count,name\n"1.234",a\n', "parts/1.csv")
    folder = table(b'count,name\n"1.234,5",a\nmany,b\n', "parts/2.csv").parent
    with pytest.raises(CellError, match=r"2\.csv, line 3, column count: 'many' is not a number"):
        frames.read(folder, numbers=NUMBERS)
    table(b'count,name\n"1.234,5",a\n', "parts/2.csv")
    assert frames.read(folder, numbers=NUMBERS)["count"].to_list() == [1234.0, 1234.5]


def test_a_column_that_fits_two_notations_is_refused_with_its_file(table):
    with pytest.raises(TableError, match=r"t\.csv: column count: '1,234' is 1234 with a decimal point and 1\.234 with a decimal comma"):
        frames.read(table(b'count,name\n"1,234",a\n'), numbers=NUMBERS)
    assert frames.read(table(b'count,name\n"1,234",a\n'), numbers=NUMBERS, options=CellOptions(decimal=","))["count"].to_list() == [1.234]


def test_a_chunk_is_read_in_the_notation_of_its_file():
    frame = frames.parse(b"count,name\n1.234,a\n7,b\n", NUMBERS, decimals={"count": ","})
    assert frame["count"].to_list() == [1234.0, 7.0]


def test_a_folder_of_files_that_do_not_fit_is_refused(table):
    table(TEXT, "mixed/a.csv")
    mixed = table(b"count,title\n1,a\n", "mixed/b.csv").parent
    with pytest.raises(TableError, match=r"b\.csv: column 'name' is not in every file"):
        frames.read(mixed)
    pl.DataFrame({"count": [1.0]}).write_parquet(mixed / "c.parquet")
    with pytest.raises(TableError, match="CSV and Parquet"):
        frames.read(mixed)


def test_the_place_of_a_row_is_found_across_the_files_of_a_folder(table, tmp_path):
    table(b'count,name\n1,"a\nb"\n\n2,c\n', "parts/1.csv")
    folder = table(TEXT, "parts/2.csv").parent
    assert [frames.place(folder, row).removeprefix(f"{folder}/") for row in range(4)] == [
        "1.csv, line 2",
        "1.csv, line 5",
        "2.csv, line 2",
        "2.csv, line 3",
    ]
    pl.DataFrame({"count": [1.0, 2.0]}).write_parquet(tmp_path / "t.parquet")
    assert frames.place(tmp_path / "t.parquet", 1).endswith("t.parquet, row 2")


def test_a_device_that_is_not_there_is_refused(table):
    with pytest.raises(TableError, match="'tpu' is not known; use cpu or cuda"):
        frames.read(table(TEXT), device="tpu")


@pytest.mark.gpu
def test_cudf_holds_what_polars_holds(table):
    cudf = pytest.importorskip("cudf", reason="no cuDF here")
    frame = frames.read(table(TEXT), device="cuda", numbers=NUMBERS)
    assert isinstance(frame, cudf.DataFrame)
    assert pl.DataFrame(frame.to_arrow()).to_dict(as_series=False) == {"count": [1.0, 2.5], "name": ["a", "b"]}


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1, max_size=6)
rows = st.lists(st.tuples(cells, st.floats(allow_infinity=False, allow_nan=False), cells), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(rows)
def test_whatever_a_csv_writer_writes_is_read_back(records):
    text = io.StringIO()
    csv.writer(text).writerows([("name", "count", "last"), *records])
    content = text.getvalue().encode()
    frame = frames.parse(content, NUMBERS)
    assert frame["name"].to_list() == [name for name, _, _ in records]
    assert frame["last"].to_list() == [last for _, _, last in records]
    assert np.array_equal(frame["count"].to_numpy(), [count for _, count, _ in records])
    lines = content.decode().split("\n")
    for row, (name, _, _) in enumerate(records):
        assert lines[frames.line(content, row) - 1].replace('""', '"').lstrip('"').startswith(name.split("\n")[0].lstrip('"'))


def test_lines_are_counted_right_in_a_chunk_whose_header_takes_two():
    text = b'"count",na\n'.replace(b"na", b'"a\nb"') + b"1,x\nmany,y\n"
    assert frames.line(text, 1, 1000) == 1001
    with pytest.raises(CellError, match=r"big\.csv, line 1001, column count"):
        frames.parse(text, NUMBERS, file="big.csv", line=1000)
