import polars as pl
import pytest

from training.datasets import examples
from training.errors import TableError
from training.models import MODELS

QUICK = ("purchase", "pricing", "value", "churn")


@pytest.mark.slow
@pytest.mark.parametrize("task", QUICK)
def test_the_next_commands_accept_the_examples(asked, tmp_path, task):
    assert asked("train", task, "--example", tmp_path / "t.csv")[0] == 0
    code, out, err = asked("train", task, "--data", tmp_path / "t.csv", "--out", tmp_path / "m")
    assert code == 0, err
    assert "warning" not in out + err
    assert asked("batch", task, "--example", tmp_path / "b.csv")[0] == 0
    code, out, err = asked("batch", task, "--model", tmp_path / "m", "--input", tmp_path / "b.csv", "--output", tmp_path / "o.csv")
    assert code == 0, err
    assert "warning" not in out + err
    assert pl.read_csv(tmp_path / "o.csv").height > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", sorted(set(MODELS) - set(QUICK)))
def test_the_next_command_accepts_the_examples_of_what_takes_long_to_learn(asked, tmp_path, bundle_of, task):
    assert asked("train", task, "--example", tmp_path / "t.csv")[0] == 0
    module = __import__(MODELS[task].module, fromlist=["read", "_read"])
    rows = pl.read_csv(tmp_path / "t.csv")
    if task == "emotion":
        assert len(module.read(tmp_path / "t.csv", {}).texts) == rows.height
    else:
        from training.tables import journeys

        found = module.training_sessions(tmp_path / "t.csv", journeys.read(journeys.join(tmp_path / "t.csv")))
        assert len(found.table.ids) >= module.MIN_SESSIONS
    assert asked("batch", task, "--example", tmp_path / "b.csv")[0] == 0
    code, _, err = asked("batch", task, "--model", bundle_of(task).path, "--input", tmp_path / "b.csv", "--output", tmp_path / "o.csv")
    assert code == 0, err
    assert pl.read_csv(tmp_path / "o.csv").height == examples.SCORED


@pytest.mark.parametrize("task", MODELS)
def test_an_example_to_score_has_no_label_and_no_new_column(task):
    tables = examples.of(MODELS[task].table_module, 0)
    assert set(tables.batch.columns) <= set(tables.train.columns)
    assert tables.batch.height < tables.train.height
    fields = {name: field for field in MODELS[task].table.fields for name in (field.name, field.published) if name}
    assert [name for name in tables.batch.columns if name in fields and fields[name].need("batch") == "ignored"] == []


@pytest.mark.parametrize("task", ["pricing", "value", "emotion"])
def test_the_same_seed_writes_the_same_example_and_nothing_is_overwritten(asked, tmp_path, task):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    for path in (first, second):
        assert asked("train", task, "--example", path, "--seed", 3)[0] == 0
    assert first.read_bytes() == second.read_bytes()
    code, _, err = asked("train", task, "--example", first)
    assert (code, "exists" in err) == (1, True)


def test_an_example_is_a_table(asked, tmp_path):
    code, _, err = asked("train", "value", "--example", tmp_path / "a.xlsx")
    assert code == 2
    assert "use .csv, .csv.gz, .parquet" in err
    with pytest.raises(TableError, match="no example of a table of deliveries"):
        examples.of("training.tables.deliveries", 0)
