"""Training of the journey network: a gated recurrent unit (Cho et al. 2014) in Torch, with the formulas of `kernels.networks.gru`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.networks.gru import TIMES, Network
from kernels.types import F32, F64, I64
from training.device import for_torch, mixed_precision
from training.evaluation import metrics
from training.models.journey import model as journey
from training.models.journey.model import EXIT, FINISHED, PAGES, RUNNING, JourneyColumns

WIDTH, MAX_EVENTS = 64, 100
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 10, 128, 3e-3, 0.01, 0.2
VALIDATION_STEP, PATIENCE = 20, 3  # every so many sessions one validates; epochs without a better AUC before training stops
POOL = 16  # batches sorted together, so that each holds sessions of similar length
ENDED_WEIGHT, STEP_WEIGHT, EXIT_WEIGHT = 0.5, 0.1, 0.1

Progress = Callable[[str, float], None]


class SessionArrays(NamedTuple):
    """Sessions as columns: offsets int64 [sessions + 1]; page int64, seconds float32 [events]; attributes float32 [sessions, names]; y."""

    offsets: I64
    page: I64
    seconds: F32
    attributes: F32
    y: F64

    @property
    def sizes(self) -> I64:
        """Return the number of events of each session, int64 [sessions]."""
        return np.diff(self.offsets)

    def columns(self, session: I64, size: I64, ended: NDArray[Any]) -> JourneyColumns:
        """Return rows: the given sessions after their first `size` events."""
        begins = self.offsets[session]
        return JourneyColumns(begins, begins + size, self.page, self.seconds, ended.astype(np.float32), self.attributes[session])


class Net(nn.Module):
    """The trainable network: the formulas of `kernels.networks.gru`, for whole batches."""

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
        joined = torch.cat([self.drop(state), attributes[:, None].expand(-1, page.shape[1], -1)], 2)
        out: Tensor = self.out(self.drop(nn.functional.gelu(self.hidden(joined), approximate="tanh")))
        return out

    def network(self) -> Network:
        """Return the weights in the layout of the kernel."""
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
        return Network(**{name: np.ascontiguousarray(weight.detach().cpu().numpy(), np.float32) for name, weight in given.items()})


class Padded(NamedTuple):
    """Padded training sessions: page [sessions, events], `pages` as padding, times, attributes, y and sizes."""

    page: Tensor
    times: Tensor
    attributes: Tensor
    y: Tensor
    sizes: I64

    def to(self, device: str) -> "Padded":
        """Return the tensors on a device; the sizes stay as they are."""
        page, times, attributes, y = (one.to(device) for one in self[:-1])
        return Padded(page, times, attributes, y, self.sizes)


def scaling(attributes: F32) -> F32:
    """Return the means and standard deviations of attributes [sessions, names], float32 [2, names], for `journey.standardised`."""
    own = attributes.astype(np.float64)
    known = ~np.isnan(own)
    mean = np.where(known, own, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    spread = np.sqrt((np.where(known, own - mean, 0) ** 2).sum(axis=0) / np.maximum(1, known.sum(axis=0)))
    return np.stack([mean, np.where(spread > 0, spread, 1.0)]).astype(np.float32)


def fit(
    sessions: SessionArrays, given: Padded, scales: F32, learn: I64, pages: int, seed: int, progress: Progress
) -> tuple[Network, list[dict[str, float]]]:
    """Return the network fitted on the sessions `learn`, and loss and AUC after each epoch.

    The AUC is that of every VALIDATION_STEP-th session, ended; these are not trained on. The network of the epoch with the best AUC is
    returned; training stops after PATIENCE epochs without a better one. given: all sessions, `padded`; scales: of `scaling`.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    validation = learn[::VALIDATION_STEP]
    learn = np.setdiff1d(learn, validation)
    device = for_torch()
    net, given = Net(pages, sessions.attributes.shape[1]).to(device), given.to(device)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    steps = len(batched(random, learn, given.sizes))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps + 1)
    curve: list[dict[str, float]] = []
    best, since = net.network(), 0
    for epoch in range(EPOCHS):
        net.train()
        total, batches = 0.0, batched(random, learn, given.sizes)
        for batch in batches:
            with mixed_precision(device):
                loss = loss_of(net, given, batch, pages)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / len(batches)
        now = net.eval().network()
        outputs = journey.margins([now], scales, sessions.columns(validation, sessions.sizes[validation], np.ones(len(validation))))
        auc = metrics.auc(sessions.y[validation], outputs[:, FINISHED].astype(np.float64))
        since = 0 if not curve or auc > max(point["auc"] for point in curve) else since + 1
        best = best if since else now
        curve.append({"loss": total, "auc": auc})
        progress(f"loss {total:.4f}, AUC {auc:.4f}", (epoch + 1) / EPOCHS)
        if since == PATIENCE:
            break
    return best, curve


def padded(sessions: SessionArrays, pages: int, scales: F32) -> Padded:
    """Return the sessions padded for training, with the first MAX_EVENTS events of each."""
    sizes = np.minimum(sessions.sizes, MAX_EVENTS)
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
        torch.from_numpy(journey.standardised(sessions.attributes, scales)),
        torch.from_numpy(sessions.y.astype(np.float32)),
        sizes,
    )


def batched(random: np.random.Generator, learn: I64, sizes: I64) -> list[I64]:
    """Return batches of sessions of similar length, in random order."""
    order = random.permutation(learn)
    pools = [order[begin : begin + POOL * BATCH] for begin in range(0, len(order), POOL * BATCH)]
    batches = [batch for pool in pools for batch in np.array_split(pool[np.argsort(sizes[pool])], max(1, len(pool) // BATCH))]
    return [batches[place] for place in random.permutation(len(batches))]


def loss_of(net: nn.Module, given: Padded, batch: I64, pages: int) -> Tensor:
    """Return the loss of a batch: purchase after each event and at the end, exit after each event, and the next page."""
    bce = nn.functional.binary_cross_entropy_with_logits
    longest, device = int(given.sizes[batch].max()), given.page.device
    page, y = given.page[batch, :longest], given.y[batch]
    out = net(page, given.times[batch, :longest], given.attributes[batch])
    there, places = (page != pages).float(), torch.arange(longest, device=device)
    weight = there / (places + 3.0).sqrt()
    weight = weight / weight.sum()
    last = torch.from_numpy(given.sizes[batch] - 1).to(device)
    exits = (places == last[:, None]).float()
    running = (bce(out[..., RUNNING], y[:, None].expand(-1, longest), reduction="none") * weight).sum()
    exit_loss = (bce(out[..., EXIT], exits, reduction="none") * weight).sum()
    ended = bce(out[torch.arange(len(batch), device=device), last, FINISHED], y)
    loss: Tensor = running + ENDED_WEIGHT * ended + EXIT_WEIGHT * exit_loss
    if longest > 1:
        following = nn.functional.cross_entropy(out[:, :-1, PAGES:].reshape(-1, pages), page[:, 1:].reshape(-1), ignore_index=pages)
        loss = loss + STEP_WEIGHT * following
    return loss
