"""Cells of a batch job are read as in training, in one notation for the whole input, however it is cut."""

from dataclasses import replace

import polars as pl
import pytest

from serving import settings as configuration
from serving.batch import run as batch
from serving.batch import sources
from serving.batch.task import Task
from training.errors import CellError, TableError
from training.models import MODELS
from training.tables.cells import CellOptions

ROWS = 40


@pytest.fixture(scope="module")
def pricing(tmp_path_factory):
    """A task that prices a catalogue, with a model of the products 101 and 102."""
    folder = tmp_path_factory.mktemp("pricing")
    rows = [(str(product), 8 + (week * 7 % 5), 400 // (8 + (week * 7 % 5)) + product % 2) for product in (101, 102) for week in range(60)]
    pl.DataFrame(rows, ["product", "price", "quantity"], orient="row").write_csv(folder / "sales.csv")
    model = MODELS["pricing"].train(folder / "sales.csv", folder / "model", mapping={}, seed=0, progress=lambda what, share: None)
    return Task("pricing", model.path, {}, configuration.load())


@pytest.fixture(params=[True, False], ids=["whole", "in chunks"])
def cut(request, monkeypatch):
    """Score as one chunk, or in chunks of a few rows."""
    if not request.param:
        monkeypatch.setattr(sources, "CHUNK_BYTES", 60)
        monkeypatch.setattr(sources, "CHUNK_ROWS", 3)


def scored(task, path, content):
    """Return the answers to a table: the content of a file, or a frame for Parquet."""
    content.write_parquet(path) if isinstance(content, pl.DataFrame) else path.write_text(content)
    summary = batch.run(task, path, path.parent / "out.parquet", overwrite=True)
    return pl.read_parquet(path.parent / "out.parquet"), summary


def catalogue(product="101", price="10.00", cost="5"):
    return "product,price,cost\n" + f"{product},{price},{cost}\n" * ROWS


@pytest.mark.parametrize("product", ["101 ", " 101", "101.0"])
def test_a_product_is_the_same_however_its_id_is_written(pricing, tmp_path, cut, product):
    expected, _ = scored(pricing, tmp_path / "in.csv", catalogue())
    got, summary = scored(pricing, tmp_path / "in.csv", catalogue(product))
    assert got.equals(expected)
    assert summary.unknown.number == 0


def test_floats_as_ids_are_whole_numbers(pricing, tmp_path, cut):
    expected, _ = scored(pricing, tmp_path / "in.csv", catalogue())
    frame = pl.DataFrame({"product": [101.0] * ROWS, "price": ["10,00 EUR"] * ROWS, "cost": [5.0] * ROWS})
    assert scored(pricing, tmp_path / "in.parquet", frame)[0].equals(expected)


def test_products_that_the_model_does_not_have_are_counted(pricing, tmp_path, cut):
    _, summary = scored(pricing, tmp_path / "in.csv", catalogue() + "999,10.00,5\n" * 2)
    assert (summary.unknown.number, summary.unknown.first) == (2, "999")


@pytest.mark.parametrize("word", ["NULL", "", "None", "(not set)"])
def test_a_blank_word_is_no_group(pricing, tmp_path, cut, word):
    rows = "\n".join(f"{product},{price},{word}" for product, price in ((101, 10), (102, 40)))
    plain, _ = scored(pricing, tmp_path / "in.csv", "product,price\n101,10\n102,40\n")
    got, _ = scored(pricing, tmp_path / "in.csv", f"product,price,itemGroup\n{rows}\n")
    assert got["recommendedPrice"].to_list() == plain["recommendedPrice"].to_list()


def test_a_word_that_is_not_blank_by_the_options_is_a_group(pricing, tmp_path):
    chosen = replace(pricing, cells=CellOptions(blank=("-",)))
    got, _ = scored(chosen, tmp_path / "in.csv", "product,price,itemGroup\n101,10,NULL\n102,40,NULL\n")
    assert got["recommendedPrice"].n_unique() == 1


def test_a_notation_is_decided_from_the_whole_input(pricing, tmp_path, cut):
    plain = catalogue(price="1010") + "102,1234.5,5\n"
    german = catalogue(price="1.010") + '102,"1.234,5",5\n'  # only the last row shows that the point is none
    assert scored(pricing, tmp_path / "in.csv", german)[0].equals(scored(pricing, tmp_path / "in.csv", plain)[0])


@pytest.fixture
def large(monkeypatch):
    """Take every input of more than 5 rows for a large one, of which only the head is held."""
    monkeypatch.setattr(sources, "CHUNK_BYTES", 60)
    monkeypatch.setattr(sources, "HEAD_ROWS", 5)


def frames_of(task, path, content):
    """Return the prices of a large input, as its chunks are read."""
    path.write_text(content)
    task = task.of_input(sources.Source(path))
    return [price for chunk in sources.read([path]) for price in task.frame(chunk)["price"].to_list()]


def test_a_large_input_is_read_in_the_notation_that_its_head_shows(pricing, tmp_path, large):
    assert frames_of(pricing, tmp_path / "in.csv", catalogue(price='"10,5"') + "101,1.010,5\n")[-1] == 1010
    assert frames_of(pricing, tmp_path / "in.csv", catalogue(price="10.5") + '101,"1,010",5\n')[-1] == 1010
    with pytest.raises(CellError, match=rf"in\.csv, line {ROWS + 2}, column price: '10,5' is no number with a decimal point"):
        frames_of(pricing, tmp_path / "in.csv", catalogue(price="10.5") + '101,"10,5",5\n')


def test_a_large_input_of_whole_numbers_may_have_decimals_later_and_commas_are_asked_for(pricing, tmp_path, large):
    assert frames_of(pricing, tmp_path / "in.csv", catalogue(price="10") + "101,0.5,5\n")[-1] == 0.5
    with pytest.raises(TableError, match=r"in\.csv, from line \d+ on: column price has decimal commas.*--decimal ,"):
        frames_of(pricing, tmp_path / "in.csv", catalogue(price="10") + '101,"10,5",5\n')
    with pytest.raises(TableError, match=r"in\.csv, from line \d+ on: column price: '1\.010' is 1\.01 with a decimal point"):
        frames_of(pricing, tmp_path / "in.csv", catalogue(price="10") + "101,1.010,5\n")
    chosen = replace(pricing, cells=CellOptions(decimal=","))
    assert frames_of(chosen, tmp_path / "in.csv", catalogue(price="10") + '101,"1.010,5",5\n')[-1] == 1010.5


def test_a_large_input_that_is_scored_as_a_whole_is_decided_from_all_of_it(pricing, tmp_path, large):
    rows = "product,price,itemGroup\n" + "101,1.010,\n" * ROWS + '102,"1.234,5",\n'
    assert frames_of(pricing, tmp_path / "in.csv", rows)[::ROWS] == [1010, 1234.5]


def test_a_number_that_fits_two_notations_is_refused_and_the_option_chooses(pricing, tmp_path, cut):
    with pytest.raises(TableError, match=r"in\.csv: column price: '1\.010' is 1\.01 with a decimal point and 1010 with a decimal comma"):
        scored(pricing, tmp_path / "in.csv", catalogue(price="1.010"))
    chosen = replace(pricing, cells=CellOptions(decimal=","))
    expected, _ = scored(pricing, tmp_path / "in.csv", catalogue(price="1010"))
    assert scored(chosen, tmp_path / "in.csv", catalogue(price="1.010"))[0].equals(expected)


def test_text_among_numbers_is_named_with_its_row(pricing, tmp_path, cut):
    with pytest.raises(CellError, match=rf"in\.csv, line {ROWS + 2}, column price: 'free' is not a number"):
        scored(pricing, tmp_path / "in.csv", catalogue() + "101,free,5\n")
    frame = pl.DataFrame({"product": ["101"] * ROWS, "price": ["10.00"] * (ROWS - 1) + ["free"]})
    with pytest.raises(CellError, match=rf"in\.parquet, row {ROWS}, column price: 'free' is not a number"):
        scored(pricing, tmp_path / "in.parquet", frame)


def test_malformed_quotation_is_refused_with_its_line(pricing, tmp_path, cut):
    with pytest.raises(TableError, match=rf"in\.csv, line {ROWS + 2}: .*RFC 4180"):
        scored(pricing, tmp_path / "in.csv", catalogue() + '"10"1,10.00,5\n')


def test_a_text_file_without_a_header_is_scored_as_a_table(pricing, tmp_path, cut):
    expected, _ = scored(pricing, tmp_path / "in.csv", catalogue())
    mapped = replace(pricing, mapping={"product": "column1", "price": "column2", "cost": "column3"})
    got, summary = scored(mapped, tmp_path / "in.txt", "101   10.00 5\n\n" + "101 10.00 5\n" * (ROWS - 1))
    assert got.equals(expected)
    assert summary.rows == ROWS
    with pytest.raises(CellError, match=r"in\.txt, line 3, column column2: 'free'"):
        scored(mapped, tmp_path / "in.txt", "101 10.00 5\n\n101 free 5\n")


def test_requests_have_no_cells(pricing, tmp_path):
    with pytest.raises(TableError, match="--blank, --time-format and --decimal are about cells of tables"):
        scored(replace(pricing, cells=CellOptions(blank=())), tmp_path / "in.ndjson", "{}\n")
