import gzip
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import settings as configuration
from serving.batch import ray_job, sources
from serving.batch import run as batch
from serving.batch.task import Task
from serving.engines import ENGINES, demo
from serving.errors import OutputError
from serving.runtime import ray_cluster
from serving.scoring.question import score
from training.datasets import online_shoppers
from training.errors import BundleError, TableError
from training.models import MODELS
from training.registry import bundle as bundles

PURCHASE = ENGINES[0]
ANSWERS = ["purchaseProbability", "confidenceScore", "basis", "modelVersion"]
ROOT = Path(__file__).resolve().parents[3]
ROWS = 400


@pytest.fixture(scope="session")
def task(bundle):
    return Task("purchase", bundle.path, {}, configuration.load())


@pytest.fixture(scope="session")
def sessions(shop_folder):
    return pl.read_parquet(shop_folder / "sessions.parquet").head(ROWS)


@pytest.fixture(scope="session")
def bodies(shop_folder):
    return (shop_folder / "requests.ndjson").read_bytes().splitlines()[:ROWS]


@pytest.fixture(scope="session")
def whole(task, sessions, tmp_path_factory):
    """The answers to `sessions`, in one chunk."""
    folder = tmp_path_factory.mktemp("whole")
    sessions.write_parquet(folder / "in.parquet")
    batch.run(task, folder / "in.parquet", folder / "out.parquet")
    return pl.read_parquet(folder / "out.parquet")


def asked(task, bodies):
    """What the API answers to the bodies, each scored alone."""
    scorer = demo.load(PURCHASE, bundles.load(task.model), task.settings)
    decode = msgspec.json.Decoder(PURCHASE.request).decode
    return [json.loads(score(scorer, [decode(body)]).bodies[0]) for body in bodies]


def column(answers, name):
    return [answer[name] for answer in answers]


def run(task, tmp_path, content, name, output="out.parquet", **options):
    source = tmp_path / name
    source.write_bytes(content)
    return batch.run(task, source, tmp_path / output, **options)


def test_requests_get_the_very_numbers_that_the_api_answers(task, bodies, tmp_path):
    run(task, tmp_path, b"\n".join(bodies), "in.ndjson")
    answers, got = asked(task, bodies[:50]), pl.read_parquet(tmp_path / "out.parquet")
    assert got.height == ROWS
    for name in ("sessionId", "customerId", *ANSWERS):
        assert got[name].to_list()[:50] == column(answers, name)


@pytest.mark.slow
def test_a_published_row_gets_the_same_number_as_a_row_and_as_a_request(task, data_dir, tmp_path):
    lines = (data_dir / "online_shoppers" / "online_shoppers_intention.csv").read_bytes().splitlines(keepends=True)[:801]
    (tmp_path / "in.csv").write_bytes(b"".join(lines))
    model = MODELS["purchase"].train(tmp_path / "in.csv", tmp_path / "model", mapping={}, seed=0, progress=lambda what, share: None)
    task = replace(task, model=model.path)
    summary = batch.run(task, tmp_path / "in.csv", tmp_path / "out.parquet")
    got = pl.read_parquet(tmp_path / "out.parquet")
    assert summary.ignored == ("Revenue",)
    own = [name for name in ANSWERS if name != "basis"]  # which only a demonstration model adds
    assert got.columns == own
    requests = [
        json.dumps(online_shoppers.request_of(row)).encode() for row in pl.read_csv(tmp_path / "in.csv", infer_schema=False).to_dicts()
    ]
    answers = asked(task, requests[:200])
    assert [got[name].to_list()[:200] for name in own] == [column(answers, name) for name in own]


def test_a_table_and_its_requests_get_the_same_numbers(task, whole, bodies, tmp_path):
    run(task, tmp_path, b"\n".join(bodies), "in.ndjson")
    assert pl.read_parquet(tmp_path / "out.parquet").equals(whole)


def test_text_carries_every_bit(task, sessions, whole, tmp_path):
    run(task, tmp_path, sessions.write_csv().encode(), "in.csv", "out.csv")
    assert pl.read_csv(tmp_path / "out.csv").equals(whole)
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == ",".join(["sessionId", "customerId", *ANSWERS])


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), chunk=st.integers(5_000, 100_000))
def test_an_answer_depends_on_its_row_alone_whatever_the_order_and_the_chunks(task, sessions, whole, tmp_path_factory, seed, chunk):
    folder = tmp_path_factory.mktemp("order")
    order = np.random.default_rng(seed).permutation(ROWS)
    sessions[order].write_csv(folder / "in.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", chunk)
        batch.run(task, folder / "in.csv", folder / "out.parquet")
    assert pl.read_parquet(folder / "out.parquet").equals(whole[order])


