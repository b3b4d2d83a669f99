"""Fit treatment effects of a randomised experiment: by a T-learner and an X-learner, compared by Qini.

Both learners are EconML's (Kuenzel et al. 2019), over XGBoost. Their effects are distilled into one small forest for each arm, so that
scoring does not need EconML. Each forest is evaluated by cross-validation: every customer is held out once, and the Qini coefficient is the
mean over the folds. Where it is not SIGNIFICANT standard errors above 0, the data do not show that the arm's effect differs between
customers, and every customer gets the average; where that is not as many standard errors away from 0, every customer gets 0.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xgboost as xgb

from kernels.types import F32, F64, I64
from training.errors import TableError
from training.evaluation import qini
from training.models.churn import uplift
from training.models.shared import folds, trees
from training.models.shared.folds import Fold, grouped, stratified
from training.tables.customers import LabelledCustomers

FOLDS = 5
SIGNIFICANT = 2.0  # standard errors between 0 and an effect that is served
MIN_OF_ARM = 200  # customers needed in every arm
# Each fit has one core, because the folds are fitted at the same time.
DISTILLED = {"objective": "reg:squarederror", "tree_method": "hist", "max_depth": 3, "eta": 0.15, "min_child_weight": 30, "nthread": 1}
DISTILLED_ROUNDS = 60
ASSIGNMENT = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.1, "nthread": 1}
LEARNER: Mapping[str, Any] = {
    "n_estimators": 80,
    "max_depth": 3,
    "learning_rate": 0.08,
    "min_child_weight": 30,
    "subsample": 0.8,
    "n_jobs": 1,
}
MAX_IMBALANCE = 4.0  # standard errors of the AUC by which features may predict the arm without a warning

Learn = Callable[[F32, F64, I64, int], F64]


def fit(rows: LabelledCustomers, X: F32, seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files that a bundle holds of the experiment, without uplift.json, and the content of metrics.json's `uplift`.

    X: float32 [n, features], the rows as the served model takes them. Raises TableError where an arm has too few customers, or EconML is
    not installed.
    """
    assert rows.arm is not None, "effects without an experiment: this is a bug"
    stays = 1 - rows.y
    _check(rows)
    judged = _judge(rows, X, stays, seed)
    served = max(judged, key=lambda name: sum(one["qini"] for one in judged[name]))
    effect = LEARNERS[served](X, stays, rows.arm, seed)
    files, arms = dict[str, bytes](), list[dict[str, Any]]()
    for place, (name, booster) in enumerate(zip(rows.arms[1:], _distilled(X, effect, seed), strict=True)):
        differs = judged[served][place]["qini"] > SIGNIFICANT * judged[served][place]["error"]
        average, error = _average(stays, rows.arm, place + 1)
        shown = abs(average) > SIGNIFICANT * error
        arms.append({"name": name, "average": average, "averageError": error, "significant": shown, "differs": differs})
        if differs:
            files[uplift.trees_of(place)] = bytes(booster.save_raw("ubj"))
    return files, {
        "control": rows.arms[0],
        "arms": [{**arm, "customers": int((rows.arm == place).sum())} for place, arm in enumerate(arms, 1)],
        "retentionByArm": {name: float(stays[rows.arm == place].mean()) for place, name in enumerate(rows.arms)},
        "heldOut": len(stays),
        "folds": FOLDS,
        "learners": {name: dict(zip(rows.arms[1:], found, strict=True)) for name, found in judged.items()},
        "served": served,
        "balance": balance(rows, X, seed),
    }


def balance(rows: LabelledCustomers, X: F32, seed: int) -> dict[str, Any]:
    """Return how well the features predict who was treated, out of fold: the AUC is about .5 under random assignment."""
    assert rows.arm is not None, "balance without an experiment: this is a bug"
    treated = (rows.arm > 0).astype(np.float64)
    held_out = np.empty(len(treated))
    for learn, judge in stratified(treated, 3, seed):
        data = xgb.QuantileDMatrix(X[learn], treated[learn])
        booster = xgb.train({**ASSIGNMENT, "seed": seed}, data, 40)
        held_out[judge] = trees.margin(booster, X[judge])
    from training.evaluation import metrics

    area = metrics.auc(treated, held_out)
    some, others = treated.sum(), len(treated) - treated.sum()
    error = float(np.sqrt((some + others + 1) / (12 * some * others)))  # of the AUC of a random ranking (Mann & Whitney 1947)
    return {"auc": area, "error": error, "randomized": bool(abs(area - 0.5) < MAX_IMBALANCE * error)}


