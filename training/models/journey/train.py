"""What `revenue-engine train journey` does, step by step: read sessions, fit the network and the trees that know what it says, judge them.

A session is learned from after each of its first events: what came later is not in the row. Whether it has ended is an input, and a row of
its own: the length of a session says much of whether it bought, and nothing of that may reach a session that runs on.
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
from training.errors import CellError, TableError
from training.evaluation import metrics as evaluate
from training.evaluation.curves import picture as curves_of
from training.models.journey import card as journey_card
from training.models.journey import model as journey
from training.models.journey import network, next_step, train_heads
from training.models.journey.checkpoint import Checkpoint, Curve, what
from training.models.journey.model import EXIT, PAGES
from training.models.journey.network import EPOCHS, WIDTH, Progress, Sessions, padded, scaling
from training.models.journey.network import fit as fit_network
from training.models.journey.prior import UNSEEN, Unseen
from training.models.journey.train_heads import Told
from training.models.shared.calibration import Blend, Platt
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import software
from training.tables import journeys
from training.tables import outcomes as outcomes_table
from training.tables.journeys import Journeys, Mapped
from training.tables.outcomes import Outcomes
from training.tables.table import listed

MIN_SESSIONS, MIN_OF_CLASS = 400, 40
MAX_PAGES = 23  # steps that are known by name: the trees see how often each comes after each
AFTER = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30, 40, 60, 100)  # events after which a session is learned from
JUDGED = (5, 10, None)  # and judged; None: after its last, ended
HELD_OUT, FOLDS = 0.2, 3
NAMELESS = ("", "-1")  # pages without a name
ROUNDS = 320
LEAF_SHARE, MAX_OF_LEAF = 1 / 500, 30.0  # of the sessions learned from: what a leaf holds at least, by the curvature of the loss
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.025,
    "max_depth": 5,
    "subsample": 0.7,
    "colsample_bytree": 0.4,
    "reg_lambda": 5,
}
PLAIN: Mapping[str, Any] = {"objective": "binary:logistic", "tree_method": "hist", "eta": 0.1, "max_depth": 4}
PLAIN_ROUNDS = 100


class Rows(NamedTuple):
    """Which session, after how many events, and whether that is known to be its end; [rows] each."""

    session: I64
    size: I64
    ended: Bool


class Stack(NamedTuple):
    """What the trees learn from, a row for each session after some of its events: whether it bought, how much it counts, the part of the
    sessions that it is in, what the network says that has not seen that, and all that the trees see.
    """

    rows: Rows
    y: F64
    weight: F64
    part: I64
    said: F32
    X: F32


class Fitted(NamedTuple):
    """The networks with their scaling, the trees, the sums to log-odds by their names, and the line to those of leaving."""

    networks: Sequence[Network]
    scaling: F32
    booster: xgb.Booster
    blends: Mapping[str, Blend]
    leaves: Platt

    def calibration(self) -> dict[str, Any]:
        """Return what calibration.json says of sums and of leaving."""
        blends = {name: blend.content() for name, blend in self.blends.items()}
        return {**blends, journey.LEAVES: self.leaves.content()}


class Learnable(NamedTuple):
    """Sessions that can be learned from: the table of them and their columns, the names of steps that get a number, what is said of those
    without a step, and of what was left out.
    """

    table: Journeys
    sessions: Sessions
    pages: tuple[str, ...]
    unseen: Unseen
    warnings: Sequence[str]


def train(data: Path, out: Path, *, mapping: Mapped, seed: int, progress: Progress) -> Bundle:
    """Fit on the sessions in `data`, judge on those held apart, write the bundle into `out` (new or empty) and return it.

    data: a folder with events and sessions, or one table of events. Sessions whose `split` is val are never learned from; where nothing is
    said, a fifth is held out. Raises TableError for a wrong or insufficient table, BundleError when `out` is taken.
    """
    bundles.require_free(out)
    progress("reading", 0.0)
    table, sessions, pages, unseen, warnings = learnable(data, _read(data, mapping))
    learn, judge = split(table, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        checkpoint = Checkpoint(out, _decides(sessions, learn, pages, seed))
        nets, scales, curves = fit_networks(sessions, learn, len(pages) + 1, seed, checkpoint, progress)
        stack = stacked(sessions, learn, nets, scales, len(pages) + 1, seed)
        fitted, counting = fit_trees(sessions, stack, nets, scales, seed, progress)
        heads, about_heads = _heads(table, sessions, stack, seed)
        progress("judging", 0.86)
        candidates = _compare(sessions, fitted, counting, learn, judge, len(pages) + 1, seed)
    finally:
        torch.set_num_threads(threads)
    outcomes = _outcomes(data)
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
        "trainingData": {"name": data.name, "sessions": len(table.ids), "events": len(table.pages)},
        "parameters": {**PARAMETERS, "rounds": ROUNDS, "width": WIDTH, "epochs": EPOCHS, "seed": seed},
        "software": software("numpy", "torch", "xgboost", "revenue-engine"),
    }
    from safetensors.numpy import save

    files = {
        journey.MODEL: bytes(fitted.booster.save_raw("ubj")),
        journey.NETWORK: save({**journey.packed(fitted.networks), journey.SCALING: fitted.scaling}),
        journey.CALIBRATION: bundles.encoded({**fitted.calibration(), UNSEEN: unseen.content()}),
        journey.METRICS: bundles.encoded(metrics),
        journey.CURVES: curves_of(curves, {"loss": "Loss while learning", "auc": "AUC of sessions not learned from, ended"}).encode(),
        **({next_step.FILE: bundles.encoded(next_step.learned(outcomes))} if outcomes is not None else {}),
        **heads,
        journey.CARD: journey_card.card(meta, metrics).encode(),
    }
    bundle = bundles.write(out, task=journey.TASK, files=files, meta=meta)
    checkpoint.remove()
    progress("done", 1.0)
    return bundle


def _read(data: Path, mapping: Mapped) -> Journeys:
    try:
        return journeys.read(journeys.gather(data, mapping))
    except CellError as error:
        raise TableError(f"{data}: {error}") from None


def learnable(data: Path, found: Journeys) -> Learnable:
    """Return what can be learned from, and what is said of the rest. Raises TableError where it is too little."""
    if found.y is None:
        raise TableError(f"{data}: no column says which sessions bought. Name it with --map purchase=COLUMN")
    told = np.isfinite(found.y)
    names, counts = np.unique(np.array(found.pages, dtype=str), return_counts=True)
    frequent = names[np.argsort(-counts, kind="stable")]
    named = [name for name in frequent.tolist() if name not in NAMELESS]
    pages = tuple(sorted(named[:MAX_PAGES]))
    table = found.of(told).known(pages)
    assert table.y is not None, "labels that were there are gone; this is a bug"
    page = journeys.coded(table.pages, journeys.codes(pages))
    sizes = np.diff(table.offsets)
    first = np.full(len(sizes), -1)
    first[sizes > 0] = page[table.offsets[:-1][sizes > 0]]
    warnings = _left_out(int((~told).sum()), int((sizes == 0).sum()), named[MAX_PAGES:])
    unseen = Unseen.learn(first, table.y, len(pages) + 1) if len(first) else None
    table = table.of(sizes > 0)
    y = np.asarray(table.y, np.float64)
    bought = int(y.sum())
    if unseen is None or len(y) < MIN_SESSIONS or min(bought, len(y) - bought) < MIN_OF_CLASS:
        lacking = (
            f"insufficient data: {len(y)} sessions, {bought} of which bought; at least {MIN_SESSIONS} are needed, {MIN_OF_CLASS} that "
            f"bought and {MIN_OF_CLASS} that did not: collect more sessions"
        )
        raise TableError("; ".join((f"{data}: {lacking}", *warnings)))
    return Learnable(table, Sessions(table.offsets, page, table.seconds, table.attributes, y), pages, unseen, warnings)


def _left_out(untold: int, stepless: int, rare: Sequence[str]) -> list[str]:
    """Return what is to be said of sessions and steps that are not learned from."""
    said = {
        f"{untold:,} sessions were left out, of which nothing says whether they bought": untold,
        f"{stepless:,} sessions have no step: of such the model says how many of them bought": stepless,
        f"{len(rare):,} names beyond the {MAX_PAGES} most frequent are not known apart: pages count as unknown, other events are left out "
        f"({listed(sorted(rare))})": len(rare),
    }
    return [one for one, number in said.items() if number]


def fit_networks(
    sessions: Sessions, learn: I64, pages: int, seed: int, checkpoint: Checkpoint, progress: Progress
) -> tuple[list[Network], F32, list[Curve]]:
    """Return a network for each part of the sessions `learn`, which it has not seen, their scaling, and loss and AUC of their epochs."""
    fold = _folds(learn, seed)
    scales = scaling(sessions.attributes[learn])
    given = padded(sessions, pages, scales)
    nets, curves = [], []
    for number in range(FOLDS):  # one after the other: they draw from torch's one source of chance
        begun = partial(_fitting, progress, number)
        found = checkpoint.find(number)
        if found is None:
            found = fit_network(sessions, given, scales, learn[fold != number], pages, seed + number, begun)
            checkpoint.keep(number, *found)
        nets.append(found[0])
        curves.append(found[1])
    return nets, scales, curves


def stacked(sessions: Sessions, learn: I64, nets: Sequence[Network], scales: F32, pages: int, seed: int) -> Stack:
    """Return what the trees learn from: of each session what the network says that has not seen it."""
    rows = prefixes(sessions, learn)
    part_of = np.full(len(sessions.y), -1)
    part_of[learn] = _folds(learn, seed)
    part = part_of[rows.session]
    said = np.empty((len(part), PAGES + pages), np.float32)
    for number, net in enumerate(nets):
        here = part == number
        said[here] = journey.margins([net], scales, sessions.columns(*(column[here] for column in rows)))
    return Stack(rows, sessions.y[rows.session], _weights(rows), part, said, journey.stacked(sessions.columns(*rows), said, pages))


def fit_trees(
    sessions: Sessions, stack: Stack, nets: Sequence[Network], scales: F32, seed: int, progress: Progress
) -> tuple[Fitted, xgb.Booster]:
    """Return the whole model, and trees that are told nothing by the networks, to judge it by."""
    (rows, y, weight, part, said, X), workers = stack, len(os.sched_getaffinity(0))
    progress("fitting trees", 0.55)
    held = np.empty(len(y))
    for number in range(FOLDS):
        booster = boosted(X[part != number], y[part != number], weight[part != number], seed, workers)
        held[part == number] = _margin(booster, X[part == number])
        progress("fitting trees", 0.6 + 0.08 * number)
    whole = boosted(X, y, weight, seed, workers)
    last = rows.size == sessions.sizes[rows.session]
    running = ~rows.ended
    both = np.column_stack([held, journey.of_purchase(said, rows.ended)])
    blends = {"running": Blend.fit(both[running], y[running]), "ended": Blend.fit(both[rows.ended], y[rows.ended])}
    leaves = Platt.fit(said[running, EXIT].astype(np.float64), last[running].astype(np.float64))
    return Fitted(nets, scales, whole, blends, leaves), boosted(X[:, : -said.shape[1]], y, weight, seed, workers)


def _fitting(progress: Progress, number: int, said: str, share: float) -> None:
    progress(f"fitting network {number + 1} of {FOLDS}, {said}", 0.02 + 0.5 * (number + share) / FOLDS)


def _folds(learn: I64, seed: int) -> I64:
    """Return which part each of the sessions `learn` is in."""
    return np.asarray(np.random.default_rng(seed).permutation(len(learn)) % FOLDS)


def _decides(sessions: Sessions, learn: I64, pages: Sequence[str], seed: int) -> list[bytes]:
    """Return everything that decides what is fitted, but the code of networks, for which its hash stands."""
    code = [Path(str(module.__file__)).read_bytes() for module in (network, gru)]
    said = repr((pages, seed, FOLDS, software("numpy", "torch"))).encode()
    return [*code, said, *what(*sessions, learn)]


def _heads(table: Journeys, sessions: Sessions, stack: Stack, seed: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of what else the table tells of, and their figures."""
    told = Told(stack.X, stack.weight, stack.part, stack.rows.session, seed, len(os.sched_getaffinity(0)))
    return train_heads.files(told, table.value, sessions.y, table.churned, table.currency)


