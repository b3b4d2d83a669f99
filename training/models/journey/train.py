"""Train the journey model, step by step: read sessions, fit the networks, fit the trees on their outputs, evaluate both.

A session gives one training row after each of its first events, without the later ones. Whether it has ended is an input, and the ended
session is a row of its own: the length of a session predicts a purchase and must not leak into the rows of a running session.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xgboost as xgb

from kernels.networks import gru
from kernels.networks.gru import Network
from kernels.sessions.journey import LAST_GAPS, LAST_PAGES
from kernels.types import F32, F64, I64, Bool
from training.datasets.shop.mark import is_simulated
from training.errors import CellError, TableError
from training.evaluation import metrics as evaluate
from training.evaluation.curves import picture as curves_of
from training.models.journey import card as journey_card
from training.models.journey import model as journey
from training.models.journey import network, next_step, train_heads
from training.models.journey.checkpoint import Checkpoint, Curve, array_bytes
from training.models.journey.model import EXIT, PAGES
from training.models.journey.network import EPOCHS, WIDTH, Progress, SessionArrays, padded, scaling
from training.models.journey.network import fit as fit_network
from training.models.journey.prior import UNSEEN, JourneyPrior
from training.models.journey.train_heads import HeadTrainer
from training.models.shared.calibration import Blend, Platt
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import software
from training.registry.simulated import SIMULATED
from training.tables import journeys
from training.tables import outcomes as outcomes_table
from training.tables.cells import DEFAULT, EMPTY_ONLY, CellOptions
from training.tables.journeys import Journeys
from training.tables.outcomes import Outcomes
from training.tables.table import Mapped, listed

MIN_SESSIONS, MIN_OF_CLASS = 400, 40
MAX_PAGES = 23  # steps with their own number: the trees' features count the transitions between them
AFTER = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30, 40, 60, 100)  # events after which a session gives a training row
EVALUATED = (5, 10, None)  # events after which a session is evaluated; None: after its last, ended
HELD_OUT, FOLDS = 0.2, 3
UNNAMED = ("", "-1")  # page kinds without a name
ROUNDS = 320
LEAF_SHARE, MAX_LEAF_WEIGHT = 1 / 500, 30.0  # min_child_weight: this share of the training weight, at most MAX_LEAF_WEIGHT
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.025,
    "max_depth": 5,
    "subsample": 0.7,
    "colsample_bytree": 0.4,
    "reg_lambda": 5,
}
BASELINE: Mapping[str, Any] = {"objective": "binary:logistic", "tree_method": "hist", "eta": 0.1, "max_depth": 4}
BASELINE_ROUNDS = 100


class Prefixes(NamedTuple):
    """The training rows: session, number of events, and whether the session has ended; [rows] each."""

    session: I64
    size: I64
    ended: Bool


class Stack(NamedTuple):
    """Training data of the trees. y: whether the row's session bought; weight: of the row; part: the fold of its session; outputs: of the
    network that was fitted without that fold; X: the trees' features, which include these outputs.
    """

    rows: Prefixes
    y: F64
    weight: F64
    part: I64
    outputs: F32
    X: F32


class FittedJourney(NamedTuple):
    """The networks with their scaling, the trees, the blends of their margins by name, and the calibration of exits."""

    networks: Sequence[Network]
    scaling: F32
    booster: xgb.Booster
    blends: Mapping[str, Blend]
    exits: Platt

    def calibration(self) -> dict[str, Any]:
        """Return the blends and the calibration of exits for calibration.json."""
        blends = {name: blend.content() for name, blend in self.blends.items()}
        return {**blends, journey.EXITS: self.exits.content()}


class TrainingSessions(NamedTuple):
    """Sessions to train on: their table and arrays, the names of steps with a number, the prior for sessions without a step, and warnings
    about what was left out.
    """

    table: Journeys
    sessions: SessionArrays
    pages: tuple[str, ...]
    prior: JourneyPrior
    warnings: Sequence[str]


def train(data: Path, out: Path, *, mapping: Mapped, cells: CellOptions = DEFAULT, seed: int, progress: Progress) -> Bundle:
    """Fit on the sessions in `data`, evaluate on those held out, write the bundle into `out` (new or empty) and return it.

    data: a folder with events and sessions, or one table of events. Sessions whose `split` is val are never trained on; without a split
    a fifth is held out. Raises TableError for a wrong or insufficient table, BundleError when `out` is taken.
    """
    bundles.require_free(out)
    progress("reading", 0.0)
    table, sessions, pages, prior, warnings = training_sessions(data, _read(data, mapping, cells))
    learn, judge = split(table, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        checkpoint = Checkpoint(out, _checkpoint_inputs(sessions, learn, pages, seed))
        nets, scales, curves = fit_networks(sessions, learn, len(pages) + 1, seed, checkpoint, progress)
        stack = stacked(sessions, learn, nets, scales, len(pages) + 1, seed)
        fitted, counting = fit_trees(sessions, stack, nets, scales, seed, progress)
        heads, about_heads = _heads(table, sessions, stack, seed)
        progress("evaluating", 0.86)
        candidates = _compare(sessions, fitted, counting, learn, judge, len(pages) + 1, seed)
    finally:
        torch.set_num_threads(threads)
    outcomes = _outcomes(data, cells)
    progress("writing", 0.99)
    metrics = {
        **_headlines(candidates),
        "candidates": candidates,
        "curve": curves,
        **about_heads,
        **({"steps": next_step.report(outcomes)} if outcomes is not None else {}),
        **_about(sessions, learn, judge, seed),
        "warnings": list(warnings),
    }
    meta = {
        "pages": list(pages),
        "attributes": list(table.names),
        "trainingData": {"name": data.name, "sessions": len(table.ids), "events": len(table.pages), SIMULATED: is_simulated(data)},
        "parameters": {**PARAMETERS, "rounds": ROUNDS, "width": WIDTH, "epochs": EPOCHS, "seed": seed},
        "software": software("numpy", "torch", "xgboost", "revenue-engine"),
    }
    from safetensors.numpy import save

    files = {
        journey.MODEL: bytes(fitted.booster.save_raw("ubj")),
        journey.NETWORK: save({**journey.packed(fitted.networks), journey.SCALING: fitted.scaling}),
        journey.CALIBRATION: bundles.encoded({**fitted.calibration(), UNSEEN: prior.content()}),
        journey.METRICS: bundles.encoded(metrics),
        journey.CURVES: curves_of(curves, {"loss": "Training loss", "auc": "AUC of held_out-out sessions, ended"}).encode(),
        **({next_step.FILE: bundles.encoded(next_step.fit(outcomes))} if outcomes is not None else {}),
        **heads,
        journey.CARD: journey_card.card(meta, metrics).encode(),
    }
    bundle = bundles.write(out, task=journey.TASK, files=files, meta=meta)
    checkpoint.remove()
    progress("done", 1.0)
    return bundle


def _read(data: Path, mapping: Mapped, cells: CellOptions) -> Journeys:
    try:
        return journeys.read(journeys.join(data, mapping, options=cells), options=EMPTY_ONLY)
    except CellError as error:
        raise TableError(f"{data}: {error}") from None


def training_sessions(data: Path, found: Journeys) -> TrainingSessions:
    """Return the sessions to train on, with warnings about the others. Raises TableError where there are too few."""
    if found.y is None:
        raise TableError(f"{data}: no column holds whether a session bought: name it with --map purchase=COLUMN")
    labelled = np.isfinite(found.y)
    names, counts = np.unique(np.array(found.pages, dtype=str), return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")]
    named = [name for name in frequent.tolist() if name not in UNNAMED]
    pages = tuple(sorted(named[:MAX_PAGES]))
    table = found.of(labelled).known(pages)
    assert table.y is not None, "labelled sessions lost their labels; this is a bug"
    page = journeys.coded(table.pages, journeys.codes(pages))
    sizes = np.diff(table.offsets)
    first = np.full(len(sizes), -1)
    first[sizes > 0] = page[table.offsets[:-1][sizes > 0]]
    warnings = [*found.warnings, *_left_out(int((~labelled).sum()), int((sizes == 0).sum()), named[MAX_PAGES:])]
    prior = JourneyPrior.fit(first, table.y, len(pages) + 1) if len(first) else None
    table = table.of(sizes > 0)
    y = np.asarray(table.y, np.float64)
    bought = int(y.sum())
    if prior is None or len(y) < MIN_SESSIONS or min(bought, len(y) - bought) < MIN_OF_CLASS:
        message = (
            f"insufficient data: {len(y)} sessions, {bought} of which bought; at least {MIN_SESSIONS} are needed, {MIN_OF_CLASS} that "
            f"bought and {MIN_OF_CLASS} that did not: collect more sessions"
        )
        raise TableError("; ".join((f"{data}: {message}", *warnings)))
    return TrainingSessions(table, SessionArrays(table.offsets, page, table.seconds, table.attributes, y), pages, prior, warnings)


def _left_out(unlabelled: int, stepless: int, rare: Sequence[str]) -> list[str]:
    """Return warnings about sessions and steps that are left out of training."""
    messages = {
        f"{unlabelled:,} sessions without a label were left out: fill in whether they bought": unlabelled,
        f"{stepless:,} sessions have no step: they are scored by the share of such sessions that bought": stepless,
        f"{len(rare):,} names beyond the {MAX_PAGES} most frequent have no number: pages count as unknown, other events are left out "
        f"({listed(sorted(rare))})": len(rare),
    }
    return [message for message, number in messages.items() if number]


def fit_networks(
    sessions: SessionArrays, learn: I64, pages: int, seed: int, checkpoint: Checkpoint, progress: Progress
) -> tuple[list[Network], F32, list[Curve]]:
    """Return a network for each fold of the sessions `learn`, fitted on the others, their scaling, and loss and AUC of their epochs."""
    fold = _folds(learn, seed)
    scales = scaling(sessions.attributes[learn])
    given = padded(sessions, pages, scales)
    nets, curves = [], []
    for number in range(FOLDS):  # one after the other: they share torch's random generator
        fold_progress = partial(_network_progress, progress, number)
        found = checkpoint.find(number)
        if found is None:
            found = fit_network(sessions, given, scales, learn[fold != number], pages, seed + number, fold_progress)
            checkpoint.save(number, *found)
        nets.append(found[0])
        curves.append(found[1])
    return nets, scales, curves


def stacked(sessions: SessionArrays, learn: I64, nets: Sequence[Network], scales: F32, pages: int, seed: int) -> Stack:
    """Return the training data of the trees: features of each row, and outputs of the network that was fitted without its session."""
    rows = prefixes(sessions, learn)
    part_of = np.full(len(sessions.y), -1)
    part_of[learn] = _folds(learn, seed)
    part = part_of[rows.session]
    outputs = np.empty((len(part), PAGES + pages), np.float32)
    for number, net in enumerate(nets):
        here = part == number
        outputs[here] = journey.margins([net], scales, sessions.columns(*(column[here] for column in rows)))
    return Stack(rows, sessions.y[rows.session], _weights(rows), part, outputs, journey.stacked(sessions.columns(*rows), outputs, pages))


def fit_trees(
    sessions: SessionArrays, stack: Stack, nets: Sequence[Network], scales: F32, seed: int, progress: Progress
) -> tuple[FittedJourney, xgb.Booster]:
    """Return the fitted model, and trees without the networks' outputs for comparison."""
    (rows, y, weight, part, outputs, X), workers = stack, len(os.sched_getaffinity(0))
    progress("fitting trees", 0.55)
    held_out = np.empty(len(y))
    for number in range(FOLDS):
        booster = boosted(X[part != number], y[part != number], weight[part != number], seed, workers)
        held_out[part == number] = _margin(booster, X[part == number])
        progress("fitting trees", 0.6 + 0.08 * number)
    whole = boosted(X, y, weight, seed, workers)
    last = rows.size == sessions.sizes[rows.session]
    running = ~rows.ended
    margins = np.column_stack([held_out, journey.purchase_margin(outputs, rows.ended)])
    blends = {"running": Blend.fit(margins[running], y[running]), "ended": Blend.fit(margins[rows.ended], y[rows.ended])}
    exits = Platt.fit(outputs[running, EXIT].astype(np.float64), last[running].astype(np.float64))
    return FittedJourney(nets, scales, whole, blends, exits), boosted(X[:, : -outputs.shape[1]], y, weight, seed, workers)


