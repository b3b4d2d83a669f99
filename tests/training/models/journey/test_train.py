"""The journey model: it learns from the first events alone, knows an ended session only where that is said."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from numba import cuda

from benchmarks.clicks import random_journeys
from serving import settings as configuration
from serving.batch import run as batch
from serving.batch.task import Task
from serving.errors import OutputError
from tests import journeys
from training.datasets.shop import shop
from training.errors import BundleError, CellError, TableError
from training.models import MODELS
from training.models.journey import checkpoint as journey_checkpoint
from training.models.journey import model as journey
from training.models.journey import network
from training.models.journey import train as journey_training
from training.models.journey.model import JourneyColumns, JourneyModel
from training.registry import bundle as bundles
from training.tables import journeys as journey_table
from training.tables import outcomes as outcomes_table


def silent(what, share):
    """Say nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return journeys.write(tmp_path_factory.mktemp("journeys") / "in", 600, 1)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    return MODELS["journey"].train(folder, tmp_path_factory.mktemp("journey") / "bundle", mapping={}, seed=0, progress=silent)


@pytest.fixture(scope="module")
def model(trained):
    return JourneyModel.load(trained)


def columns(model, pages, seconds, ended=0.0):
    size = len(pages)
    attributes = np.zeros((1, len(model.attributes)), np.float32)
    begin, end = np.zeros(1, np.int64), np.full(1, size, np.int64)
    return JourneyColumns(begin, end, model.code(pages), np.array(seconds, np.float32), np.array([ended], np.float32), attributes)


SCALING = np.array([[0.5, 0], [2, 1]], np.float32)


@pytest.fixture
def three():
    """Sessions of 7, 1 and 12 events over six pages."""
    random = np.random.default_rng(0)
    sizes = np.array([7, 1, 12])
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    seconds = np.concatenate([np.cumsum(random.exponential(40, size)) for size in sizes]).astype(np.float32)
    return network.SessionArrays(offsets, random.integers(0, 6, 20), seconds, random.normal(size=(3, 2)).astype(np.float32), np.zeros(3))


def test_the_network_is_the_one_that_torch_has_learned(three):
    torch.manual_seed(1)
    net = network.Net(6, 2).eval()
    given = network.padded(three, 6, SCALING)
    said = journey.margins([net.network()], SCALING, three.columns(np.arange(3), three.sizes, np.zeros(3)))
    with torch.inference_mode():
        expected = net(given.page, given.times, given.attributes)[torch.arange(3), torch.from_numpy(three.sizes - 1)]
    np.testing.assert_allclose(said, expected.numpy(), atol=2e-5)


def test_the_loss_is_taken_on_the_device_of_the_network_and_the_sessions(three):
    """On torch's device without numbers, on which whatever is elsewhere is refused."""
    net, given = network.Net(6, 2).to("meta"), network.padded(three, 6, SCALING).to("meta")
    loss = network.loss_of(net, given, np.arange(3), 6)
    loss.backward()
    assert {loss.device.type, *(weight.grad.device.type for weight in net.parameters())} == {"meta"}


def test_half_the_width_has_about_the_same_loss_and_gradients_of_the_whole(three):
    torch.manual_seed(1)
    net, given = network.Net(6, 2).eval(), network.padded(three, 6, SCALING)
    whole = network.loss_of(net, given, np.arange(3), 6)
    with torch.autocast("cpu", torch.bfloat16):
        half = network.loss_of(net, given, np.arange(3), 6)
    half.backward()
    assert half.item() == pytest.approx(whole.item(), rel=0.01)
    assert {weight.grad.dtype for weight in net.parameters()} == {torch.float32}


def test_what_comes_later_changes_nothing_before(folder):
    """A prefix is the same row whether the table has the rest of the session or not."""
    whole = journey_table.join(folder, first=3)
    cut = journey_table.read(whole)
    full = journey_table.read(journey_table.join(folder))
    for place, name in enumerate(cut.ids[:50]):
        size = cut.offsets[place + 1] - cut.offsets[place]
        begin = full.offsets[full.ids.index(name)]
        assert full.pages[begin : begin + size] == cut.pages[cut.offsets[place] : cut.offsets[place + 1]]
    sizes = np.diff(full.offsets)[[full.ids.index(name) for name in cut.ids]]
    assert (cut.ended == (sizes < 3)).all()


