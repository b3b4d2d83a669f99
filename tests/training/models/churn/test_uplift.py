"""What an experiment has changed: effects that are there are found, those that are not are not made up, and Qini is Qini."""

import numpy as np
import polars as pl
import pytest

from training.errors import CellError, TableError
from training.evaluation import qini
from training.models import MODELS
from training.models.churn import train_uplift
from training.models.churn.model import ChurnModel
from training.models.churn.train import ordered
from training.registry import bundle as bundles
from training.tables import customers as customer_table

CUSTOMERS = 6_000


def silent(what, share):
    pass


def experiment(customers=CUSTOMERS, seed=1, chosen=False):
    """Return a table with two arms, and the true effects of them: `call` helps those with tenure below 0.5 alone, `gift` all alike."""
    random = np.random.default_rng(seed)
    tenure, noise = random.uniform(0, 1, customers), random.normal(0, 1, customers)
    arm = np.where(tenure > random.uniform(0, 1, customers), 1, 0) if chosen else random.integers(0, 3, customers)
    call, gift = np.where(tenure < 0.5, 0.4, 0.0), np.full(customers, 0.1)
    stays = random.random(customers) < 0.4 + 0.1 * tenure + np.choose(arm, [0.0, call, gift])
    table = pl.DataFrame(
        {
            "tenure": tenure,
            "noise": noise,
            "treatment": np.array(["control", "call", "gift"])[arm],
            "Churn": np.where(stays, "No", "Yes"),
        }
    )
    return table, np.stack([call, gift], axis=1)


def alike(average, customers=6_000, seed=7):
    """Return a table with one arm that helps all customers alike, the file being sorted by arm and outcome."""
    random = np.random.default_rng(seed)
    arm = random.integers(0, 2, customers)
    stays = random.random(customers) < 0.3 + average * arm
    cells = {name: np.array(["no", "yes"])[random.integers(0, 2, customers)] for name in ("app", "card")}
    table = pl.DataFrame({**cells, "treatment": np.array(["none", "mail"])[arm], "Churn": np.where(stays, "No", "Yes")})
    return table.sort("treatment", "Churn")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    table, _ = experiment()
    table.write_csv(folder / "in.csv")
    return MODELS["churn"].train(folder / "in.csv", folder / "bundle", mapping={}, seed=0, progress=silent)


def test_a_ranking_by_the_truth_is_worth_something_by_chance_nothing_and_upside_down_less():
    table, effects = experiment(20_000)
    rows = ~(table["treatment"] == "gift").to_numpy()
    treated, stays = (table["treatment"] == "call").to_numpy()[rows], (table["Churn"] == "No").to_numpy()[rows].astype(float)
    truth = effects[rows, 0] + np.random.default_rng(0).uniform(0, 1e-9, rows.sum())
    chance = np.random.default_rng(1).random(len(truth))
    error = qini.standard_error(chance, treated, stays, 0)
    assert qini.coefficient(truth, treated, stays) > 10 * error
    assert abs(qini.coefficient(chance, treated, stays)) < 4 * error
    assert qini.coefficient(-truth, treated, stays) < -10 * error


def test_effects_that_differ_are_found_and_the_others_are_averages(trained):
    metrics = trained.json("metrics.json")["uplift"]
    assert (metrics["control"], [arm["name"] for arm in metrics["arms"]]) == ("control", ["call", "gift"])
    assert metrics["arms"][0]["differs"]
    assert metrics["learners"][metrics["served"]]["call"]["qini"] > 4 * metrics["learners"][metrics["served"]]["call"]["error"]
    assert metrics["balance"]["randomized"]
    assert metrics["arms"][1]["average"] == pytest.approx(0.1, abs=0.04)
    assert trained.json("metrics.json")["warnings"] == []


@pytest.mark.parametrize("seed", [7, 8])
def test_effects_that_do_not_differ_have_no_qini_and_every_customer_gets_the_average_in_any_order(seed):
    table = alike(0.05, seed=seed)
    found = []
    for one in (table, table.sample(fraction=1.0, shuffle=True, seed=1)):
        rows = ordered(customer_table.read(one))
        files, metrics = train_uplift.fit(rows, rows.X, 0)
        found.append((sorted(files), metrics))
    assert found[0] == found[1]
    files, metrics = found[0]
    (arm,) = metrics["arms"]
    assert (files, arm["differs"], arm["significant"]) == ([], False, True)
    assert all(abs(learner["mail"]["qini"]) < 0.003 for learner in metrics["learners"].values())
    assert arm["average"] == pytest.approx(0.05, abs=3 * arm["averageError"])


