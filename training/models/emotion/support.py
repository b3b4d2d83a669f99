"""Frustration as a support agent reads it: calibrated on support messages, because readers of a forum leave polite complaints out.

The log-odds are a line over the general log-odds of frustration and the directions of three mean states of the encoder. The line is fitted
on the messages of support.tsv, where the rule of their labels is, and on general texts, which have an intercept of their own, so that their
order is kept. Scores of messages whose topic was left out of the fit calibrate it and decide the threshold.
"""

import math
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.types import F32, F64, I64
from training.evaluation import metrics as evaluate
from training.models.emotion.encoder import LAYERS, WIDTH
from training.models.shared.calibration import Platt, probability
from training.models.shared.folds import grouped

MESSAGES = Path(__file__).with_name("support.tsv")
STATES = (0, LAYERS // 2, LAYERS)  # mean states before the first layer, after the third and after the last
MAX_FALSE_ALARMS = 0.1  # share of messages without frustration that may be at or above the threshold
FOLDS, MAX_GENERAL = 5, 5000
RIDGE = 3.0  # of the coefficients; 3 and 10 tried by topics
GENERAL_WEIGHT = 0.3  # of all general texts together, in times the messages: more finds fewer complaints, less orders general texts worse
GENERAL_SCALE, STATE_SCALE, DOMAIN_SCALE = 0.5, 3.0, 3.0  # of the columns of the fit: the larger, the less regularised


class Messages(NamedTuple):
    """Support messages. y: float64 [messages], 1 where frustrated; topic: int64 [messages]; sha256: of the file."""

    texts: list[str]
    y: F64
    topic: I64
    sha256: str


class SupportHead:
    """The line: `general` times the general log-odds, plus `states` [len(STATES), WIDTH] times directions, plus `intercept`."""

    def __init__(self, general: float, states: F32, intercept: float) -> None:
        if states.shape != (len(STATES), WIDTH):
            raise ValueError(f"the weights of states have the shape {states.shape}; {(len(STATES), WIDTH)} is needed")
        self.general, self.states, self.intercept = general, states, intercept
        self._weights = states.astype(np.float64)

    def margin(self, features: NDArray[np.floating], general: float) -> float:
        """Return the log-odds of a text; features: the head's inputs, [FEATURES]; general: the general log-odds of frustration."""
        return self.general * general + float((self._weights * directions(features[None])[0]).sum()) + self.intercept

    def packed(self) -> dict[str, Tensor]:
        """Return the line in the format of the bundle."""
        line = torch.tensor([self.general, self.intercept], dtype=torch.float64)
        return {"line": line, "states": torch.from_numpy(self.states)}

    @classmethod
    def unpacked(cls, content: Mapping[str, Tensor]) -> "SupportHead":
        """Return the line that `packed` returned. Raises KeyError or ValueError for an invalid one."""
        general, intercept = content["line"].tolist()
        return cls(general, content["states"].float().numpy(), intercept)


class SupportFit(NamedTuple):
    """A fitted line. threshold: the probability from which a text counts as frustrated; figures: on topics left out of the fit."""

    head: SupportHead
    threshold: float
    figures: dict[str, Any]


@cache
def messages() -> Messages:
    """Return the messages of the package."""
    content = MESSAGES.read_bytes()
    rows = [line.split("\t") for line in content.decode().splitlines() if not line.startswith("#")]
    y, topics, texts = zip(*rows, strict=True)
    topic = np.unique(np.array(topics), return_inverse=True)[1].astype(np.int64)
    return Messages(list(texts), np.array(y, np.float64), topic, sha256(content).hexdigest())


def directions(features: NDArray[np.floating]) -> F64:
    """Return the mean states of STATES, each of length 1, float64 [texts, len(STATES), WIDTH]; features: [texts, FEATURES]."""
    states = features[:, : (LAYERS + 1) * WIDTH].reshape(-1, LAYERS + 1, WIDTH)[:, STATES].astype(np.float64)
    return np.asarray(states / np.sqrt((states * states).sum(-1, keepdims=True)))


def sample(texts: int) -> I64:
    """Return evenly spaced indices of at most MAX_GENERAL of the general texts."""
    return np.arange(0, texts, max(1, -(-texts // MAX_GENERAL)))


def fit(
    features: NDArray[np.floating], general: F64, others: NDArray[np.floating], others_general: F64, others_y: F64, seed: int
) -> SupportFit:
    """Return the line fitted on the package's messages and on other, general texts.

    features, others: the head's inputs [texts, FEATURES] of the messages and of the others; general, others_general: their general log-odds
    [texts]; others_y: float64 [texts], 1 where readers found frustration.
    """
    own = messages()
    x, z = _design(features, general, 0.0), _design(others, others_general, 1.0)
    folds = grouped(own.y, own.topic, FOLDS, seed)
    held_out = np.empty(len(own.y))
    for learn, judge in folds:
        held_out[judge] = _line(x[learn], own.y[learn], z, others_y).decision_function(x[judge])
    platt = Platt.fit(held_out, own.y)
    line = _line(x, own.y, z, others_y)
    weights = platt.slope * line.coef_[0]
    states = (weights[1:-1] * STATE_SCALE).reshape(len(STATES), WIDTH).astype(np.float32)
    head = SupportHead(float(weights[0] * GENERAL_SCALE), states, float(platt.slope * line.intercept_[0] + platt.intercept))
    stated = probability(platt.apply(held_out))
    limit = threshold(stated, own.y)
    figures = {
        "texts": len(own.y),
        "sha256": own.sha256,
        "auc": evaluate.auc(own.y, stated),
        "ece": evaluate.ece(own.y, stated),
        "threshold": limit,
        "recall": float((stated[own.y == 1] >= limit).mean()),
        "falseAlarms": float((stated[own.y == 0] >= limit).mean()),
    }
    return SupportFit(head, limit, figures)


def threshold(stated: F64, y: F64) -> float:
    """Return the lowest probability, in hundredths, that at most MAX_FALSE_ALARMS of the texts without frustration reach."""
    calm = np.sort(stated[y == 0])[::-1]
    return min(1.0, math.floor(100 * float(calm[int(MAX_FALSE_ALARMS * len(calm))]) + 1) / 100)


def _design(features: NDArray[np.floating], general: F64, domain: float) -> F64:
    """Return the columns of the fit: the general log-odds, the states, and whether a text is a general one."""
    states = directions(features).reshape(len(features), -1)
    return np.column_stack([general * GENERAL_SCALE, states * STATE_SCALE, np.full(len(states), domain * DOMAIN_SCALE)])


def _line(x: F64, y: F64, others: F64, others_y: F64) -> Any:
    from sklearn.linear_model import LogisticRegression

    weight = np.concatenate([np.ones(len(x)), np.full(len(others), GENERAL_WEIGHT * len(x) / len(others))])
    line = LogisticRegression(C=1 / RIDGE, solver="newton-cholesky", max_iter=100)
    return line.fit(np.concatenate([x, others]), np.concatenate([y, others_y]), sample_weight=weight)