def test_steps_are_pages_and_what_else_is_done_but_for_what_is_common_or_foretells(tmp_path):
    kinds = ["page_view", "click", "add_to_cart", None, "purchase", "product_view"]
    frame = pl.DataFrame(
        {"sessionId": ["a"] * 6, "type": kinds, "page": ["home", "home", "home", "cart", "cart", "p"], "seconds": range(6)}
    )
    frame.write_parquet(tmp_path / "events.parquet")
    assert journey_table.read(journey_table.join(tmp_path / "events.parquet")).pages == ["home", "event:add_to_cart", "cart", "p"]
    early = journey_table.read(journey_table.join(tmp_path / "events.parquet", first=2))
    assert (early.pages, early.ended.tolist()) == (["home", "event:add_to_cart"], [0])


def test_sessions_that_only_one_file_has_and_those_without_a_step_have_a_line_and_are_told_of_in_training(folder, trained, tmp_path):
    (tmp_path / "in").mkdir()
    events, sessions = (pl.read_csv(folder / f"{name}.csv.gz") for name in ("events", "sessions"))
    clicks = events.filter(pl.col("session_id") == 3).with_columns(type=pl.lit("click"))
    events.filter(~pl.col("session_id").is_in([3, 5])).vstack(clicks).write_csv(tmp_path / "in" / "events.csv")
    sessions.filter(~pl.col("session_id").is_in([7, 8])).write_csv(tmp_path / "in" / "sessions.csv")
    batch.run(Task("journey", trained.path, {}, configuration.load(), {"first": 5}), tmp_path / "in", tmp_path / "out.csv")
    answers = pl.read_csv(tmp_path / "out.csv")
    assert sorted(answers["sessionId"]) == list(range(600))
    silent_ones, alone = answers.filter(pl.col("sessionId").is_in([3, 5])), answers.filter(pl.col("sessionId").is_in([7, 8]))
    assert silent_ones["exitProbability"].to_list() == [1, 1]  # they have fewer events than 5, and so have ended
    assert silent_ones["conversionProbability"].n_unique() == 1
    assert (silent_ones["missingFeatureCount"].to_list(), alone["missingFeatureCount"].to_list()) == ([0, 0], [1, 1])
    found = journey_training.training_sessions(tmp_path / "in", journey_table.read(journey_table.join(tmp_path / "in")))
    assert [one.partition(" sessions ")[0] for one in found.warnings] == ["2", "2"]
    assert len(found.sessions.y) == len(found.table.ids) == 596


def test_names_beyond_those_that_have_a_number_are_named_in_a_warning(folder, monkeypatch):
    monkeypatch.setattr(journey_training, "MAX_PAGES", 4)
    found = journey_training.training_sessions(folder, journey_table.read(journey_table.join(folder)))
    (warning,) = found.warnings
    assert "2 names beyond the 4 most frequent have no number" in warning
    lost = {*map(str, range(journeys.PAGES)), "event:add_to_cart"} - set(found.pages)
    assert all(name in warning for name in lost)
    assert ("event:add_to_cart" in lost) == ("event:add_to_cart" not in found.table.pages)


@pytest.mark.parametrize("ended", [0.0, 1.0])
def test_of_a_session_without_a_step_the_shares_of_such_are_said(model, folder, ended):
    scores = model.score(columns(model, [], [], ended))
    bought = pl.read_csv(folder / "sessions.csv.gz")["purchase"].mean()
    assert scores.conversion[0] == pytest.approx(bought)
    assert (scores.exit[0] == 1) == (ended == 1)
    assert scores.steps[0].sum() == pytest.approx(1)


def test_a_page_that_is_named_like_an_event_is_a_page_still():
    assert journey_table.step("page_view", "event:add_to_cart") == (True, "page:event:add_to_cart")
    assert journey_table.step("", "cart") == (True, "cart")


def test_an_attribute_that_is_no_number_is_told_how_to_be_left_out(folder, tmp_path):
    (tmp_path / "in").mkdir()
    events, sessions = (pl.read_csv(folder / f"{name}.csv.gz") for name in ("events", "sessions"))
    events.write_csv(tmp_path / "in" / "events.csv")
    sessions.with_columns(device=pl.lit("mobile")).write_csv(tmp_path / "in" / "sessions.csv")
    with pytest.raises(CellError, match=r"device: 'mobile' is not a number.*--map leftOut=device"):
        journey_table.read(journey_table.join(tmp_path / "in"))