def _network_progress(progress: Progress, number: int, what: str, share: float) -> None:
    progress(f"fitting network {number + 1} of {FOLDS}, {what}", 0.02 + 0.5 * (number + share) / FOLDS)


def _folds(learn: I64, seed: int) -> I64:
    """Return the fold of each of the sessions `learn`."""
    return np.asarray(np.random.default_rng(seed).permutation(len(learn)) % FOLDS)


def _checkpoint_inputs(sessions: SessionArrays, learn: I64, pages: Sequence[str], seed: int) -> list[bytes]:
    """Return the bytes of everything that the fitted networks depend on: code, pages, seed, versions and data."""
    code = [Path(str(module.__file__)).read_bytes() for module in (network, gru)]
    parameters = repr((pages, seed, FOLDS, software("numpy", "torch"))).encode()
    return [*code, parameters, *array_bytes(*sessions, learn)]


def _heads(table: Journeys, sessions: SessionArrays, stack: Stack, seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of the heads for which the table has labels, and their metrics."""
    trainer = HeadTrainer(stack.X, stack.weight, stack.part, stack.rows.session, seed, len(os.sched_getaffinity(0)))
    return train_heads.files(trainer, table.value, sessions.y, table.churned, table.currency)


def _outcomes(data: Path, cells: CellOptions) -> Outcomes | None:
    path = outcomes_table.find(data)
    return None if path is None else outcomes_table.read(path, options=cells)


def prefixes(sessions: SessionArrays, learn: I64) -> Prefixes:
    """Return the training rows: each session after each number of events in AFTER that it reaches, running, and after its last, ended."""
    sizes = sessions.sizes[learn]
    running = [(learn[sizes >= size], np.full(int((sizes >= size).sum()), size)) for size in AFTER]
    session = np.concatenate([*(one for one, _ in running), learn])
    size = np.concatenate([*(one for _, one in running), sizes])
    return Prefixes(session, size, np.arange(len(session)) >= len(session) - len(learn))


def after(sessions: SessionArrays, judge: I64, first: int | None) -> Prefixes:
    """Return the sessions `judge` after `first` events; those with fewer events, and all where it is None, have ended."""
    sizes = sessions.sizes[judge]
    ended = np.ones(len(judge), bool) if first is None else sizes < first
    return Prefixes(judge, sizes if first is None else np.minimum(sizes, first), ended)


def _weights(rows: Prefixes) -> F64:
    """Return the weight of each row, float64 [rows]; the weights of a session add up to 1."""
    counts = np.bincount(rows.session)
    return np.asarray(1 / counts[rows.session])


def boosted(X: F32, y: F64, weight: F64, seed: int, threads: int) -> xgb.Booster:
    """Return the trees fitted to X float32 [rows, features]."""
    data = xgb.QuantileDMatrix(X, y, weight=weight, nthread=threads)
    min_child_weight = min(MAX_LEAF_WEIGHT, LEAF_SHARE * float(weight.sum()))
    return xgb.train({**PARAMETERS, "min_child_weight": min_child_weight, "seed": seed, "nthread": threads}, data, ROUNDS)


def _margin(booster: xgb.Booster, X: F32) -> F64:
    return np.asarray(booster.inplace_predict(X, predict_type="margin"), np.float64)


def _compare(
    sessions: SessionArrays, fitted: FittedJourney, counting: xgb.Booster, learn: I64, judge: I64, pages: int, seed: int
) -> dict[str, Any]:
    """Return the metrics of the served model and of alternatives on the sessions `judge`: after 5, 10 and all events.

    network, trees: each alone; baseline: XGBoost on counts and times of the same rows, fitted for each number of events separately.
    """
    out: dict[str, Any] = {}
    for first in EVALUATED:
        rows = after(sessions, judge, first)
        given = sessions.columns(*rows)
        y, X = sessions.y[judge], journey.matrix(given, pages)
        outputs = journey.margins(fitted.networks, fitted.scaling, given)
        own = journey.purchase_margin(outputs, rows.ended)
        p = journey.conversions(_margin(fitted.booster, np.column_stack([X, outputs])), own, rows.ended, fitted.blends)
        training_rows = after(sessions, learn, first)
        baseline = xgb.train(
            {**BASELINE, "seed": seed, "nthread": 1},
            xgb.DMatrix(counts(journey.matrix(sessions.columns(*training_rows), pages), pages), sessions.y[learn]),
            BASELINE_ROUNDS,
        )
        alternatives = {"network": own.astype(np.float64), "trees": _margin(counting, X), "baseline": _margin(baseline, counts(X, pages))}
        long = sessions.sizes[judge] >= (first or 0)
        out["all" if first is None else str(first)] = {
            "served": evaluate.figures(y, p),
            **{f"{name}Auc": evaluate.auc(y, score) for name, score in alternatives.items()},
            "servedAucLongSessions": evaluate.auc(y[long], p[long]),
            "baselineAucLongSessions": evaluate.auc(y[long], alternatives["baseline"][long]),
            "sessions": len(y),
        }
    return out


def counts(X: F32, pages: int) -> F32:
    """Return the counts and times among the features X: counts of pages, the latest gaps, and the first four summaries."""
    at = 4 * pages + LAST_PAGES
    return np.concatenate([X[:, :pages], X[:, at : at + LAST_GAPS + 4]], axis=1)


def split(table: Journeys, seed: int) -> tuple[I64, I64]:
    """Return the indices of the training sessions and of the evaluation sessions."""
    val = table.val
    if val is None or not val.any() or val.all():
        val = np.random.default_rng(seed).random(len(table.ids)) < HELD_OUT
    return np.flatnonzero(~val), np.flatnonzero(val)


def _headlines(candidates: Mapping[str, Any]) -> dict[str, float]:
    names = {"5": "aucAfter5", "10": "aucAfter10", "all": "aucAtEnd"}
    return {name: candidates[key]["served"]["auc"] for key, name in names.items()}


def _about(sessions: SessionArrays, learn: I64, judge: I64, seed: int) -> dict[str, Any]:
    rate = float(sessions.y.mean())
    return {"baseRate": rate, "trainingSessions": len(learn), "validationSessions": len(judge), "seed": seed}
