import copy
import json

import msgspec
import pytest

from serving.commands.explanation import differences
from serving.engines import ENGINES, named
from serving.scoring.question import score
from serving.settings import Settings


@pytest.fixture
def answers(bundle_of):
    """Return the answers of a question to its example, changed by `change`, as JSON objects."""

    def of(task, *changes, bundle=None):
        engine = named(task)
        scorer = engine.load(bundle or bundle_of(task), Settings())
        found = []
        for change in changes:
            request = copy.deepcopy(dict(engine.example))
            change(request)
            decoded = msgspec.json.decode(msgspec.json.encode(request), type=engine.request)
            found.append(json.loads(score(scorer, [decoded]).bodies[0]))
        return found

    return of


@pytest.fixture
def explained(answer, asked, tmp_path):
    """Explain two answers: the object of --json, and the lines for people."""

    def run(a, b):
        paths = [tmp_path / "a.json", tmp_path / "b.json"]
        for path, content in zip(paths, (a, b), strict=True):
            path.write_text(json.dumps(content))
        code, data = answer("explain", *paths)
        assert code == 0
        return data, asked("explain", *paths)[1]

    return run


def same(request):
    pass


def test_answers_to_one_request_are_the_same_but_for_their_time(answers, explained):
    data, out = explained(*answers("churn", same, same))
    assert (data["same"], data["why"], data["results"]) == (True, [], [])
    assert "the answers are the same" in out


def test_another_input_is_named_with_both_values_and_what_it_adds(answers, explained):
    a, b = answers("churn", same, lambda request: request["features"].update(tenure=60))
    data, out = explained(a, b)
    (tenure,) = (one for one in data["factors"] if one["factor"] == "tenure")
    listed = {one["name"]: one for one in a["factors"]}, {one["name"]: one for one in b["factors"]}
    assert (tenure["valueA"], tenure["valueB"]) == (2, 60)
    assert tenure["difference"] == pytest.approx(listed[1]["tenure"]["contribution"] - listed[0]["tenure"]["contribution"])
    assert data["why"] == ["other inputs: tenure"]
    risk = next(one for one in data["results"] if one["field"] == "churnRisk")
    assert risk["difference"] == pytest.approx(b["churnRisk"] - a["churnRisk"])
    assert "2 -> 60" in out


def test_contributions_of_equal_factors_add_up_to_the_difference_of_the_margins(answers, explained):
    def all_factors(request):
        request["maxFactors"] = 50

    def other(request):
        all_factors(request)
        request["features"].update(tenure=60, Contract="Two year")

    a, b = answers("churn", all_factors, other)
    data, _ = explained(a, b)
    assert sum(one["difference"] for one in data["factors"]) == pytest.approx(b["margin"] - a["margin"])


def test_a_feature_that_is_missing_in_one_answer_alone_is_a_reason(answers, explained):
    a, b = answers("churn", same, lambda request: request["features"].pop("tenure"))
    data, out = explained(a, b)
    assert data["missing"] == {"a": [], "b": ["tenure"]}
    assert "tenure is missing in B alone" in data["why"]
    assert "tenure is missing in B alone" in out


def test_another_model_is_the_first_reason(answers, explained, bundle, second_bundle):
    (a,), (b,) = answers("purchase", same, bundle=bundle), answers("purchase", same, bundle=second_bundle)
    data, out = explained(a, b)
    assert data["why"][0] == "another model"
    assert data["reasons"][0] == {"field": "modelVersion", "a": bundle.version, "b": second_bundle.version}
    assert bundle.version[:40] in out


def test_answers_about_two_customers_and_moments_say_so(answers, explained):
    def other(request):
        request.update(customerId="another", asOf="2026-01-31T09:30:00Z")

    data, _ = explained(*answers("churn", same, other))
    assert data["why"][0] == "they are about another customer"
    assert "another moment" in data["why"]


def test_rules_that_moved_a_price_are_compared_by_their_names(answers, explained):
    data, _ = explained(*answers("pricing", same, lambda request: request["contextData"].update(inventoryLevel=3)))
    fields = {one["field"] for one in data["results"]}
    assert "recommendedPrice" in fields
    assert any(field.startswith("adjustments[") and not field.startswith("adjustments[0]") for field in fields)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_question_is_recognised_by_its_answer(engine, bundle_of, explained):
    scorer = engine.load(bundle_of(engine.name), Settings())
    body = json.loads(score(scorer, [engine.decode_example()]).bodies[0])
    assert explained(body, body)[0]["question"] == engine.name


def test_answers_of_two_questions_are_not_compared(asked, answers, tmp_path):
    for name, task in (("a", "churn"), ("b", "pricing")):
        (tmp_path / f"{name}.json").write_text(json.dumps(answers(task, same)[0]))
    code, _, err = asked("explain", tmp_path / "a.json", tmp_path / "b.json")
    assert (code, "compare answers of one question" in err) == (2, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is a list; give one answer"),
        ("3", "is no object"),
        ('{"type": "/problems/not-ready", "title": "Not ready", "detail": "soon"}', "is an error, 'Not ready': soon"),
        ('{"customerId": "x"}', "is no answer of /v1/purchase-prediction"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_answer_is_named(asked, answers, tmp_path, content, said):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(answers("churn", same)[0]))
    if content is not None:
        bad.write_text(content)
    code, _, err = asked("explain", good, bad)
    assert code == 2
    assert "bad.json" in err
    assert said in err


def test_factors_that_only_one_answer_lists_come_last_without_a_difference():
    one = {"factors": [{"name": "a", "value": 1, "contribution": 0.5}, {"name": "b", "value": 2, "contribution": 0.1}]}
    other = {"factors": [{"name": "a", "value": 1, "contribution": -2.0}, {"name": "c", "value": 3, "contribution": 9.0}]}
    found = differences.of(one, other)
    assert [(factor.factor, factor.difference) for factor in found.factors] == [("a", -2.5), ("b", None), ("c", None)]
    assert found.why() == []  # no input differs: what both list has the same value