def test_an_arm_without_an_effect_is_served_as_none(tmp_path):
    alike(0.0).write_csv(tmp_path / "in.csv")
    made = MODELS["churn"].train(tmp_path / "in.csv", tmp_path / "out", mapping={}, seed=0, progress=silent)
    (arm,) = made.json("metrics.json")["uplift"]["arms"]
    assert 0 < abs(arm["average"]) < 2 * arm["averageError"]
    assert made.json("uplift.json")["arms"] == [{"name": "mail", "average": 0.0, "differs": False}]
    model = ChurnModel.load(bundles.load(made.path))
    assert not model.effects.of(np.zeros((3, 2), np.float32)).any()
    card = made.read("card.md").decode()
    assert "no effect: the experiment shows none" in card


def test_the_served_effects_are_near_the_truth_and_a_row_alone_is_the_row_among_others(trained):
    model = ChurnModel.load(bundles.load(trained.path))
    table, truth = experiment(seed=2)
    X = model.table_matrix(table)
    found = model.effects.of(X)
    assert np.corrcoef(found[:, 0], truth[:, 0])[0, 1] > 0.9
    assert np.abs(found - truth).mean() < 0.06
    for row in range(0, 200, 17):
        np.testing.assert_array_equal(model.effects.of(X[row : row + 1])[0], found[row])


def test_arms_that_were_chosen_are_said_to_be():
    table, _ = experiment(chosen=True)
    rows = customer_table.read(table)
    balance = train_uplift.balance(rows, rows.X, 0)
    assert not balance["randomized"]
    assert balance["auc"] > 0.7


def test_who_was_treated_is_no_feature_and_is_ignored_when_scoring(trained):
    assert [feature["name"] for feature in trained.manifest["features"]] == ["tenure", "noise"]
    assert customer_table.resolve(("tenure", "noise", "treatment")).ignored == ("treatment",)


@pytest.mark.parametrize(
    ("arms", "options", "said"),
    [
        (["a", "b"], {}, r"column treatment holds a, b: which one is the untreated arm\? Name it with --control TEXT"),
        (["a", "b"], {"control": "c"}, "--control c: column treatment holds .*; name one of them"),
        (["none", "control"], {}, "which one is the untreated arm"),
        (["a", "a"], {}, "an experiment has at least two arms"),
    ],
)
def test_arms_that_do_not_say_what_they_are_are_refused(arms, options, said):
    table = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "Churn": ["Yes", "No"] * 2, "treatment": arms * 2})
    with pytest.raises(TableError, match=said):
        customer_table.read(table, **options)


def test_a_blank_arm_is_named_with_its_row():
    table = pl.DataFrame({"x": [1.0, 2.0], "Churn": ["Yes", "No"], "treatment": ["a", " "]})
    with pytest.raises(CellError, match="is a blank treatment"):
        customer_table.read(table, control="a")


def test_a_control_without_an_experiment_is_refused():
    with pytest.raises(TableError, match="--control x: no column is the treatment"):
        customer_table.read(pl.DataFrame({"x": [1.0, 2.0], "Churn": ["Yes", "No"]}), control="x")


def test_too_few_customers_in_an_arm_are_counted(tmp_path):
    table, _ = experiment(500)
    table.write_csv(tmp_path / "in.csv")
    with pytest.raises(TableError, match=r"'call' has 1.*200 are needed in every arm"):
        MODELS["churn"].train(tmp_path / "in.csv", tmp_path / "out", mapping={}, seed=0, progress=silent)
    assert not (tmp_path / "out").exists()


def test_hillstroms_womens_letter_works_for_some_and_his_mens_for_all(data_dir):
    """Visits by arm are the published .1062, .1828 and .1514, and women's clothes are for those who have bought them."""
    table = pl.read_csv(data_dir / "hillstrom" / "hillstrom.csv", infer_schema=False)
    mapping = {"label": "visit", "treatment": "segment", "leftOut": ("conversion", "spend")}
    rows = customer_table.read(table, mapping, positive="0", control="No E-Mail")
    _, found = train_uplift.fit(rows, rows.X, 0)
    assert found["retentionByArm"] == {
        "No E-Mail": pytest.approx(0.1062, abs=5e-5),
        "Mens E-Mail": pytest.approx(0.1828, abs=5e-5),
        "Womens E-Mail": pytest.approx(0.1514, abs=5e-5),
    }
    for learner in ("two_model", "x_learner"):
        womens = found["learners"][learner]["Womens E-Mail"]
        assert womens["qini"] > 3 * womens["error"]
    assert found["balance"]["randomized"]