def _two_models(X: F32, outcome: F64, arm: I64, seed: int) -> F64:
    """Return the effect of each arm on each row, float64 [n, arms], as the difference of the models of the arms."""
    from econml.metalearners import TLearner

    learner = TLearner(models=_model(seed), allow_missing=True)
    return _effects(learner.fit(outcome, arm, X=X), X)


def _x_learner(X: F32, outcome: F64, arm: I64, seed: int) -> F64:
    """Return the effects that an X-learner imputes, float64 [n, arms]."""
    from econml.metalearners import XLearner
    from sklearn.dummy import DummyClassifier

    by_chance = DummyClassifier(strategy="prior")
    learner = XLearner(models=_model(seed), cate_models=_model(seed), propensity_model=by_chance, allow_missing=True)
    return _effects(learner.fit(outcome, arm, X=X), X)


LEARNERS: Mapping[str, Learn] = {"two_model": _two_models, "x_learner": _x_learner}


def _model(seed: int) -> Any:
    return xgb.XGBRegressor(**LEARNER, tree_method="hist", random_state=seed)


def _effects(learner: Any, X: F32) -> F64:
    return np.asarray(learner.const_marginal_effect(X), np.float64).reshape(len(X), -1)


def _distilled(X: F32, effect: F64, seed: int) -> list[xgb.Booster]:
    """Return a small forest for each arm, fitted to the learner's effects [n, arms]."""
    found = []
    for column in effect.T:
        data = xgb.QuantileDMatrix(X, column)
        found.append(xgb.train({**DISTILLED, "seed": seed}, data, DISTILLED_ROUNDS))
    return found


def _judge(rows: LabelledCustomers, X: F32, stays: F64, seed: int) -> dict[str, list[dict[str, float]]]:
    """Return for each learner the Qini coefficient of each arm against the control and its standard error: means over the folds."""
    assert rows.arm is not None, "effects without an experiment: this is a bug"
    cut = grouped(rows.arm.astype(np.float64), rows.customer, FOLDS, seed)
    fits: list[Callable[[], Any]] = [
        partial(_held_out_qini, rows.arm, X, stays, fold, learner, seed) for learner in LEARNERS.values() for fold in cut
    ]
    found = np.array(folds.run(fits, len(os.sched_getaffinity(0)), lambda share: None)).reshape(len(LEARNERS), FOLDS, -1, 2)
    coefficients, errors = found[..., 0].mean(axis=1).tolist(), (np.sqrt(np.square(found[..., 1]).sum(axis=1)) / FOLDS).tolist()
    return {
        name: [{"qini": one, "error": error} for one, error in zip(*pair, strict=True)]
        for name, *pair in zip(LEARNERS, coefficients, errors, strict=True)
    }


def _held_out_qini(arm: I64, X: F32, stays: F64, fold: Fold, learner: Learn, seed: int) -> list[tuple[float, float]]:
    """Return the Qini coefficient of each arm on a fold's held-out rows, and its standard error."""
    learn, found = fold.learn, list[tuple[float, float]]()
    for place, booster in enumerate(_distilled(X[learn], learner(X[learn], stays[learn], arm[learn], seed), seed), 1):
        own = fold.judge[(arm[fold.judge] == 0) | (arm[fold.judge] == place)]
        of = trees.margin(booster, X[own]), arm[own] > 0, stays[own]
        found.append((qini.coefficient(*of), qini.standard_error(*of, seed)))
    return found


def _average(outcome: F64, arm: I64, place: int) -> tuple[float, float]:
    """Return the average effect of an arm, and its standard error."""
    treated, control = outcome[arm == place], outcome[arm == 0]
    error = np.sqrt(treated.var(ddof=1) / len(treated) + control.var(ddof=1) / len(control))
    return float(treated.mean() - control.mean()), float(error)


def _check(rows: LabelledCustomers) -> None:
    counts = {name: int(np.count_nonzero(rows.arm == place)) for place, name in enumerate(rows.arms)}
    few = [f"{name!r} has {count}" for name, count in counts.items() if count < MIN_OF_ARM]
    if few:
        raise TableError(
            f"too few customers to estimate treatment effects: {', '.join(few)}, {MIN_OF_ARM} are needed in every arm; collect more"
        )
    try:
        import econml  # noqa: F401
    except ImportError as error:
        raise TableError("effects need EconML; install it with: pip install 'revenue-engine[uplift]', or leave `treatment` out") from error
