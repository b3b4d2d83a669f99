"""What `revenue-engine train journey` does, step by step: read sessions, fit the network and the trees that know what it says, judge them.

A session is learned from after each of its first events: what came later is not in the row. Whether it has ended is an input, and a row of
its own: the length of a session says much of whether it bought, and nothing of that may reach a session that runs on.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xgboost as xgb
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.journey import LAST_GAPS, LAST_PAGES, TIMES, Network
from training import bundle as bundles
from training import evaluate, journey_table
from training.bundle import Bundle
from training.errors import TableError
from training.journey_table import Journeys, Mapped
from training.models import journey, journey_card
from training.models.calibration import Platt
from training.models.journey import EXIT, FINISHED, PAGES, RUNNING, Columns
from training.provenance import software

LEAST_SESSIONS, LEAST_OF_CLASS = 400, 40
MOST_PAGES = 11  # that are known by name; the others are unknown
AFTER = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30, 40, 60, 100)  # events after which a session is learned from
JUDGED = (5, 10, None)  # and judged; None: after its last, ended
HELD_OUT, FOLDS = 0.2, 3
WIDTH, LONGEST = 64, 100
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 10, 128, 3e-3, 0.01, 0.2
ENDED_WEIGHT, STEP_WEIGHT, EXIT_WEIGHT = 0.5, 0.1, 0.1
ROUNDS = 200
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.04,
    "max_depth": 5,
    "min_child_weight": 30,
    "subsample": 0.7,
    "colsample_bytree": 0.4,
    "reg_lambda": 5,
}
PLAIN: Mapping[str, Any] = {"objective": "binary:logistic", "tree_method": "hist", "eta": 0.1, "max_depth": 4}
PLAIN_ROUNDS = 100

Progress = Callable[[str, float], None]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sessions(NamedTuple):
    """Sessions as columns: offsets int64 [sessions + 1]; page int64, seconds float32 [events]; attributes float32 [sessions, names]; y."""

    offsets: Ints
    page: Ints
    seconds: NDArray[np.float32]
    attributes: NDArray[np.float32]
    y: Floats

    @property
    def sizes(self) -> Ints:
        """Return how many events each session has."""
        return np.diff(self.offsets)

    def columns(self, session: Ints, size: Ints, ended: NDArray[Any]) -> Columns:
        """Return rows: sessions after their first `size` events."""
        begins = self.offsets[session]
        return Columns(begins, begins + size, self.page, self.seconds, ended.astype(np.float32), self.attributes[session])


class Rows(NamedTuple):
    """Which session, after how many events, and whether that is known to be its end; [rows] each."""

    session: Ints
    size: Ints
    ended: NDArray[np.bool_]


class Fitted(NamedTuple):
    """A network with its scaling, the trees, and the lines to log-odds by their names."""

    network: Network
    scaling: NDArray[np.float32]
    booster: xgb.Booster
    lines: Mapping[str, Platt]


def train(data: Path, out: Path, *, mapping: Mapped, seed: int, progress: Progress) -> Bundle:
    """Fit on the sessions in `data`, judge on those held apart, write the bundle into `out` (new or empty) and return it.

    data: a folder with events and sessions, or one table of events. Sessions whose `split` is val are never learned from; where nothing is
    said, a fifth is held out. Raises TableError for a wrong or insufficient table, BundleError when `out` is taken.
    """
    bundles.require_free(out)
    progress("reading", 0.0)
    table = journey_table.read(journey_table.gather(data, mapping))
    pages, sessions = columns(data, table)
    learn, judge = _split(table, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fitted, curve, contestants = fit(sessions, learn, judge, len(pages) + 1, seed, progress)
    finally:
        torch.set_num_threads(threads)
    progress("writing", 0.99)
    metrics = {**_headlines(contestants), "contestants": contestants, "curve": curve, **_about(sessions, learn, judge, seed)}
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
        journey.NETWORK: save({**fitted.network._asdict(), "scaling": fitted.scaling}),
        journey.CALIBRATION: bundles.encoded({name: line.content() for name, line in fitted.lines.items()}),
        journey.METRICS: bundles.encoded(metrics),
        journey.CARD: journey_card.card(meta, metrics).encode(),
    }
    bundle = bundles.write(out, task=journey.TASK, files=files, meta=meta)
    progress("done", 1.0)
    return bundle


def columns(data: Path, table: Journeys) -> tuple[tuple[str, ...], Sessions]:
    """Return the pages that get a number, and the sessions as columns. Raises TableError where there are too few to learn from."""
    if table.y is None:
        raise TableError(f"{data}: no column says which sessions bought. Name it with --map purchase=COLUMN")
    bought = int(table.y.sum())
    if len(table.y) < LEAST_SESSIONS or min(bought, len(table.y) - bought) < LEAST_OF_CLASS:
        raise TableError(
            f"{data}: insufficient data: {len(table.y)} sessions, {bought} of which bought; at least {LEAST_SESSIONS} are needed, "
            f"{LEAST_OF_CLASS} that bought and {LEAST_OF_CLASS} that did not: collect more sessions"
        )
    names, counts = np.unique(np.array(table.pages, dtype=str), return_counts=True)
    pages = tuple(sorted(name for name in names[np.argsort(-counts, kind="stable")][:MOST_PAGES].tolist() if name not in ("", "-1")))
    codes = {name: place for place, name in enumerate(pages, 1)}
    page = np.array([codes.get(name, journey_table.UNKNOWN) for name in table.pages], np.int64)
    return pages, Sessions(table.offsets, page, table.seconds, table.attributes, table.y.astype(np.float64))


def fit(
    sessions: Sessions, learn: Ints, judge: Ints, pages: int, seed: int, progress: Progress
) -> tuple[Fitted, list[dict[str, float]], dict[str, Any]]:
    """Return the model fitted on the sessions `learn`, the loss and AUC of the network's epochs, and every contestant's figures."""
    workers = len(os.sched_getaffinity(0))
    fold = np.random.default_rng(seed).permutation(len(learn)) % FOLDS
    parts = [learn, *(learn[fold != part] for part in range(FOLDS))]
    nets = []
    for number, part in enumerate(parts):  # one after the other: they draw from torch's one source of chance
        nets.append(fit_network(sessions, part, None if number else judge, pages, seed + number))
        progress("fitting networks", 0.02 + 0.5 * (number + 1) / len(parts))
    (network, scaling, curve), folds = nets[0], nets[1:]
    rows = prefixes(sessions, learn)
    given = sessions.columns(*rows)
    X, y = journey.matrix(given, pages), sessions.y[rows.session]
    part_of = np.full(len(sessions.y), -1)
    part_of[learn] = fold
    part = part_of[rows.session]
    said = np.empty((len(y), PAGES + pages), np.float32)
    for number, (net, scale, _) in enumerate(folds):
        here = part == number
        said[here] = journey.margins(net, scale, sessions.columns(*(column[here] for column in rows)))
    own = journey.of_purchase(said, rows.ended)
    stacked = np.column_stack([X, own])
    progress("fitting trees", 0.55)
    held = np.empty(len(y))
    for number in range(FOLDS):
        booster = boosted(stacked[part != number], y[part != number], seed, workers)
        held[part == number] = _margin(booster, stacked[part == number])
        progress("fitting trees", 0.6 + 0.08 * number)
    whole = boosted(stacked, y, seed, workers)
    raw = journey.blended(held, own)
    last = rows.size == sessions.sizes[rows.session]
    running = ~rows.ended
    lines = {
        "running": Platt.fit(raw[running], y[running]),
        "ended": Platt.fit(raw[rows.ended], y[rows.ended]),
        "exit": Platt.fit(said[running, EXIT].astype(np.float64), last[running].astype(np.float64)),
    }
    fitted = Fitted(network, scaling, whole, lines)
    progress("judging", 0.86)
    return fitted, curve, _contest(sessions, fitted, boosted(X, y, seed, workers), learn, judge, pages, seed)


class Net(nn.Module):
    """The network while it is learned: the formulas of `kernels.journey`, for whole batches."""

    def __init__(self, pages: int, attributes: int) -> None:
        super().__init__()
        self.pages = nn.Embedding(pages + 1, WIDTH, padding_idx=pages)
        self.times = nn.Linear(TIMES, WIDTH)
        self.given = nn.Linear(attributes, WIDTH, bias=False)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.hidden = nn.Linear(WIDTH + attributes, WIDTH)
        self.out = nn.Linear(WIDTH, PAGES + pages)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, page: Tensor, times: Tensor, attributes: Tensor) -> Tensor:
        """Return outputs [sessions, events, outputs]; page: [sessions, events]; times: [sessions, events, TIMES]."""
        x = self.pages(page) + self.times(times) + self.given(attributes)[:, None]
        state, _ = self.gru(self.drop(nn.functional.gelu(x, approximate="tanh")))
        known = torch.cat([self.drop(state), attributes[:, None].expand(-1, page.shape[1], -1)], 2)
        out: Tensor = self.out(self.drop(nn.functional.gelu(self.hidden(known), approximate="tanh")))
        return out

    def network(self) -> Network:
        """Return the weights as the kernel takes them."""
        gru = self.gru
        given: dict[str, Any] = {
            "pages": self.pages.weight[:-1],
            "times": self.times.weight.T,
            "given": self.given.weight.T,
            "bias": self.times.bias,
            "input": gru.weight_ih_l0.T,
            "recurrent": gru.weight_hh_l0.T,
            "input_bias": gru.bias_ih_l0,
            "recurrent_bias": gru.bias_hh_l0,
            "hidden": self.hidden.weight.T,
            "hidden_bias": self.hidden.bias,
            "out": self.out.weight.T,
            "out_bias": self.out.bias,
        }
        return Network(**{name: np.ascontiguousarray(weight.detach().numpy(), np.float32) for name, weight in given.items()})


class Padded(NamedTuple):
    """Sessions as the network learns from them: page [sessions, events], `pages` where there is none, times, attributes, y and sizes."""

    page: Tensor
    times: Tensor
    attributes: Tensor
    y: Tensor
    sizes: Ints


def fit_network(
    sessions: Sessions, learn: Ints, judge: Ints | None, pages: int, seed: int
) -> tuple[Network, NDArray[np.float32], list[dict[str, float]]]:
    """Return the network fitted on the sessions `learn`, its scaling, and loss and AUC after each epoch.

    The AUC is of the sessions `judge`, ended; nothing is said of any epoch where there are none.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    own = sessions.attributes[learn].astype(np.float64)
    known = ~np.isnan(own)
    mean = np.where(known, own, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    spread = np.sqrt((np.where(known, own - mean, 0) ** 2).sum(axis=0) / np.maximum(1, known.sum(axis=0)))
    scaling = np.stack([mean, np.where(spread > 0, spread, 1.0)]).astype(np.float32)
    given = padded(sessions, pages, scaling)
    net = Net(pages, sessions.attributes.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    steps = len(learn) // BATCH + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * (steps + 16) + 1)
    curve = []
    for _epoch in range(EPOCHS):
        net.train()
        total, batches = 0.0, _batches(random, learn, given.sizes)
        for batch in batches:
            loss = _loss(net, given, batch, pages)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / len(batches)
        if judge is None:
            continue
        said = journey.margins(net.eval().network(), scaling, sessions.columns(judge, sessions.sizes[judge], np.ones(len(judge))))
        curve.append({"loss": total, "auc": evaluate.auc(sessions.y[judge], said[:, FINISHED].astype(np.float64))})
    return net.network(), scaling, curve


def padded(sessions: Sessions, pages: int, scaling: NDArray[np.float32]) -> Padded:
    """Return the sessions as the network learns from them, of each the first LONGEST events."""
    sizes = np.minimum(sessions.sizes, LONGEST)
    longest = int(sizes.max())
    places = np.arange(longest)
    there = places < sizes[:, None]
    at = np.minimum(sessions.offsets[:-1, None] + places, len(sessions.page) - 1)
    page = np.where(there, sessions.page[at], pages)
    seconds = np.where(there, sessions.seconds[at], 0).astype(np.float64)
    gap = np.where(there & (places > 0), np.diff(seconds, axis=1, prepend=seconds[:, :1]), 0.0)
    elapsed = np.where(there, seconds - seconds[:, :1], 0.0)
    index = np.broadcast_to(np.log1p(places) / 3, gap.shape)
    times = np.stack([np.log1p(gap) / 4, gap > 0, gap > 30, gap > 120, np.log1p(elapsed) / 6, index], axis=2)
    return Padded(
        torch.from_numpy(page),
        torch.from_numpy(times.astype(np.float32)),
        torch.from_numpy(journey.standardised(sessions.attributes, scaling)),
        torch.from_numpy(sessions.y.astype(np.float32)),
        sizes,
    )


def _batches(random: np.random.Generator, learn: Ints, sizes: Ints) -> list[Ints]:
    """Return batches of sessions about as long as each other, in another order each time."""
    order = random.permutation(learn)
    pools = [order[begin : begin + 16 * BATCH] for begin in range(0, len(order), 16 * BATCH)]
    batches = [batch for pool in pools for batch in np.array_split(pool[np.argsort(sizes[pool])], max(1, len(pool) // BATCH))]
    return [batches[place] for place in random.permutation(len(batches))]


def _loss(net: Net, given: Padded, batch: Ints, pages: int) -> Tensor:
    """Return the loss of a batch: purchase after each event and at the end, whether it was the last, and the next page."""
    bce = nn.functional.binary_cross_entropy_with_logits
    longest = int(given.sizes[batch].max())
    page, y = given.page[batch, :longest], given.y[batch]
    out = net(page, given.times[batch, :longest], given.attributes[batch])
    there = (page != pages).float()
    weight = there / (torch.arange(longest) + 3.0).sqrt()
    weight = weight / weight.sum()
    last = torch.from_numpy(given.sizes[batch] - 1)
    leaves = (torch.arange(longest) == last[:, None]).float()
    running = (bce(out[..., RUNNING], y[:, None].expand(-1, longest), reduction="none") * weight).sum()
    leaving = (bce(out[..., EXIT], leaves, reduction="none") * weight).sum()
    ended = bce(out[torch.arange(len(batch)), last, FINISHED], y)
    loss: Tensor = running + ENDED_WEIGHT * ended + EXIT_WEIGHT * leaving
    if longest > 1 and bool((page[:, 1:] != pages).any()):
        following = nn.functional.cross_entropy(out[:, :-1, PAGES:].reshape(-1, pages), page[:, 1:].reshape(-1), ignore_index=pages)
        loss = loss + STEP_WEIGHT * following
    return loss


def prefixes(sessions: Sessions, learn: Ints) -> Rows:
    """Return the rows to learn from: each session after the events of AFTER that it has, running on, and after its last, ended."""
    sizes = sessions.sizes[learn]
    running = [(learn[sizes >= size], np.full(int((sizes >= size).sum()), size)) for size in AFTER]
    session = np.concatenate([*(one for one, _ in running), learn])
    size = np.concatenate([*(one for _, one in running), sizes])
    return Rows(session, size, np.arange(len(session)) >= len(session) - len(learn))


def after(sessions: Sessions, judge: Ints, first: int | None) -> Rows:
    """Return the sessions `judge` after `first` events: those that have fewer, and all where it is None, have ended."""
    sizes = sessions.sizes[judge]
    ended = np.ones(len(judge), bool) if first is None else sizes < first
    return Rows(judge, sizes if first is None else np.minimum(sizes, first), ended)


def boosted(X: NDArray[np.float32], y: Floats, seed: int, threads: int, rounds: int = ROUNDS, **changes: Any) -> xgb.Booster:
    """Return trees over X float32 [rows, features]."""
    data = xgb.QuantileDMatrix(X, y, nthread=threads)
    return xgb.train({**PARAMETERS, **changes, "seed": seed, "nthread": threads}, data, rounds)


def _margin(booster: xgb.Booster, X: NDArray[np.float32]) -> Floats:
    return np.asarray(booster.inplace_predict(X, predict_type="margin"), np.float64)


def _contest(sessions: Sessions, fitted: Fitted, counting: xgb.Booster, learn: Ints, judge: Ints, pages: int, seed: int) -> dict[str, Any]:
    """Return the figures of what is served and of its rivals on the sessions `judge`: after 5, 10 and all events.

    network, trees: each alone; plain: XGBoost on counts and times of the same rows, fitted for each number of events by itself.
    """
    out: dict[str, Any] = {}
    for first in JUDGED:
        rows = after(sessions, judge, first)
        given = sessions.columns(*rows)
        y, X = sessions.y[judge], journey.matrix(given, pages)
        said = journey.margins(fitted.network, fitted.scaling, given)
        own = journey.of_purchase(said, rows.ended)
        p = journey.conversions(_margin(fitted.booster, np.column_stack([X, own])), own, rows.ended, fitted.lines)
        theirs = after(sessions, learn, first)
        plain = xgb.train(
            {**PLAIN, "seed": seed, "nthread": 1},
            xgb.DMatrix(_plain(journey.matrix(sessions.columns(*theirs), pages), pages), sessions.y[learn]),
            PLAIN_ROUNDS,
        )
        rivals = {"network": own.astype(np.float64), "trees": _margin(counting, X), "plain": _margin(plain, _plain(X, pages))}
        long = sessions.sizes[judge] >= (first or 0)
        out["all" if first is None else str(first)] = {
            "served": evaluate.figures(y, p),
            **{f"{name}Auc": evaluate.auc(y, score) for name, score in rivals.items()},
            "servedAucOfLong": evaluate.auc(y[long], p[long]),
            "plainAucOfLong": evaluate.auc(y[long], rivals["plain"][long]),
            "sessions": len(y),
        }
    return out


def _plain(X: NDArray[np.float32], pages: int) -> NDArray[np.float32]:
    """Return counts and times alone, of the features X: those of pages, the latest gaps, and the first four that sum them up."""
    at = 4 * pages + LAST_PAGES
    return np.concatenate([X[:, :pages], X[:, at : at + LAST_GAPS + 4]], axis=1)


def _split(table: Journeys, seed: int) -> tuple[Ints, Ints]:
    """Return the numbers of the sessions to learn from and of those to judge by."""
    val = table.val
    if val is None or not val.any() or val.all():
        val = np.random.default_rng(seed).random(len(table.ids)) < HELD_OUT
    return np.flatnonzero(~val), np.flatnonzero(val)


def _headlines(contestants: Mapping[str, Any]) -> dict[str, float]:
    names = {"5": "aucAfter5", "10": "aucAfter10", "all": "aucAtTheEnd"}
    return {name: contestants[key]["served"]["auc"] for key, name in names.items()}


def _about(sessions: Sessions, learn: Ints, judge: Ints, seed: int) -> dict[str, Any]:
    rate = float(sessions.y.mean())
    return {"baseRate": rate, "sessionsLearnedFrom": len(learn), "sessionsJudgedBy": len(judge), "seed": seed, "warnings": []}
