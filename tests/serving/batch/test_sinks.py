import gzip
import resource

import polars as pl
import pytest

from serving.batch import sinks
from serving.errors import OutputError

PARTS = (pl.DataFrame({"a": [0.1, 1e-17], "b": ["x", None]}), pl.DataFrame({"a": [2 / 3], "b": ["y,"]}))
WHOLE = pl.concat(PARTS)
READERS = {
    "out.csv": pl.read_csv,
    "out.csv.gz": pl.read_csv,
    "out.parquet": pl.read_parquet,
    "out.ndjson": pl.read_ndjson,
    "out": lambda path: pl.read_parquet(path / "*.parquet"),
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def put(path, frames=PARTS):
    with sinks.opened(path) as write:
        for frame in frames:
            write(frame)


@pytest.mark.parametrize("name", READERS)
def test_every_format_gives_back_the_rows_in_order_bit_for_bit(tmp_path, name):
    put(tmp_path / name)
    assert READERS[name](tmp_path / name).equals(WHOLE)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", READERS)
def test_an_error_halfway_leaves_nothing(tmp_path, name):
    def broken():
        yield PARTS[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        put(tmp_path / name, broken())
    assert names(tmp_path) == []


def test_an_output_that_is_there_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with sinks.opened(path, overwrite=True) as write:
        write(PARTS[0])
        assert path.read_text() == "old"
    assert path.read_text().splitlines()[0] == "a,b"


def test_csv_without_rows_has_a_header(tmp_path):
    put(tmp_path / "out.csv", [WHOLE.head(0)])
    assert (tmp_path / "out.csv").read_text() == "a,b\n"


def test_equal_answers_are_equal_files(tmp_path):
    for name in ("1.csv.gz", "2.csv.gz"):
        put(tmp_path / name)
    assert (tmp_path / "1.csv.gz").read_bytes() == (tmp_path / "2.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "1.csv.gz").read_bytes()).startswith(b"a,b\n0.1,")


def test_a_folder_has_parts_of_bounded_size_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "PART_ROWS", 2)
    put(tmp_path / "out", [*PARTS, *PARTS])
    parts = sorted((tmp_path / "out").iterdir())
    assert [part.name for part in parts] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert [pl.read_parquet(part).height for part in parts] == [2, 3, 1]  # a part ends with the frame that fills it
    assert READERS["out"](tmp_path / "out").equals(pl.concat([WHOLE, WHOLE]))


@pytest.mark.parametrize("name", READERS)
def test_an_output_that_exists_is_refused_before_anything_is_written(tmp_path, name):
    put(tmp_path / name)
    with pytest.raises(OutputError, match=f"{name} exists.*--overwrite"):
        put(tmp_path / name, [WHOLE, WHOLE])
    assert READERS[name](tmp_path / name).equals(WHOLE)
    assert names(tmp_path) == [name]


def test_a_folder_of_parts_is_replaced_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    put(tmp_path / "out", [*PARTS, *PARTS])
    with sinks.opened(tmp_path / "out", overwrite=True) as write:
        write(WHOLE)
    assert names(tmp_path) == ["out"]
    assert READERS["out"](tmp_path / "out").equals(WHOLE)


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    put(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"other files \(notes\.txt\)"):
        sinks.accepted(tmp_path / "out", overwrite=True)


def test_a_cell_that_the_format_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"out\.csv cannot be written: .*write \.parquet"):
        put(tmp_path / "out.csv", [pl.DataFrame({"list": [[1, 2]]})])
    assert names(tmp_path) == []


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    put(tmp_path / "out")
    with pytest.raises(OutputError, match="not empty"):
        sinks.accepted(tmp_path / "out")


def test_a_suffix_that_is_not_known_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(OutputError, match=r"\.xlsx is not known; use \.csv, "):
        sinks.accepted(tmp_path / "out.xlsx")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OutputError, match=r"out\.csv cannot be written: .*too large"):
            put(tmp_path / "out.csv", [WHOLE] * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []
