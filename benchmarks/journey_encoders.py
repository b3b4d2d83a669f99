"""Which encoder of a session is better: `python -m benchmarks.journey_encoders [--data FOLDER]`, from the project's root.

The gated recurrent unit that is served and a causal transformer (Vaswani et al. 2017; two layers as wide, four heads), learned by the same
loss, in the same batches, for as many epochs, from the published clickstreams (Ozyurt et al. 2022) and judged on `split0` val: each alone,
after 5, 10 and all events, over several seeds; XGBoost on counts and times of the same rows beside them. Writes
benchmarks/results/journey_encoders.json.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xgboost as xgb
from torch import Tensor, nn

from benchmarks import results
from benchmarks.harness import log
from benchmarks.machine import DATA
from training.evaluation import metrics
from training.models.journey import model as journey
from training.models.journey import network
from training.models.journey import train as journey_training
from training.models.journey.model import FINISHED, PAGES, RUNNING
from training.models.journey.network import BATCH, DECAY, DROPOUT, EPOCHS, MAX_EVENTS, RATE, TIMES, WIDTH, Net, Padded, SessionArrays
from training.tables import journeys

SEEDS, HEADS, LAYERS = 3, 4, 2


class Transformer(nn.Module):
    """Sees an event and those before it; what goes in and what comes out is as of `Net`."""

    def __init__(self, pages: int, attributes: int) -> None:
        super().__init__()
        self.pages = nn.Embedding(pages + 1, WIDTH, padding_idx=pages)
        self.times = nn.Linear(TIMES, WIDTH)
        self.given = nn.Linear(attributes, WIDTH, bias=False)
        self.places = nn.Embedding(MAX_EVENTS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, DROPOUT, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.hidden = nn.Linear(WIDTH + attributes, WIDTH)
        self.out = nn.Linear(WIDTH, PAGES + pages)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, page: Tensor, times: Tensor, attributes: Tensor) -> Tensor:
        """Return outputs [sessions, events, outputs]."""
        size = page.shape[1]
        x = self.pages(page) + self.times(times) + self.given(attributes)[:, None] + self.places.weight[:size]
        later = torch.ones(size, size, dtype=torch.bool).triu(1)
        known = torch.cat([self.drop(self.layers(x, mask=later, is_causal=True)), attributes[:, None].expand(-1, size, -1)], 2)
        out: Tensor = self.out(self.drop(nn.functional.gelu(self.hidden(known), approximate="tanh")))
        return out


ENCODERS: dict[str, type[nn.Module]] = {"gru": Net, "transformer": Transformer}


def learned(kind: str, given: Padded, learn: Any, pages: int, seed: int) -> nn.Module:
    """Return the encoder fitted on the sessions `learn`."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    net = ENCODERS[kind](pages, given.attributes.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    steps = len(network.batched(random, learn, given.sizes))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps + 1)
    for _epoch in range(EPOCHS):
        net.train()
        for batch in network.batched(random, learn, given.sizes):
            optimizer.zero_grad()
            network.loss_of(net, given, batch, pages).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return net.eval()


def judged(net: nn.Module, given: Padded, judge: Any, first: int | None) -> Any:
    """Return the margins of a purchase of the sessions `judge` after `first` events, or after their last where they have fewer."""
    sizes = given.sizes[judge]
    ended = np.ones(len(judge), bool) if first is None else sizes < first
    at = sizes - 1 if first is None else np.minimum(sizes, first) - 1
    with torch.inference_mode():
        parts = [
            net(given.page[part], given.times[part], given.attributes[part])[torch.arange(len(part)), torch.from_numpy(at[place])]
            for part, place in zip(np.array_split(judge, 24), np.array_split(np.arange(len(judge)), 24), strict=True)
        ]
    margins = torch.cat(parts).numpy()
    return np.where(ended, margins[:, FINISHED], margins[:, RUNNING])


def plain(sessions: SessionArrays, learn: Any, judge: Any, pages: int, first: int | None) -> float:
    """Return the AUC of XGBoost on counts and times."""
    rows, others = (journey_training.after(sessions, which, first) for which in (judge, learn))
    X, theirs = (journey_training.counts(journey.matrix(sessions.columns(*one), pages), pages) for one in (rows, others))
    booster = xgb.train({**journey_training.BASELINE, "seed": 0}, xgb.DMatrix(theirs, sessions.y[learn]), journey_training.BASELINE_ROUNDS)
    return metrics.auc(sessions.y[judge], booster.predict(xgb.DMatrix(X), output_margin=True).astype(np.float64))


def main() -> None:
    """Learn, judge, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA / "clickstreamdmm", help="the folder with events.csv.gz and sessions.csv.gz")
    data = parser.parse_args().data
    table = journeys.read(journeys.join(data))
    table, sessions, names, _, _ = journey_training.training_sessions(data, table)
    learn, judge = journey_training.split(table, 0)
    pages = len(names) + 1
    given = network.padded(sessions, pages, network.scaling(sessions.attributes[learn]))
    found: dict[str, Any] = {kind: {"auc": {}, "seconds": []} for kind in ENCODERS}
    points = {"5": 5, "10": 10, "all": None}
    for seed in range(SEEDS):
        for kind, figures in found.items():
            began = time.perf_counter()
            net = learned(kind, given, learn, pages, seed)
            figures["seconds"].append(round(time.perf_counter() - began, 1))
            for name, first in points.items():
                margins = judged(net, given, judge, first).astype(np.float64)
                figures["auc"].setdefault(name, []).append(metrics.auc(sessions.y[judge], margins))
            log(f"seed {seed}, {kind}: " + ", ".join(f"{name} {values[-1]:.4f}" for name, values in figures["auc"].items()))
    baseline = {name: plain(sessions, learn, judge, pages, first) for name, first in points.items()}
    facts = {"sessions": len(learn), "judged_by": len(judge), "width": WIDTH, "batch": BATCH, "epochs": EPOCHS, "seeds": SEEDS}
    results.conclude("journey_encoders", {**facts, "encoders": found, "plain": baseline}, write=True)


if __name__ == "__main__":
    main()
