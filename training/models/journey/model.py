"""The journey model: a recurrent network and trees that know what it says, stacked, in a bundle without pickles.

network.safetensors  the networks' weights, by number and the names of `kernels.networks.gru.Network`, and how attributes are standardised
model.ubj            trees over the features that `kernels.sessions.journey` counts and the networks' outputs
calibration.json     sums to log-odds: of sessions that run on, of those that have ended; a line of whether the next event is none; what is
                     said before any (`journey_unseen`)
curves.svg           loss and AUC while the networks were learned
metrics.json         how well that does on sessions it never saw (`journey_training`)
card.md              the same for people

The network sees the order of events and takes each in constant time; trees see counts. Of the two each is better somewhere (`metrics.json`,
`candidates`); a weighted sum of the stacked trees' margin and the network's is better than both. There is a network for each part of the
sessions that the others were left out of: the trees learn from what a network says of sessions that it has not seen, and are told the mean
of all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.networks import gru
from kernels.networks.gru import Network
from kernels.sessions import journey as kernel
from kernels.trees.forest import Forest
from kernels.types import F32, F64, I64, Bool
from training.models.journey import heads as journey_heads
from training.models.journey import next_step as steps
from training.models.journey.heads import Heads
from training.models.journey.prior import UNSEEN, Unseen
from training.models.shared import boosted
from training.models.shared.boosted import Tuned
from training.models.shared.calibration import Blend, Platt, probability
from training.registry.bundle import Bundle
from training.tables import journeys

TASK = "journey"
CURVES = "curves.svg"
MODEL, NETWORK, CALIBRATION, METRICS, CARD = "model.ubj", "network.safetensors", "calibration.json", "metrics.json", "card.md"
RUNNING, FINISHED, EXIT, PAGES = 0, 1, 2, 3  # the network's outputs; from PAGES on, the next page
BLENDS, LEAVES = ("running", "ended"), "exit"
SCALING = "scaling"
MANY = 4096  # sessions at once from which a GPU scores them: the longest of fewer would keep it waiting


class Columns(NamedTuple):
    """Sessions as columns. begins, ends: int64 [rows]; page int64, seconds float32 [events]; ended float32 [rows]; attributes [rows, n]."""

    begins: I64
    ends: I64
    page: I64
    seconds: F32
    ended: F32
    attributes: F32


class Scores(NamedTuple):
    """float64 [rows], calibrated: buys, leaves after this event (1 where the session has ended); steps [rows, pages]: the next step.

    order_value: what an order is worth if there is one; churn: that the customer stays away; None where the model does not know. after: the
    networks' states float32 [networks, width] of the rows that went on from some, None of the others.
    """

    conversion: F64
    exit: F64
    steps: F64
    order_value: F64 | None
    churn: F64 | None
    after: Sequence[F32 | None] = ()


class Before(NamedTuple):
    """Where a session goes on from: states float32 [networks, width] after its first `events` steps."""

    states: F32
    events: int


class Launches(NamedTuple):
    """What takes long of scoring sessions, on a device: the same bits on each."""

    margins: Callable[..., None]
    trees: Callable[[Forest, F32], Any]


ON_CPU = Launches(gru.journey_margins, Forest.margin)
ON_CUDA = Launches(gru.journey_margins_cuda, Forest.margin_cuda)


class JourneyModel:
    """A loaded journey model. Row i of an answer depends on session i alone, bit for bit.

    pages: the names of the steps that it knows (`journey_table.step`), a step's number less one being its place; attributes: the names of
    what it knows beside.
    device: "cuda" where a GPU scores very many sessions at once (MANY).
    """

    def __init__(
        self, forest: Forest, networks: Sequence[Network], scaling: F32, bundle: Bundle, heads: Heads, device: str = "cpu"
    ) -> None:
        meta, calibration = bundle.manifest, bundle.json(CALIBRATION)
        self.version = bundle.version
        self.pages: tuple[str, ...] = tuple(meta["pages"])
        self.attributes: tuple[str, ...] = tuple(meta["attributes"])
        self.codes = journeys.codes(self.pages)
        self._forest, self._networks, self._scaling = forest, networks, scaling
        self._blends = {name: Blend.read(calibration[name]) for name in BLENDS}
        self._leaves = Platt.read(calibration[LEAVES])
        self._unseen = Unseen.read(calibration[UNSEEN])
        self._tuned, self._device = Tuned(forest), device
        self.heads, self.steps = heads, steps.load(bundle)
        known = {(len(network.pages), len(network.given)) for network in networks}
        if known != {(len(self.pages) + 1, len(self.attributes))}:
            raise ValueError("a network knows other pages or attributes than the manifest")

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the trees of a verified bundle laid out and checked against XGBoost. Raises BundleError as `load` does."""
        bundle.require(TASK)
        pages = len(bundle.manifest.get("pages", ())) + 1
        size = kernel.columns(pages, len(bundle.manifest.get("attributes", ())))
        columns = size + PAGES + pages
        return {**boosted.named(f"{MODEL}/", boosted.forest(bundle, MODEL, columns)), **journey_heads.prepare(bundle, columns)}

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None, device: str = "cpu") -> "JourneyModel":
        """Return the model in a verified bundle; `parts`: what `prepare` has made of it. Raises BundleError for one that is not whole."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        bundle.require(TASK)
        parts = cls.prepare(bundle) if parts is None else parts
        try:
            content = load(bundle.read(NETWORK))
            scaling = content.pop(SCALING)
            return cls(boosted.of_name(f"{MODEL}/", parts), unpacked(content), scaling, bundle, journey_heads.load(bundle, parts), device)
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise boosted.unloadable(bundle, error) from error

    def tune(self, live: "JourneyModel | None" = None) -> Sequence[str]:
        """Return what was chosen for this machine and why, a line each."""
        return self._tuned.tune(None if live is None else live._tuned)

    def code(self, pages: Sequence[str | None]) -> I64:
        """Return the numbers of pages, UNKNOWN of those that the model does not know."""
        return journeys.coded(pages, self.codes)

    @property
    def state_shape(self) -> tuple[int, int]:
        """Return how many networks there are, and how many numbers the state of each has."""
        return len(self._networks), len(self._networks[0].bias)

    def score(self, columns: Columns, before: Sequence[Before | None] = ()) -> Scores:
        """Return the scores of sessions; of one without a step, how such sessions have been.

        before: for each row where it goes on from, if anywhere: the same bits, in constant time an event.
        """
        on = ON_CUDA if self._device == "cuda" and len(columns.begins) >= MANY else ON_CPU
        said, after = self._said(columns, before, on)
        ended = columns.ended > 0
        X = stacked(columns, said, len(self.pages) + 1)
        trees = on.trees(self._forest, X)
        conversion = conversions(trees, of_purchase(said, ended), ended, self._blends)
        exits = probability(self._leaves.apply(said[:, EXIT].astype(np.float64)))
        following = np.exp(said[:, PAGES:] - said[:, PAGES:].max(axis=1, initial=0.0, keepdims=True)).astype(np.float64)
        following /= following.sum(axis=1, keepdims=True)
        none, unseen = columns.begins == columns.ends, self._unseen
        conversion[none] = np.where(ended[none], unseen.ended, unseen.running)
        exits[none], following[none] = unseen.exit, unseen.steps
        exits[ended] = 1.0
        return Scores(conversion, exits, following, self.heads.order_value(X), self.heads.churn_risk(X), after)

    def _said(self, columns: Columns, before: Sequence[Before | None], on: Launches) -> tuple[F32, list[F32 | None]]:
        """Return what the networks say of each row, and the states of those that go on from some."""
        whole = [row for row in range(len(columns.begins)) if not before or before[row] is None]
        if len(whole) == len(columns.begins):
            return margins(self._networks, self._scaling, columns, on), [None] * len(whole)
        said = np.empty((len(columns.begins), PAGES + len(self.pages) + 1), np.float32)
        after: list[F32 | None] = [None] * len(said)
        part = columns._replace(**{name: getattr(columns, name)[whole] for name in ("begins", "ends", "ended", "attributes")})
        said[whole] = margins(self._networks, self._scaling, part, on)
        for row, known in enumerate(before):
            if known is not None:
                after[row] = known.states.copy()
                self._advance(columns, row, known.events, after[row], said[row])
        return said, after

    def _advance(self, columns: Columns, row: int, known: int, states: Any, said: F32) -> None:
        """Take the events of a row after the first `known` into its states, and write what the networks then say."""
        begin, end = int(columns.begins[row]), int(columns.ends[row])
        given, out = standardised(columns.attributes[row], self._scaling), np.empty_like(said)
        said[:] = 0.0
        for network, state in zip(self._networks, states, strict=True):
            gru.journey_said(given, network, state, out)
            for place in range(begin + known, end):
                gap = columns.seconds[place] - columns.seconds[place - 1] if place > begin else 0.0
                elapsed = columns.seconds[place] - columns.seconds[begin]
                gru.journey_advance(columns.page[place], gap, elapsed, place - begin, given, network, state, out)
            said += out
        said /= np.float32(len(self._networks))


def of_purchase(said: F32, ended: Bool) -> F32:
    """Return the network's margin of a purchase float32 [rows], of its outputs: another where the session has ended."""
    own: F32 = np.where(ended, said[:, FINISHED], said[:, RUNNING])
    return own


