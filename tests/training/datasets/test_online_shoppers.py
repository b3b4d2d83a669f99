"""A published row is a request without interactions: table and request give one score."""

import csv

import msgspec
import numpy as np
import pytest

from serving.engines.purchase.scorer import PURCHASE
from serving.settings import Settings
from training import features
from training.datasets import online_shoppers
from training.models.purchase.model import PurchaseModel
from training.tables import frames, sessions

CELLS = "3,142.5,0,0,12,600.25,0.01,0.025,12.5,0.4,June,2,4,3,20,Returning_Visitor,TRUE,FALSE"
ROW = next(csv.DictReader([",".join(online_shoppers.COLUMNS), CELLS]))


def decode(row):
    return msgspec.json.decode(msgspec.json.encode(online_shoppers.request_of(row)), type=PURCHASE.request)


def test_every_published_column_is_a_field_and_every_field_is_there_once():
    fields = list(online_shoppers.COLUMNS.values())
    assert len(set(fields)) == len(fields) == 18
    assert set(fields) - {"purchased"} <= set(features.NAMES)


@pytest.mark.parametrize(("name", "number"), [("June", 6), ("jun", 6), ("Sept", 9), ("december", 12), ("May", 5)])
def test_a_month_has_its_number_by_any_of_its_names(name, number):
    assert online_shoppers.MONTHS[name.lower()] == number


def test_a_row_becomes_a_request_with_the_same_values():
    body = online_shoppers.request_of(ROW, "s-1")
    assert body["sessionId"] == "s-1"
    behavior, context = body["behaviorData"], body["contextData"]
    assert behavior["aggregates"] == {
        "administrativeCount": 3,
        "administrativeSeconds": 142.5,
        "informationalCount": 0,
        "informationalSeconds": 0.0,
        "productCount": 12,
        "productSeconds": 600.25,
        "bounceRate": 0.01,
        "exitRate": 0.025,
        "pageValue": 12.5,
    }
    assert (behavior["pageViews"], behavior["timeOnSite"], behavior["interactions"]) == (15, 742.75, [])
    assert (context["month"], context["dayOfWeek"], context["specialDay"], context["location"]) == (6, 6, 0.4, {"region": "3"})
    assert (context["visitorType"], context["trafficType"]) == ("Returning_Visitor", "20")
    assert online_shoppers.request_of({**ROW, "Weekend": "FALSE"})["contextData"]["dayOfWeek"] not in (0, 6)


@pytest.mark.slow
def test_published_rows_score_alike_from_table_request_and_model(published, published_csv):
    """The trees never look at what a request must carry and the table lacks, so the scores are the same to the bit."""
    scorer, model = PURCHASE.load(published, Settings()), PurchaseModel.load(published)
    frame = frames.read(published_csv, numbers=sessions.TABLE.number_columns())
    with published_csv.open() as file:
        rows = list(csv.DictReader(file))
    picked = np.random.default_rng(5).choice(len(rows), 300, replace=False)
    direct = model.score(sessions.matrix(frame, model.vocabulary))
    table = scorer.output_columns(scorer.run(scorer.table(frame)))
    requests = [decode(rows[i]) for i in picked]
    answers = scorer.rows(requests, scorer.run(scorer.columns(requests)))
    assert np.array_equal(table["purchaseProbability"], direct.probability)
    assert [answer.purchase_probability for answer in answers] == direct.probability[picked].tolist()
    assert [answer.confidence_score for answer in answers] == direct.confidence[picked].tolist()