def test_a_simulated_shop_may_be_csv(tmp_path):
    shop.write(shop.simulate(50, 3), tmp_path / "shop")
    (tmp_path / "csv").mkdir()
    for name in ("events", "sessions"):
        pl.read_parquet(tmp_path / "shop" / f"{name}.parquet").write_csv(tmp_path / "csv" / f"{name}.csv")
    whole, text = (journey_table.read(journey_table.join(tmp_path / name)) for name in ("shop", "csv"))
    assert (whole.ids, whole.pages) == (text.ids, text.pages)
    np.testing.assert_array_equal(whole.churned, text.churned)


def test_columns_known_only_at_the_end_are_no_attributes(model):
    assert model.attributes == ("static0",)


def test_the_ended_and_the_running_session_are_told_apart_by_the_flag_alone(model):
    running, ended = (model.score(columns(model, ["0", "1", "2"], [0, 10, 40], flag)) for flag in (0.0, 1.0))
    assert running.conversion[0] != ended.conversion[0]
    assert ended.exit[0] == 1
    assert 0 < running.exit[0] < 1
    assert running.steps.sum() == pytest.approx(1)


@pytest.mark.parametrize("pages", [[], ["nowhere"], ["0"] * 10_000])
def test_sessions_of_no_one_and_very_many_events_have_a_score(model, pages):
    said = model.score(columns(model, pages, list(range(len(pages)))))
    assert 0 < said.conversion[0] < 1


@pytest.fixture
def many(model):
    """More sessions than a model on a GPU scores without it."""
    return JourneyColumns(*random_journeys(journey.MIN_GPU_SESSIONS + 100, len(model.pages) + 1, len(model.attributes)))


def test_very_many_sessions_and_no_fewer_are_the_gpus(trained, model, many, monkeypatch):
    """The launches are the CPU's here, and tell that they were asked."""
    asked = []

    def telling(name):
        return lambda *arrays: (asked.append(name), getattr(journey.ON_CPU, name)(*arrays))[1]

    monkeypatch.setattr(journey, "ON_CUDA", journey.DeviceKernels(*map(telling, journey.DeviceKernels._fields)))
    elsewhere = JourneyModel.load(trained, device="cuda")
    few = many._replace(**{name: getattr(many, name)[: journey.MIN_GPU_SESSIONS - 1] for name in ("begins", "ends", "ended", "attributes")})
    assert elsewhere.score(few).conversion.tobytes() == model.score(few).conversion.tobytes()
    assert not asked
    assert elsewhere.score(many).conversion.tobytes() == model.score(many).conversion.tobytes()
    assert set(asked) == {"margins", "trees"}