def _outcomes(data: Path) -> Outcomes | None:
    path = outcomes_table.find(data)
    return None if path is None else outcomes_table.read(path)


def prefixes(sessions: Sessions, learn: I64) -> Rows:
    """Return the rows to learn from: each session after the events of AFTER that it has, running on, and after its last, ended."""
    sizes = sessions.sizes[learn]
    running = [(learn[sizes >= size], np.full(int((sizes >= size).sum()), size)) for size in AFTER]
    session = np.concatenate([*(one for one, _ in running), learn])
    size = np.concatenate([*(one for _, one in running), sizes])
    return Rows(session, size, np.arange(len(session)) >= len(session) - len(learn))


def after(sessions: Sessions, judge: I64, first: int | None) -> Rows:
    """Return the sessions `judge` after `first` events: those that have fewer, and all where it is None, have ended."""
    sizes = sessions.sizes[judge]
    ended = np.ones(len(judge), bool) if first is None else sizes < first
    return Rows(judge, sizes if first is None else np.minimum(sizes, first), ended)


def _weights(rows: Rows) -> F64:
    """Return what each row counts for: every session as much, however many rows it has."""
    counts = np.bincount(rows.session)
    return np.asarray(1 / counts[rows.session])


def boosted(X: F32, y: F64, weight: F64, seed: int, threads: int) -> xgb.Booster:
    """Return trees over X float32 [rows, features]."""
    data = xgb.QuantileDMatrix(X, y, weight=weight, nthread=threads)
    least = min(MAX_OF_LEAF, LEAF_SHARE * float(weight.sum()))
    return xgb.train({**PARAMETERS, "min_child_weight": least, "seed": seed, "nthread": threads}, data, ROUNDS)