def conversions(trees: NDArray[Any], network: NDArray[Any], ended: Bool, blends: Mapping[str, Blend]) -> F64:
    """Return the calibrated probability of a purchase, float64 [rows], of the trees' and the network's margins."""
    running, last = (blends[name].apply(trees.astype(np.float64), network.astype(np.float64)) for name in BLENDS)
    return probability(np.where(ended, last, running))


def standardised(attributes: F32, scaling: F32) -> F32:
    """Return attributes as the network takes them, 0 where missing; scaling: [2, attributes], what is taken off and what is divided by."""
    out: F32 = np.nan_to_num((attributes - scaling[0]) / scaling[1]).astype(np.float32)
    return out


def margins(networks: Sequence[Network], scaling: F32, columns: Columns, on: Launches = ON_CPU) -> F32:
    """Return the mean of the networks' outputs float32 [rows, outputs]; scaling: as for `standardised`."""
    given = standardised(columns.attributes, scaling)
    order = np.argsort(columns.ends - columns.begins, kind="stable")
    total = np.zeros((len(columns.begins), len(networks[0].out_bias)), np.float32)
    for network in networks:
        out = np.empty_like(total)
        on.margins(columns.begins, columns.ends, columns.page, columns.seconds, given, network, order, out)
        total += out
    return total / np.float32(len(networks))


def packed(networks: Sequence[Network]) -> dict[str, F32]:
    """Return networks as a file keeps them."""
    return {f"{number}.{name}": weight for number, network in enumerate(networks) for name, weight in network._asdict().items()}


def unpacked(content: Mapping[str, F32]) -> list[Network]:
    """Return the networks that `packed` returned. Raises KeyError where a weight is missing."""
    numbers = sorted({int(name.partition(".")[0]) for name in content})
    return [Network(*(np.ascontiguousarray(content[f"{number}.{name}"], np.float32) for name in Network._fields)) for number in numbers]


def stacked(columns: Columns, said: F32, pages: int) -> F32:
    """Return what the trees see: the features, and what the networks say."""
    return np.column_stack([matrix(columns, pages), said])


def matrix(columns: Columns, pages: int) -> F32:
    """Return the features float32 [rows, kernels.sessions.journey.columns]; pages: how many there are, with the unknown one."""
    out = np.empty((len(columns.begins), kernel.columns(pages, columns.attributes.shape[1])), np.float32)
    kernel.journey_features(columns.begins, columns.ends, columns.page, columns.seconds, columns.ended, columns.attributes, pages, out)
    return out
