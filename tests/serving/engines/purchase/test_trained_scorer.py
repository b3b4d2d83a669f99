"""The purchase engine with a trained model, loaded from a bundle as the server loads it."""

import math

import msgspec
import numpy as np
import polars as pl
import pytest

from serving import settings
from serving.engines.purchase.scorer import PURCHASE
from serving.engines.purchase.types import PurchasePredictionRequest, PurchasePredictionResponse
from training.features import CATEGORIES, INDEX, NAMES
from training.registry.bundle import Bundle


@pytest.fixture(scope="module")
def scorer(bundle: Bundle):
    return PURCHASE.load(bundle, settings.load())


@pytest.fixture(scope="module")
def requests(shop_folder) -> list[PurchasePredictionRequest]:
    lines = (shop_folder / "requests.ndjson").read_bytes().splitlines()[:1_000]
    everything = len(NAMES)
    limits = [None, 0, 1, 3, everything]
    asked = [msgspec.json.decode(line, type=PurchasePredictionRequest) for line in lines]
    return [msgspec.structs.replace(one, max_factors=limits[i % len(limits)]) for i, one in enumerate(asked)]


@pytest.fixture(scope="module")
def answers(scorer, requests) -> list[PurchasePredictionResponse]:
    return scorer.rows(requests, scorer.run(scorer.columns(requests)))


def test_factors_and_bias_equal_the_margin_on_a_thousand_requests(answers: list[PurchasePredictionResponse]) -> None:
    assert len(answers) == 1_000
    assert len({answer.margin for answer in answers}) > 500
    for answer in answers:
        assert math.fsum(factor.contribution for factor in answer.factors) + answer.bias == pytest.approx(answer.margin, abs=1e-4)
        assert 1 / (1 + math.exp(-answer.margin)) == pytest.approx(answer.purchase_probability, abs=1e-12)


def test_a_row_of_a_table_scores_as_its_request(scorer, requests, answers, shop_folder) -> None:
    frame = pl.read_parquet(shop_folder / "sessions.parquet").head(len(requests))
    assert frame["sessionId"].to_list() == [request.session_id for request in requests]
    columns = scorer.table(frame)
    np.testing.assert_array_equal(columns.X, scorer.columns(requests).X)
    output = scorer.output_columns(scorer.run(columns))
    assert list(output["purchaseProbability"]) == [answer.purchase_probability for answer in answers]
    assert list(output["confidenceScore"]) == [answer.confidence_score for answer in answers]


def test_a_category_is_shown_by_its_name(requests, answers) -> None:
    shown = {
        (factor.name, factor.value)
        for answer in answers
        for factor in answer.factors
        if factor.name in CATEGORIES and factor.value is not None
    }
    assert shown
    assert {type(value) for _, value in shown} == {str}
    devices = {value for name, value in shown if name == "deviceType"}
    assert devices <= {request.context_data.device_type for request in requests}


def test_no_value_is_made_up(answers) -> None:
    for answer in answers:
        for factor in answer.factors:
            if factor.name in INDEX:
                assert (factor.value is None) == (factor.name in answer.missing_features)
