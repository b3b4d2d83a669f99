import json
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from serving.commands.models import changes, comparison
from training.evaluation import comparison as bootstrap
from training.models import MODELS

ROWS = 1_500


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Draw few samples, and simulate few sessions: these tests are about what becomes of the figures."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 40)
    monkeypatch.setattr(comparison, "SESSIONS", ROWS)


@pytest.fixture(scope="session")
def random_bundle(shop_folder, tmp_path_factory):
    """A purchase model that was learned from labels without any relation to the sessions."""
    folder = tmp_path_factory.mktemp("random")
    sessions = pl.read_parquet(shop_folder / "sessions.parquet")
    labels = np.random.default_rng(0).permutation(sessions["purchased"].to_numpy())
    sessions.with_columns(purchased=labels).write_csv(folder / "visits.csv")
    return MODELS["purchase"].train(folder / "visits.csv", folder / "model", mapping={}, seed=1, progress=lambda what, share: None)


@pytest.fixture
def here(bundle, random_bundle, asked, tmp_path):
    """A registry with the champion `good` of the simulated shop, and with `bad`."""
    url = ("--registry", str(tmp_path / "models"))
    assert asked("models", "add", bundle.path, "--name", "good", "--alias", "champion", *url)[0] == 0
    assert asked("models", "add", random_bundle.path, "--name", "bad", *url)[0] == 0
    return url