@pytest.mark.gpu
def test_a_gpu_has_the_bits_of_the_cpu(trained, model, many):
    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    found, expected = JourneyModel.load(trained, device="cuda").score(many), model.score(many)
    for name in ("conversion", "exit", "steps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_it_is_judged_by_val_beside_its_parts_and_plain_trees(trained):
    metrics = trained.json("metrics.json")
    assert metrics["validationSessions"] == 150
    assert metrics["trainingSessions"] == 450
    for after in ("5", "10", "all"):
        assert {"served", "networkAuc", "treesAuc", "baselineAuc"} <= metrics["candidates"][after].keys()
    assert metrics["aucAtEnd"] > 0.8


def test_the_same_seed_gives_the_same_model(folder, trained, tmp_path):
    again = MODELS["journey"].train(folder, tmp_path / "again", mapping={}, seed=0, progress=silent)
    assert {name: again.manifest["files"][name] for name in (journey.MODEL, journey.NETWORK)} == {
        name: trained.manifest["files"][name] for name in (journey.MODEL, journey.NETWORK)
    }


def test_batch_writes_a_line_for_each_session_as_of_its_kth_event(folder, trained, tmp_path):
    for first, out in ((5, "five.csv"), (None, "running.csv")):
        options = {} if first is None else {"first": first}
        batch.run(Task("journey", trained.path, {}, configuration.load(), options), folder, tmp_path / out)
    five, running = (pl.read_csv(tmp_path / out) for out in ("five.csv", "running.csv"))
    assert five.columns == ["sessionId", "conversionProbability", "exitProbability", "unknownPages", "missingFeatureCount", "modelVersion"]
    assert sorted(five["sessionId"]) == list(range(600))
    assert five["conversionProbability"].is_between(0, 1).all()
    assert not five["conversionProbability"].equals(running["conversionProbability"])
    assert (five["exitProbability"] == 1).any()
    assert not (running["exitProbability"] == 1).any()


def test_columns_may_have_other_names(folder, trained, tmp_path):
    (tmp_path / "other").mkdir()
    frame = journey_table.join(folder).rename({"session_id": "visit", "cum_time_s": "at"})
    frame.write_parquet(tmp_path / "other" / "events.parquet")
    task = Task("journey", trained.path, {"sessionId": "visit", "seconds": "at"}, configuration.load(), {"first": 4})
    batch.run(task, tmp_path / "other", tmp_path / "mapped.csv")
    batch.run(Task("journey", trained.path, {}, configuration.load(), {"first": 4}), folder, tmp_path / "plain.csv")
    mapped, plain = (pl.read_csv(tmp_path / name).sort("sessionId") for name in ("mapped.csv", "plain.csv"))
    assert mapped.equals(plain)


@pytest.mark.parametrize(
    ("events", "sessions", "says"),
    [
        ("session_id,page\n1,0\n", None, "no column is the seconds"),
        ("session_id,page,cum_time_s\n1,0,soon\n", None, "soon"),
        ("session_id,page,cum_time_s\n1,0,0\n", "session_id,page,purchase\n1,0,1\n", "in common"),
        ("session_id,page,cum_time_s\n1,0,0\n", "session_id,purchase\n1,1\n1,0\n", "twice"),
        ("session_id,page,cum_time_s\n1,0,0\n", None, "no column holds whether a session bought"),
    ],
)
def test_wrong_tables_are_refused_with_what_to_do(tmp_path, events, sessions, says):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "events.csv").write_text(events)
    if sessions is not None:
        (tmp_path / "in" / "sessions.csv").write_text(sessions)
    with pytest.raises((TableError, CellError), match=says):
        MODELS["journey"].train(tmp_path / "in", tmp_path / "out", mapping={}, seed=0, progress=silent)
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_is_not_whole_is_refused(trained, tmp_path):
    files = {name: trained.read(name) for name in (journey.MODEL, journey.CALIBRATION)}
    lacking = bundles.write(tmp_path / "lacking", task="journey", files=files, meta={"pages": ["0"], "attributes": []})
    with pytest.raises(BundleError):
        JourneyModel.load(lacking)
    assert json.loads((trained.path / "metrics.json").read_text())["curve"]


def test_requests_are_scored_as_requests(trained, tmp_path):
    (tmp_path / "in.ndjson").write_text('{"sessionId": "a", "events": []}\n{"sessionId": "b", "events": []}\n')
    batch.run(Task("journey", trained.path, {}, configuration.load()), tmp_path / "in.ndjson", tmp_path / "out.csv")
    out = pl.read_csv(tmp_path / "out.csv")
    assert out["sessionId"].to_list() == ["a", "b"]


