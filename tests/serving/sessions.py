"""Requests about sessions, and a purchase model whose every SHAP value is known, for tests of the engine without XGBoost."""

import copy
import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np

from kernels.types import F32, F64
from serving.engines import actions
from serving.engines.purchase.scorer import PurchaseScorer, check
from serving.engines.purchase.types import PurchasePredictionRequest, PurchasePredictionResponse
from serving.settings import CONFIGS
from training.features import FEATURES, NAMES, Vocabulary

Body = dict[str, Any]
NOW = datetime(2026, 11, 22, 9, 30, 0, 250_000, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
VOCABULARY = Vocabulary.fit(
    {
        "deviceType": ["desktop", "mobile", "unknown"],
        "operatingSystem": [1, 2, 3],
        "browser": [1, 2, 13],
        "region": ["NL-NH", "NL-ZH"],
        "trafficType": ["direct", "organic", "social"],
        "visitorType": ["New_Visitor", "Other", "Returning_Visitor"],
    }
)


class Scores(NamedTuple):
    margin: F64
    probability: F64
    confidence: F64


class LinearModel:
    """A model whose SHAP values are known: a weight for each feature, nothing for what is missing.

    It keeps what it was asked to explain.
    """

    version = "purchase-20260101T000000Z-00000000"
    vocabulary = VOCABULARY
    order_value = 80.0
    currency = "EUR"
    bias = -1.25
    used = frozenset(NAMES)

    def __init__(self, weights: F64 | None = None) -> None:
        self.weights = np.sin(np.arange(len(NAMES)) + 1.0) * 0.01 if weights is None else weights
        self.explained: list[F32] = []

    def score(self, X: F32) -> Scores:
        margin = np.array([math.fsum(row) for row in self._shares(X)]) + self.bias
        probability = 1 / (1 + np.exp(-margin))
        return Scores(margin, probability, 1 - probability / 2)

    def shap(self, X: F32) -> tuple[F64, float]:
        self.explained.append(X.copy())
        return self._shares(X), self.bias

    def _shares(self, X: F32) -> F64:
        return np.nan_to_num(X.astype(np.float64)) * self.weights


def scorer(model: LinearModel | None = None) -> PurchaseScorer:
    rules = actions.load(CONFIGS / "actions.yaml", "purchase", FEATURES)
    return PurchaseScorer(LinearModel() if model is None else model, rules, clock=NOW.timestamp)


def bare(**changes: Any) -> Body:
    """Return the smallest request; `changes` are by path, such as behaviorData__referrer."""
    body: Body = {
        "sessionId": "s",
        "behaviorData": {"pageViews": 4, "timeOnSite": 60, "interactions": [], "currentPage": "https://shop.example/"},
        "contextData": {"deviceType": "mobile", "timeOfDay": 13.5, "dayOfWeek": 1},
    }
    return put(body, changes)


def put(body: Body, changes: Body) -> Body:
    copied = copy.deepcopy(body)
    for path, value in changes.items():
        *parents, field = path.replace("__", ".").split(".")
        place = copied
        for parent in parents:
            place = place.setdefault(parent, {})
        place[field] = value
    return copied


def decoded(body: Body) -> PurchasePredictionRequest:
    request = msgspec.json.decode(msgspec.json.encode(body), type=PurchasePredictionRequest)
    check(request)
    return request


def row(body: Body) -> dict[str, float]:
    """Return the features of a request by name."""
    return dict(zip(NAMES, scorer().columns([decoded(body)]).X[0].tolist(), strict=True))


def answer(body: Body, model: LinearModel | None = None) -> PurchasePredictionResponse:
    one, request = scorer(model), decoded(body)
    return one.rows([request], one.run(one.columns([request])))[0]


def at(seconds: float, kind: str = "click", **fields: Any) -> Body:
    return {"type": kind, "timestamp": int(NOON.timestamp() * 1000 + seconds * 1000), **fields}


def same(left: Body, right: Body) -> bool:
    return bool(np.array_equal(scorer().columns([decoded(left)]).X, scorer().columns([decoded(right)]).X, equal_nan=True))


VISIT = [
    at(0, "page_view", pageKind="home"),
    at(4, "search", pageKind="search"),
    at(9, "product_view", pageKind="product", waitMs=250),
    at(9.5, "click", pageKind="product", x=10, y=10),
    at(9.7, "click", pageKind="product", x=12, y=10),
    at(9.9, "click", pageKind="product", x=12, y=11),
    at(30, "add_to_cart", pageKind="product"),
    at(42, "page_view", pageKind="informational"),
    at(50, "checkout", pageKind="checkout"),
]


def visit(events: list[Body], **changes: Any) -> Body:
    return bare(behaviorData__interactions=events, **changes)