def test_every_message_has_the_absolute_path_of_the_registry(asked, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given, where = ("--registry", "models"), str(tmp_path / "models")
    assert where in asked("models", "list", *given)[1]
    for words in (
        ("add", bundle.path, "--name", "a", "--alias", "champion"),
        ("add", bundle.path, "--name", "b"),
        ("list",),
        ("show", "a"),
        ("promote", "purchase/b", "--force"),
        ("rollback", "purchase"),
        ("delete", "purchase/b"),
    ):
        code, out, err = asked("models", *words, *given)
        assert (code, err) == (0, "")
        assert where in out, words
    for words in (("show", "nosuch"), ("promote", "nosuch"), ("delete", "purchase@champion"), ("card", "nosuch"), ("rollback", "churn")):
        code, _, err = asked("models", *words, *given)
        assert code == 1
        assert where in err, words


def test_a_registry_that_is_created_is_a_warning_and_only_then(asked, bundle, tmp_path):
    given = ("models", "add", bundle.path, "--registry", tmp_path / "models")
    first, second = asked(*given)[1], asked(*given)[1]
    assert f"warning: {tmp_path / 'models'} was not there, and is created: no server reads it unless" in first
    assert "warning" not in second


def test_list_states_where_it_looked_also_where_there_is_no_registry(asked, answer, tmp_path):
    code, out, _ = asked("models", "list", "--registry", tmp_path / "models")
    assert (code, f"listed 0 models of {tmp_path / 'models'}, where there is no registry" in out) == (0, True)
    assert answer("models", "list", "--registry", tmp_path / "models")[1]["registry"] == str(tmp_path / "models")


def test_figures_are_listed_and_shown_beside_the_name_of_their_data(asked, here, bundle):
    (good,) = (line for line in asked("models", "list", *here)[1].splitlines() if " good " in line)
    assert "sessions.parquet" in good
    (bad,) = (line for line in asked("models", "list", *here)[1].splitlines() if " bad " in line)
    assert "visits.csv" in bad
    (auc,) = (line for line in asked("models", "show", "purchase/bad", *here)[1].splitlines() if line.startswith("auc "))
    assert auc.endswith("on visits.csv")


def test_a_card_is_printed(asked, answer, here, bundle):
    card = bundle.read("card.md").decode()
    assert asked("models", "card", "purchase@champion", "--quiet", *here)[1] == card.rstrip("\n") + "\n"
    assert answer("models", "card", "good", *here)[1]["card"] == card


def test_a_model_is_deleted_unless_an_alias_points_to_it(asked, answer, here):
    code, _, err = asked("models", "delete", "purchase@good", *here)
    assert (code, "purchase@champion is good" in err) == (1, True)
    assert answer("models", "delete", "purchase@bad", *here)[1]["name"] == "bad"
    assert [entry["name"] for entry in answer("models", "list", *here)[1]["models"]] == ["good"]


def test_two_models_are_compared_on_the_same_rows(asked, answer, here, shop_folder, tmp_path):
    given = ("models", "compare", "purchase/good", "purchase@bad", "--data", shop_folder, *here)
    code, data = answer(*given, "--out", tmp_path / "out")
    assert (code, data["worseBy"], data["betterBy"]) == (0, ["auc", "log_loss"], [])
    assert data["rows"] == pl.read_parquet(shop_folder / "sessions.parquet").height
    auc = next(one for one in data["figures"] if one["name"] == "auc")
    assert auc["one"] > 0.8 > 0.65 > auc["other"]
    assert auc["low"] < auc["difference"] < auc["high"] < 0
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["figures"] == data["figures"]
    for name in ("calibration.svg", "lift.svg"):
        assert ElementTree.parse(tmp_path / "out" / name).getroot().tag.endswith("svg")
    code, out, _ = asked(*given)
    assert "B is worse by auc, log_loss than A" in out
    assert "was learned from" in out  # good has seen these rows
    assert "on shop" in out


def test_models_of_two_tasks_and_of_a_task_without_labels_are_not_compared(asked, here, bundle_of, bundle, shop_folder):
    pricing = bundle_of("pricing").path
    code, _, err = asked("models", "compare", bundle.path, pricing, "--data", shop_folder, *here)
    assert (code, "compare models of one task" in err) == (2, True)
    code, _, err = asked("models", "compare", pricing, pricing, "--data", shop_folder, *here)
    assert code == 2
    assert "a model of pricing is not evaluated on a table: a row of sales has no label" in err


@pytest.mark.parametrize("with_data", [True, False])
def test_a_worse_model_is_not_promoted_without_force(asked, answer, here, shop_folder, with_data):
    data = ("--data", shop_folder) if with_data else ()
    code, out, err = asked("models", "promote", "purchase/bad", *data, *here)
    assert (code, out) == (1, "")
    assert "the new model is worse by auc, log_loss than the champion" in err
    assert "--force" in err
    assert ("simulated sessions" in err) != with_data
    assert answer("models", "show", "purchase@champion", *here)[1]["name"] == "good"
    assert answer("models", "promote", "purchase/bad", "--force", *data, *here)[1]["name"] == "bad"


def test_a_person_is_asked_whether_to_promote_a_worse_model(asked, answer, here, shop_folder, monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(changes.sys, "stdin", Terminal())
    agreed = []
    monkeypatch.setattr(changes.typer, "confirm", lambda question, **_: agreed.append(question) or len(agreed) > 1)
    given = ("models", "promote", "purchase/bad", "--data", shop_folder, *here)
    code, _, err = asked(*given)
    assert (code, "purchase@champion is still good" in err) == (1, True)
    assert asked(*given)[0] == 0
    assert "worse by auc, log_loss" in agreed[0]
    assert answer("models", "show", "purchase@champion", *here)[1]["name"] == "bad"


def test_adding_a_worse_model_as_champion_adds_it_and_leaves_the_champion(asked, answer, here, random_bundle):
    code, _, err = asked("models", "add", random_bundle.path, "--name", "again", "--alias", "champion", *here)
    assert code == 1
    assert "purchase/again is in " in err
    assert "but not champion" in err
    assert answer("models", "show", "purchase/again", *here)[1]["aliases"] == []
    assert answer("models", "show", "purchase@champion", *here)[1]["name"] == "good"


def test_a_better_model_is_promoted_and_the_report_has_the_comparison(answer, here, shop_folder):
    assert answer("models", "promote", "purchase/bad", "--force", *here)[0] == 0
    code, data = answer("models", "promote", "purchase/good", "--data", shop_folder, *here)
    assert (code, data["comparison"]["worse"]) == (0, False)
    assert "better by auc, log_loss" in data["comparison"]["sentence"]


def test_without_the_data_of_the_champion_nothing_is_compared_and_the_report_says_how(asked, answer, here):
    assert answer("models", "promote", "purchase/bad", "--force", *here)[0] == 0
    code, out, _ = asked("models", "promote", "purchase/good", *here)
    assert code == 0
    assert "not compared with bad, since visits.csv is not at hand: pass --data TABLE" in out


def test_a_task_without_labels_is_promoted_without_a_comparison(asked, bundle_of, tmp_path):
    url, path = ("--registry", tmp_path / "models"), bundle_of("pricing").path
    assert asked("models", "add", path, "--name", "a", "--alias", "champion", *url)[0] == 0
    assert asked("models", "add", path, "--name", "b", *url)[0] == 0
    code, out, _ = asked("models", "promote", "pricing/b", *url)
    assert (code, "not compared with a: a model of pricing is not evaluated on a table" in out) == (0, True)
    code, _, err = asked("models", "promote", "pricing/a", "--data", path, *url)
    assert (code, "not evaluated" in err) == (2, True)


@pytest.mark.parametrize("option", ["--force", "--data"])
def test_options_of_a_promotion_need_an_alias(asked, bundle, tmp_path, option):
    given = (option, tmp_path) if option == "--data" else (option,)
    code, _, err = asked("models", "add", bundle.path, "--registry", tmp_path / "models", *given)
    assert (code, f"{option} needs --alias" in err) == (2, True)
    assert not (tmp_path / "models").exists()


def test_the_champion_of_the_shop_is_recognised_as_simulated(bundle, random_bundle):
    from training.registry.simulated import is_simulated

    assert (is_simulated(bundle.manifest), is_simulated(random_bundle.manifest)) == (True, False)