def _margin(booster: xgb.Booster, X: F32) -> F64:
    return np.asarray(booster.inplace_predict(X, predict_type="margin"), np.float64)


def _compare(sessions: Sessions, fitted: Fitted, counting: xgb.Booster, learn: I64, judge: I64, pages: int, seed: int) -> dict[str, Any]:
    """Return the figures of what is served and of its rivals on the sessions `judge`: after 5, 10 and all events.

    network, trees: each alone; plain: XGBoost on counts and times of the same rows, fitted for each number of events by itself.
    """
    out: dict[str, Any] = {}
    for first in JUDGED:
        rows = after(sessions, judge, first)
        given = sessions.columns(*rows)
        y, X = sessions.y[judge], journey.matrix(given, pages)
        said = journey.margins(fitted.networks, fitted.scaling, given)
        own = journey.of_purchase(said, rows.ended)
        p = journey.conversions(_margin(fitted.booster, np.column_stack([X, said])), own, rows.ended, fitted.blends)
        theirs = after(sessions, learn, first)
        plain = xgb.train(
            {**PLAIN, "seed": seed, "nthread": 1},
            xgb.DMatrix(counts(journey.matrix(sessions.columns(*theirs), pages), pages), sessions.y[learn]),
            PLAIN_ROUNDS,
        )
        rivals = {"network": own.astype(np.float64), "trees": _margin(counting, X), "plain": _margin(plain, counts(X, pages))}
        long = sessions.sizes[judge] >= (first or 0)
        out["all" if first is None else str(first)] = {
            "served": evaluate.figures(y, p),
            **{f"{name}Auc": evaluate.auc(y, score) for name, score in rivals.items()},
            "servedAucOfLong": evaluate.auc(y[long], p[long]),
            "plainAucOfLong": evaluate.auc(y[long], rivals["plain"][long]),
            "sessions": len(y),
        }
    return out


def counts(X: F32, pages: int) -> F32:
    """Return counts and times alone, of the features X: those of pages, the latest gaps, and the first four that sum them up."""
    at = 4 * pages + LAST_PAGES
    return np.concatenate([X[:, :pages], X[:, at : at + LAST_GAPS + 4]], axis=1)


def split(table: Journeys, seed: int) -> tuple[I64, I64]:
    """Return the numbers of the sessions to learn from and of those to judge by."""
    val = table.val
    if val is None or not val.any() or val.all():
        val = np.random.default_rng(seed).random(len(table.ids)) < HELD_OUT
    return np.flatnonzero(~val), np.flatnonzero(val)


def _headlines(candidates: Mapping[str, Any]) -> dict[str, float]:
    names = {"5": "aucAfter5", "10": "aucAfter10", "all": "aucAtTheEnd"}
    return {name: candidates[key]["served"]["auc"] for key, name in names.items()}


def _about(sessions: Sessions, learn: I64, judge: I64, seed: int) -> dict[str, Any]:
    rate = float(sessions.y.mean())
    return {"baseRate": rate, "sessionsLearnedFrom": len(learn), "sessionsJudgedBy": len(judge), "seed": seed}
