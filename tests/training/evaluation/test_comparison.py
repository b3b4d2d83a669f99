from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from training.evaluation import comparison, judged, metrics, plots
from training.evaluation.comparison import RESAMPLES, compare
from training.evaluation.judged import BETTER, NAMES, Judged, groups, of_probability

ROWS = 2_000


def outcomes(seed, rows=ROWS):
    random = np.random.default_rng(seed)
    p = random.beta(1, 4, rows)
    return (random.random(rows) < p).astype(float), p


def model(y, p, group=None):
    return Judged(y, p, np.arange(len(y)) if group is None else group, of_probability, ("auc", "logLoss"))


def brier(y, p):
    return {"brier": float(np.mean((y - p) ** 2))}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Draw fewer samples: a test compares many times."""
    monkeypatch.setattr(comparison, "RESAMPLES", 60)


def named(found, name):
    return next(one for one in found.differences if one.name == name)


def test_a_model_is_no_better_than_itself():
    y, p = outcomes(1)
    found = compare(model(y, p), model(y, p), 0)
    assert all((one.difference, one.low, one.high, one.verdict) == (0, 0, 0, "") for one in found.differences)
    assert (found.by("worse"), found.by("better"), found.rows, found.groups) == ([], [], ROWS, ROWS)


def test_a_model_that_ranks_at_random_is_worse_by_each_decisive_figure():
    y, p = outcomes(2)
    shuffled = np.random.default_rng(0).permutation(p)
    assert compare(model(y, p), model(y, shuffled), 0).by("worse") == ["auc", "logLoss"]
    assert compare(model(y, shuffled), model(y, p), 0).by("better") == ["auc", "logLoss"]


def test_figures_are_those_of_the_metrics_and_the_difference_is_the_second_less_the_first():
    y, p = outcomes(3)
    found = compare(model(y, p), model(y, p**2), 0)
    for name, key in {name: key for key, name in NAMES.items()}.items():
        one = named(found, name)
        assert (one.one, one.other) == (metrics.figures(y, p)[key], metrics.figures(y, p**2)[key])
        assert one.difference == one.other - one.one
        assert one.low <= one.difference <= one.high or one.name == "auc"


def test_a_monotone_change_of_the_probabilities_changes_the_calibration_and_not_the_ranking():
    y, p = outcomes(4)
    found = compare(model(y, p), model(y, p**2), 0)
    assert (named(found, "auc").low, named(found, "auc").high, named(found, "auc").verdict) == (0, 0, "")
    assert (named(found, "ece").verdict, named(found, "logLoss").verdict) == ("worse", "worse")


def test_an_interval_covers_the_true_difference_about_as_often_as_it_states():
    """Of two models whose true Brier scores are known, in many samples of rows."""
    covered, samples, rows = 0, 120, 300
    for seed in range(samples):
        random = np.random.default_rng(seed)
        p = random.uniform(0.05, 0.95, rows)
        y = (random.random(rows) < p).astype(float)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comparison, "RESAMPLES", 100)
            one, other = (replace(model(y, predicted), figures=brier) for predicted in (p, np.full(rows, 0.5)))
            found = named(compare(one, other, seed), "brier")
        true = ((0.5 - np.linspace(0.05, 0.95, 10_001)) ** 2).mean()  # E (q - .5)^2 is what the flat model loses
        covered += found.low <= true <= found.high
    assert 0.88 <= covered / samples <= 1


def test_rows_of_one_customer_are_drawn_together_so_that_copies_make_no_interval_narrower():
    y, p = outcomes(5, 200)
    once = compare(model(y, p), model(y, p**2), 0)
    group = np.tile(np.arange(200), 10)
    copied = compare(model(np.tile(y, 10), np.tile(p, 10), group), model(np.tile(y, 10), np.tile(p**2, 10), group), 0)
    assert (copied.rows, copied.groups) == (2_000, 200)
    one, ten = named(once, "brier"), named(copied, "brier")
    assert (ten.high - ten.low) == pytest.approx(one.high - one.low)


def test_intervals_of_many_rows_are_scaled_to_all_of_them(monkeypatch):
    y, p = outcomes(6, 8_000)
    whole = named(compare(model(y, p), model(y, p**2), 0), "brier")
    monkeypatch.setattr(comparison, "MAX_DRAWN", 1_000)
    part = named(compare(model(y, p), model(y, p**2), 0), "brier")
    assert (part.high - part.low) == pytest.approx(whole.high - whole.low, rel=0.4)


def test_the_same_seed_gives_the_same_intervals_and_the_order_of_rows_does_not_matter_to_the_figures():
    y, p = outcomes(7)
    order = np.random.default_rng(1).permutation(ROWS)
    one, again = compare(model(y, p), model(y, p**2), 3), compare(model(y, p), model(y, p**2), 3)
    other = compare(model(y[order], p[order]), model(y[order], (p**2)[order]), 3)
    assert one == again
    assert [a.difference for a in one.differences] == [b.difference for b in other.differences]


def test_outcomes_that_are_all_equal_have_no_figures():
    y, p = np.zeros(50), np.linspace(0, 1, 50)
    found = compare(model(y, p), model(y, p), 0)
    assert {(one.one, one.difference, one.verdict) for one in found.differences} == {(None, None, "")}


def test_other_rows_are_not_compared():
    y, p = outcomes(8)
    with pytest.raises(ValueError, match="different rows"):
        compare(model(y, p), model(1 - y, p), 0)


def test_rows_without_a_customer_are_groups_of_their_own():
    assert len(set(groups(["a", None, "a", "", None, "r1"]).tolist())) == 5
    assert groups(["a", None, "a"])[0] == groups(["a", None, "a"])[2]


def test_every_decisive_figure_has_a_better_side():
    assert {"auc", "logLoss", "log_loss", "macroF1", "ece", "mae", "spendDeviance"} <= set(BETTER)


def test_plots_are_svg_with_a_line_for_each_model_and_the_name_of_the_data():
    y, p = outcomes(9)
    models = {"a<b": model(y, p), "other": model(y, p**2)}
    for picture in (plots.calibration, plots.lift):
        root = ElementTree.fromstring(picture(models, "visits & more.csv"))
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "visits & more.csv" in texts[0]
        assert {"a<b", "other"} <= set(texts)
        assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_a_perfect_ranking_captures_all_outcomes_first_and_a_tie_captures_them_evenly():
    y = np.array([1.0, 0, 0, 1, 0, 0, 0, 0])
    perfect = dict(plots.lift_points(y, y))
    assert (perfect[0.25], perfect[1.0]) == (1.0, 1.0)
    assert all(share == pytest.approx(captured) for share, captured in plots.lift_points(y, np.ones(8)))


def test_the_lift_of_many_rows_has_few_points():
    y, p = outcomes(10, 50_000)
    points = plots.lift_points(y, p)
    assert len(points) <= plots.POINTS + 1
    assert points[0] == (0, 0)
    assert points[-1] == (1, pytest.approx(1))


def test_a_bootstrap_has_enough_samples_for_its_level():
    assert RESAMPLES * (1 - comparison.LEVEL) / 2 >= 5
    assert judged.NAMES.keys() == metrics.figures(*outcomes(11)).keys()