def test_the_output_may_not_be_an_input(trained, tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("sessionId,page,seconds\na,0,0\n")
    with pytest.raises(OutputError, match="is the input"):
        batch.run(Task("journey", trained.path, {}, configuration.load()), tmp_path, path)
    assert path.read_text().startswith("sessionId")


def test_what_is_learned_is_drawn(trained):
    picture = trained.read(journey.CURVES).decode()
    assert picture.startswith("<svg")
    assert picture.count("<polyline") == 2 * len(trained.json("metrics.json")["curve"])


def test_training_that_was_ended_goes_on_from_the_networks_that_it_has(folder, trained, tmp_path, monkeypatch):
    """The bundle is the one of a training that was not ended, and nothing of the checkpoint stays."""
    fit, fitted = journey_training.fit_network, []

    def twice(*arguments):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(1)
        return fit(*arguments)

    monkeypatch.setattr(journey_training, "fit_network", twice)
    with pytest.raises(KeyboardInterrupt):
        MODELS["journey"].train(folder, tmp_path / "out", mapping={}, seed=0, progress=silent)
    fitted.clear()
    monkeypatch.setattr(journey_training, "fit_network", lambda *arguments: (fitted.append(1), fit(*arguments))[1])
    bundle = MODELS["journey"].train(folder, tmp_path / "out", mapping={}, seed=0, progress=silent)
    assert len(fitted) == 1
    assert bundle.manifest["files"][journey.NETWORK] == trained.manifest["files"][journey.NETWORK]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_checkpoint_of_another_seed_is_none(folder, tmp_path):
    checkpoint = journey_checkpoint.Checkpoint(tmp_path / "out", [b"seed 0"])
    checkpoint.save(0, network.Net(3, 1).network(), [{"loss": 1.0, "auc": 0.5}])
    again, other = (journey_checkpoint.Checkpoint(tmp_path / "out", [what]) for what in (b"seed 0", b"seed 1"))
    assert other.find(0) is None
    assert again.find(0) is None  # the other one has removed it
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def of_shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    shop.write(shop.simulate(1500, 3), folder / "in")
    outcomes = [
        (step, 0.5, int(number % 10 < (3 if step == "offer_help" else 1))) for number in range(400) for step in ("none", "offer_help")
    ]
    pl.DataFrame(outcomes, schema=["step", "propensity", "converted"], orient="row").write_csv(folder / "in" / "outcomes.csv")
    return MODELS["journey"].train(folder / "in", folder / "out", mapping={}, seed=0, progress=silent)


def test_the_simulated_shop_tells_of_values_and_of_customers_who_stay_away(of_shop, tmp_path):
    model = JourneyModel.load(of_shop)
    assert set(model.attributes) == {"returning", "mobile", "timeOfDay"}
    assert {"product", "cart", "event:search", "event:add_to_cart", "event:checkout"} < set(model.pages)
    assert not {"event:click", "event:purchase"} & set(model.pages)
    assert model.heads.currency == "EUR"
    rows = JourneyColumns(
        np.array([0]), np.array([1]), np.array([1]), np.zeros(1, np.float32), np.zeros(1, np.float32), np.zeros((1, 3), np.float32)
    )
    scores = model.score(rows)
    assert scores.order_value[0] > 0
    assert 0 < scores.churn[0] < 1
    metrics = of_shop.json("metrics.json")
    assert metrics["aucAtEnd"] > 0.6


def test_outcomes_say_by_how_much_a_step_helps_and_what_policies_are_worth(of_shop):
    measured = JourneyModel.load(of_shop).steps["offer_help"]
    assert measured.lift == pytest.approx(0.2, abs=3 * measured.error)
    report = of_shop.json("metrics.json")["steps"]
    assert (report["decisions"], report["evaluatedDecisions"]) == (800, 400)
    for estimator in ("ips", "snips", "dr"):
        assert report["policies"]["thompson"][estimator]["value"] > report["policies"]["none"][estimator]["value"]


@pytest.mark.parametrize(
    ("row", "message"), [("a,0,1", "propensity.*'0'|propensity.*0.0"), ("a,0.5,maybe", "converted"), ("a,2,1", "propensity")]
)
def test_a_wrong_outcome_is_named_with_its_line(tmp_path, row, message):
    (tmp_path / "outcomes.csv").write_text(f"step,propensity,converted\nnone,0.5,0\n{row}\n")
    with pytest.raises(TableError, match=f"outcomes.csv, line 3.*({message})"):
        outcomes_table.read(tmp_path / "outcomes.csv")


def test_amounts_in_two_currencies_are_refused(tmp_path):
    frame = pl.DataFrame({"sessionId": ["a", "b"], "page": ["1", "1"], "seconds": [0.0, 0.0], "currency": ["EUR", "USD"]})
    with pytest.raises(CellError, match="another currency than EUR"):
        journey_table.read(frame)


def test_the_first_events_of_requests_are_theirs_to_choose(trained, tmp_path):
    (tmp_path / "in.ndjson").write_text('{"sessionId": "a", "events": []}\n')
    task = Task("journey", trained.path, {}, configuration.load(), {"first": 3})
    with pytest.raises(TableError, match=r"in\.ndjson: --first .* leave it out"):
        batch.run(task, tmp_path / "in.ndjson", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