def test_gzip_and_a_folder_of_parts_are_the_same_input(task, sessions, whole, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv.gz").write_bytes(gzip.compress(sessions[:150].write_csv().encode()))
    sessions[150:].write_csv(tmp_path / "in" / "b.csv")
    summary = batch.run(task, tmp_path / "in", tmp_path / "out")
    assert (summary.rows, summary.files) == (ROWS, 2)
    assert pl.read_parquet(tmp_path / "out" / "*.parquet").equals(whole)


def test_a_mapped_table_gets_the_same_numbers(task, sessions, whole, tmp_path):
    renamed = sessions.rename({"administrativeCount": "Admin", "month": "When"}).with_columns(pl.lit(3.0).alias("administrativeCount"))
    mapped = replace(task, mapping={"administrativeCount": "Admin", "month": "When"})
    summary = run(mapped, tmp_path, renamed.write_csv().encode(), "in.csv")
    assert pl.read_parquet(tmp_path / "out.parquet").equals(whole)
    assert "administrativeCount" in summary.ignored


def test_a_label_and_an_unknown_column_are_ignored_and_named_once(task, sessions, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 5000)
    summary = run(task, tmp_path, sessions.with_columns(mood=pl.lit("good")).write_csv().encode(), "in.csv")
    assert summary.ignored == ("startedAt", "asOf", "purchased", "orderValue", "currency", "mood")
    assert pl.read_parquet(tmp_path / "out.parquet").equals(whole)


@pytest.mark.parametrize(("name", "content"), [("in.csv", b"month,mood\n"), ("in.ndjson", b""), ("in.ndjson", b"\n\n")])
def test_an_input_without_rows_gives_a_header(task, tmp_path, name, content):
    assert run(task, tmp_path, content, name, "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text().split(",")[-4:] == [*ANSWERS[:3], "modelVersion\n"]


def wrong_cell(sessions, row, name, value):
    return sessions.cast({name: pl.String}).with_row_index("i").with_columns(
        pl.when(pl.col("i") == row).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
    ).drop("i").write_csv().encode()  # fmt: skip


@pytest.mark.parametrize("chunk", [2000, sources.CHUNK_BYTES])
@pytest.mark.parametrize(("name", "value"), [("timeOnSite", "long"), ("bounceRate", "1.5"), ("month", "Brumaire")])
def test_a_wrong_cell_names_file_line_and_column_and_leaves_the_old_output(task, sessions, tmp_path, monkeypatch, name, value, chunk):
    monkeypatch.setattr(sources, "CHUNK_BYTES", chunk)
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(TableError, match=rf"in\.csv, line 302, column {name}: .*{value}"):
        run(task, tmp_path, wrong_cell(sessions, 300, name, value), "in.csv", "out.csv", overwrite=True)
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_a_wrong_cell_of_a_mapped_column_is_named_as_the_file_calls_it(task, tmp_path):
    mapped = replace(task, mapping={"bounceRate": "B"})
    with pytest.raises(TableError, match=r"in\.csv, line 3, column B: "):
        run(mapped, tmp_path, b"B\n0.5\n7\n", "in.csv")


def test_a_wrong_row_of_parquet_is_named(task, tmp_path):
    pl.DataFrame({"bounceRate": [0.1, 0.2, 3.0]}).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(TableError, match=r"in\.parquet, row 3, column bounceRate: 3\.0"):
        batch.run(task, tmp_path / "in.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRONG_REQUESTS = {
    "page views that are text": (("behaviorData", "pageViews"), "six", "behaviorData.pageViews: Expected a number"),
    "an event without type": (("behaviorData", "interactions"), [{}], r"behaviorData.interactions\[0\]: Required field type is missing"),
    "a moment long ago": (("asOf",), "1066-10-14T09:00:00Z", "asOf: .*2000"),
    "too many events": (
        ("behaviorData", "interactions"),
        [{"type": "click", "timestamp": 1.7e12}] * 10_001,
        "10,001 events",
    ),
}


@pytest.mark.parametrize("case", WRONG_REQUESTS)
def test_a_wrong_request_names_file_line_and_field(task, bodies, tmp_path, case):
    path, value, said = WRONG_REQUESTS[case]
    body = json.loads(bodies[0])
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    lines = [*bodies[:7], b"", json.dumps(body).encode(), bodies[8]]
    with pytest.raises(TableError, match=rf"in\.ndjson, line 9.*{said}"):
        run(task, tmp_path, b"\n".join(lines), "in.ndjson")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"sessionId": "\xff"}', b"[" * 100_000, b'{"sessionId": NaN}'])
def test_a_line_that_is_no_request_is_named(task, bodies, tmp_path, line):
    with pytest.raises(TableError, match=r"in\.ndjson, line 2, "):
        run(task, tmp_path, bodies[0] + b"\n" + line, "in.ndjson")


def test_a_table_without_any_feature_is_refused_by_name(task, tmp_path):
    with pytest.raises(TableError, match=r"in\.csv: no column is a feature; the table has colour"):
        run(task, tmp_path, b"colour\nred\n", "in.csv")


def test_files_of_other_columns_are_refused(task, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(b"month\n1\n")
    (tmp_path / "in" / "b.csv").write_bytes(b"month,region\n1,2\n")
    with pytest.raises(TableError, match=r"b\.csv: column 'region'"):
        batch.run(task, tmp_path / "in", tmp_path / "out.csv")


def test_names_cannot_be_mapped_in_requests(task, bodies, tmp_path):
    with pytest.raises(TableError, match="requests have none"):
        run(replace(task, mapping={"month": "M"}), tmp_path, bodies[0], "in.ndjson")


def test_the_input_is_not_overwritten(task, tmp_path):
    with pytest.raises(OutputError, match="is the input"):
        run(task, tmp_path, b"month\n1\n", "in.csv", "in.csv")


def test_a_corrupted_model_scores_nothing(bundle, task, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in bundle.path.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.ubj").write_bytes(b"x" + (broken / "model.ubj").read_bytes()[1:])
    with pytest.raises(BundleError, match=r"model\.ubj"):
        run(replace(task, model=broken), tmp_path, b"month\n1\n", "in.csv")
    assert not (tmp_path / "out.parquet").exists()


def through_workers(task, paths):
    """The Ray job's own functions, called one after another as Ray would."""
    worker = ray_job.ScoringActor(task)
    rows = [worker(table).to_pylist()[0] for table in ray_job.read(pa.table({"files": [[str(path) for path in paths]]}))]
    parts = [ray_job.answer(row) for row in rows if row["total"] is None]
    assert rows[-1]["total"] == sum(part.rows for part in parts)
    return parts


def test_the_workers_of_a_ray_job_give_the_same_answers(task, sessions, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 20_000)
    sessions.write_csv(tmp_path / "in.csv")
    fitted = task.of_input(sources.Source(tmp_path / "in.csv"))
    parts = through_workers(fitted, [tmp_path / "in.csv"])
    assert len(parts) > 3
    assert pl.concat([part.answers for part in parts]).equals(whole)


@pytest.mark.parametrize("name", ["cell", "file"])
def test_what_goes_wrong_in_a_ray_job_travels_in_its_place(task, sessions, tmp_path, monkeypatch, name):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(sources, "HEAD_ROWS", 1)
    path = tmp_path / ("in.csv" if name == "cell" else "in.csv.gz")
    whole = sessions.write_csv().encode()
    path.write_bytes(whole if name == "cell" else gzip.compress(whole))
    fitted = task.of_input(sources.Source(path))  # planned before the file is changed
    path.write_bytes(wrong_cell(sessions, 300, "timeOnSite", "long") if name == "cell" else gzip.compress(whole)[:-500])
    said = {"cell": r"in\.csv, line 302", "file": r"ends early: .*in\.csv\.gz, after row \d+"}[name]
    with pytest.raises(TableError, match=said):
        through_workers(fitted, [path])


@pytest.mark.slow
def test_a_large_input_is_scored_by_ray_with_the_same_numbers_and_nothing_is_left_of_ray(task, sessions, whole, tmp_path):
    times = sources.HEAD_ROWS // ROWS + 20
    rows = pl.concat([sessions] * times)
    rows.write_csv(tmp_path / "in.csv")
    command = ["batch", "purchase", "--model", task.model, "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv.gz", "--json"]
    mark = {"REVENUE_ENGINE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", *command], cwd=ROOT, env={**os.environ, **mark}, capture_output=True, text=True
    )
    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (said["rows"], said["by"]) == (rows.height, "with Ray Data")
    assert pl.read_csv(tmp_path / "out.csv.gz").equals(pl.concat([whole] * times))
    assert list(Path(tempfile.gettempdir()).glob(f"revenue-engine-job-*-{'[0-9a-f]' * 4}")) == []


def test_what_a_killed_job_left_behind_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folders = [tmp_path / f"revenue-engine-job-{pid}-abcd" for pid in (dead.pid, os.getpid())]
    for folder in folders:
        folder.mkdir()
    with (folders[0] / "log").open("wb") as log:
        orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=log)
    ray_cluster.clear()
    orphan.wait(30)  # raises where it was left alone
    assert [folder.exists() for folder in folders] == [False, True]
