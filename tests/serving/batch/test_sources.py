import csv
import gzip
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batch import sources
from training.errors import TableError

CELL = st.text(st.sampled_from('ab,"\n é'), max_size=12)
RECORDS = st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=40)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("chunks")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 50)


def written(path, records):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["first,", 'second"\n'], *records])
    path.write_bytes(text.getvalue().encode())
    return text.getvalue().encode()


def parsed(payload):
    return list(csv.reader(io.StringIO(payload.decode(), newline="")))


@given(records=RECORDS)
def test_csv_is_cut_between_records_and_every_chunk_has_the_header(scratch, records):
    whole = written(scratch / "cut.csv", records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", 50)
        found = list(sources.read([scratch / "cut.csv"]))
    header, *rows = parsed(whole)
    assert all(parsed(chunk.payload)[0] == header for chunk in found)
    assert [row for chunk in found for row in parsed(chunk.payload)[1:]] == rows


@given(records=RECORDS)
def test_a_chunk_has_the_line_of_its_first_record(scratch, records):
    whole = written(scratch / "line.csv", records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", 50)
        found = list(sources.read([scratch / "line.csv"]))
    header = found[0].payload[: len('"first,","second""\n"\n')]
    assert header == whole[: len(header)]
    for chunk in found:
        body = chunk.payload[len(header) :]
        assert b"".join(whole.splitlines(keepends=True)[chunk.line - 1 :]).startswith(body)
    assert sum(chunk.rows for chunk in found) >= len(records)


def test_the_share_that_is_read_rises_to_one(small, tmp_path):
    for name in ("a.csv", "b.csv"):
        written(tmp_path / name, [["x" * 30, "y" * 30]] * 50)
    shares = [chunk.share for chunk in sources.read(sources.files(tmp_path))]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == pytest.approx(1.0)


def test_gzip_gives_the_same_chunks(small, tmp_path):
    whole = written(tmp_path / "plain.csv", [["1", "2"]] * 100)
    (tmp_path / "zipped.csv.gz").write_bytes(gzip.compress(whole))
    plain = [(c.kind, c.line, c.rows, c.payload) for c in sources.read([tmp_path / "plain.csv"])]
    assert len(plain) > 5
    assert [(c.kind, c.line, c.rows, c.payload) for c in sources.read([tmp_path / "zipped.csv.gz"])] == plain


def test_ndjson_is_cut_at_lines_whatever_their_quotation_marks(small, tmp_path):
    lines = [b'{"a": "\\" %d"}\n' % i for i in range(60)]
    (tmp_path / "r.ndjson").write_bytes(b"".join(lines))
    found = list(sources.read([tmp_path / "r.ndjson"]))
    assert len(found) > 5
    assert [line for chunk in found for line in chunk.payload.splitlines(keepends=True)] == lines
    assert [chunk.line for chunk in found] == [1 + sum(c.rows for c in found[:i]) for i in range(len(found))]


def test_parquet_keeps_rows_types_and_order(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "CHUNK_ROWS", 7)
    frame = pl.DataFrame({"n": range(50), "s": [None, "x"] * 25})
    frame.write_parquet(tmp_path / "f.parquet", row_group_size=20)
    found = list(sources.read([tmp_path / "f.parquet"]))
    assert pl.concat([pl.read_ipc_stream(chunk.payload) for chunk in found]).equals(frame)
    assert [chunk.line for chunk in found] == [1 + sum(c.rows for c in found[:i]) for i in range(len(found))]


def test_parquet_without_rows_still_has_its_columns(tmp_path):
    pl.DataFrame({"n": []}, {"n": pl.Int64}).write_parquet(tmp_path / "f.parquet")
    (chunk,) = sources.read([tmp_path / "f.parquet"])
    assert pl.read_ipc_stream(chunk.payload).schema == {"n": pl.Int64}


@pytest.mark.parametrize("cut", [0.5, 0.99])
@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_a_file_cut_short_is_named(tmp_path, name, cut):
    frame = pl.DataFrame({"n": range(5000), "s": [str(i) for i in range(5000)]})
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_parquet(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(TableError, match=f"{name}.*whole"):
        list(sources.read([path]))


def test_a_quotation_mark_left_open_is_named_with_its_line(monkeypatch, small, tmp_path):
    monkeypatch.setattr(sources, "MAX_RECORD_BYTES", 1000)
    (tmp_path / "q.csv").write_bytes(b'a,b\n1,2\n"3,4\n' + b"5,6\n" * 1000)
    with pytest.raises(TableError, match=r"q\.csv, line 3: .*quotation mark"):
        list(sources.read([tmp_path / "q.csv"]))


def test_an_empty_csv_has_no_header(tmp_path):
    (tmp_path / "e.csv").write_bytes(b"")
    with pytest.raises(TableError, match=r"e\.csv: is empty"):
        list(sources.read([tmp_path / "e.csv"]))


def test_a_folder_is_read_in_order_of_name_without_hidden_files(tmp_path):
    for name in ("b.csv", "a.csv.gz", "_SUCCESS", ".x.crc"):
        (tmp_path / name).touch()
    assert [path.name for path in sources.files(tmp_path)] == ["a.csv.gz", "b.csv"]


@pytest.mark.parametrize(
    ("names", "said"),
    [([], "no file"), (["a.csv", "b.ndjson"], "csv and ndjson"), (["a.xlsx"], r"a\.xlsx: the suffix")],
)
def test_a_folder_without_files_of_one_kind_is_refused(tmp_path, names, said):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(TableError, match=said):
        sources.files(tmp_path)
