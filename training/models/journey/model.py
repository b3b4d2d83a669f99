"""The journey model: a recurrent network and trees stacked on its outputs, in a bundle without pickles.

network.safetensors  the networks' weights, by number and the names of `kernels.networks.gru.Network`; the scaling of attributes
model.ubj            trees over the features of `kernels.sessions.journey` and the networks' outputs
calibration.json     blends of both margins to log-odds, for running and for ended sessions; the calibration of exits; the prior for a
                     session without a step (`prior`)
curves.svg           training loss and AUC of the networks by epoch
metrics.json         metrics on held-out sessions (`train`)
card.md              the model card

The network processes the sequence of events, each in constant time; the trees use counts. Each is better on some rows (`metrics.json`,
`candidates`); a weighted sum of the margins of the stacked trees and the network is better than both. One network is fitted per fold, on
the other folds: the trees are fitted to out-of-fold outputs, and scoring uses the mean of all networks.
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
from training.models.journey.heads import JourneyHeads
from training.models.journey.prior import UNSEEN, JourneyPrior
from training.models.shared import boosted
from training.models.shared.boosted import ForestTuning
from training.models.shared.calibration import Blend, Platt, probability
from training.registry.bundle import Bundle
from training.tables import journeys

TASK = "journey"
CURVES = "curves.svg"
MODEL, NETWORK, CALIBRATION, METRICS, CARD = "model.ubj", "network.safetensors", "calibration.json", "metrics.json", "card.md"
RUNNING, FINISHED, EXIT, PAGES = 0, 1, 2, 3  # the network's outputs; from PAGES on, the next page
BLENDS, EXITS = ("running", "ended"), "exit"
SCALING = "scaling"
MIN_GPU_SESSIONS = 4096  # per batch on a GPU: the longest session would dominate the time of a smaller batch


class JourneyColumns(NamedTuple):
    """Sessions as columns. begins, ends: int64 [rows]; page int64, seconds float32 [events]; ended float32 [rows]; attributes [rows, n]."""

    begins: I64
    ends: I64
    page: I64
    seconds: F32
    ended: F32
    attributes: F32


class JourneyScores(NamedTuple):
    """Calibrated probabilities, float64 [rows]: of a purchase; of an exit after this event (1 where the session has ended).

    steps: float64 [rows, pages], of each next step; order_value: expected order value, churn: probability of churn, None where the model
    has no such head; after: the networks' states float32 [networks, width] of rows that resumed from stored states, None for the others.
    """

    conversion: F64
    exit: F64
    steps: F64
    order_value: F64 | None
    churn: F64 | None
    after: Sequence[F32 | None] = ()


class NetworkStates(NamedTuple):
    """The states from which a session resumes: float32 [networks, width], after its first `events` steps."""

    states: F32
    events: int


class DeviceKernels(NamedTuple):
    """The two expensive parts of scoring, on one device; every device returns the same bits."""

    margins: Callable[..., None]
    trees: Callable[[Forest, F32], Any]


ON_CPU = DeviceKernels(gru.journey_margins, Forest.margin)
ON_CUDA = DeviceKernels(gru.journey_margins_cuda, Forest.margin_cuda)


class JourneyModel:
    """A loaded journey model. Row i of its scores depends on session i alone, bit for bit.

    pages: the names of its steps (`journeys.step`); the step at index i has the number i + 1; attributes: the names of the sessions'
    attributes; device: "cuda" to score batches of at least MIN_GPU_SESSIONS on a GPU.
    """

    def __init__(
        self, forest: Forest, networks: Sequence[Network], scaling: F32, bundle: Bundle, heads: JourneyHeads, device: str = "cpu"
    ) -> None:
        meta, calibration = bundle.manifest, bundle.json(CALIBRATION)
        self.version = bundle.version
        self.pages: tuple[str, ...] = tuple(meta["pages"])
        self.attributes: tuple[str, ...] = tuple(meta["attributes"])
        self.codes = journeys.codes(self.pages)
        self._forest, self._networks, self._scaling = forest, networks, scaling
        self._blends = {name: Blend.read(calibration[name]) for name in BLENDS}
        self._exits = Platt.read(calibration[EXITS])
        self._prior = JourneyPrior.read(calibration[UNSEEN])
        self._tuned, self._device = ForestTuning(forest), device
        self.heads, self.steps = heads, steps.load(bundle)
        shapes = {(len(network.pages), len(network.given)) for network in networks}
        if shapes != {(len(self.pages) + 1, len(self.attributes))}:
            raise ValueError("the networks and the manifest differ in the number of pages or attributes")

    @classmethod
    def prepare(cls, bundle: Bundle) -> Arrays:
        """Return the flattened trees of a verified bundle, checked against XGBoost. Raises BundleError as `load` does."""
        bundle.require(TASK)
        pages = len(bundle.manifest.get("pages", ())) + 1
        size = kernel.columns(pages, len(bundle.manifest.get("attributes", ())))
        columns = size + PAGES + pages
        return {**boosted.named(f"{MODEL}/", boosted.forest(bundle, MODEL, columns)), **journey_heads.prepare(bundle, columns)}

    @classmethod
    def load(cls, bundle: Bundle, parts: Arrays | None = None, device: str = "cpu") -> "JourneyModel":
        """Return the model in a verified bundle; `parts`: the result of `prepare`. Raises BundleError for an incomplete one."""
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
        """Return the settings chosen for this machine with their reasons, one line each."""
        return self._tuned.tune(None if live is None else live._tuned)

    def code(self, pages: Sequence[str | None]) -> I64:
        """Return the numbers of pages, int64 [pages], UNKNOWN for those that are not in the model."""
        return journeys.coded(pages, self.codes)

    @property
    def state_shape(self) -> tuple[int, int]:
        """Return the number of networks, and the width of the state of each."""
        return len(self._networks), len(self._networks[0].bias)

    def score(self, columns: JourneyColumns, before: Sequence[NetworkStates | None] = ()) -> JourneyScores:
        """Return the scores of sessions; one without a step gets the shares of `prior`.

        before: the states from which each row resumes, or None; the scores have the same bits, in constant time per event.
        """
        on = ON_CUDA if self._device == "cuda" and len(columns.begins) >= MIN_GPU_SESSIONS else ON_CPU
        outputs, after = self._outputs(columns, before, on)
        ended = columns.ended > 0
        X = stacked(columns, outputs, len(self.pages) + 1)
        trees = on.trees(self._forest, X)
        conversion = conversions(trees, purchase_margin(outputs, ended), ended, self._blends)
        exits = probability(self._exits.apply(outputs[:, EXIT].astype(np.float64)))
        following = np.exp(outputs[:, PAGES:] - outputs[:, PAGES:].max(axis=1, initial=0.0, keepdims=True)).astype(np.float64)
        following /= following.sum(axis=1, keepdims=True)
        none, prior = columns.begins == columns.ends, self._prior
        conversion[none] = np.where(ended[none], prior.ended, prior.running)
        exits[none], following[none] = prior.exit, prior.steps
        exits[ended] = 1.0
        return JourneyScores(conversion, exits, following, self.heads.order_value(X), self.heads.churn_risk(X), after)

    def _outputs(self, columns: JourneyColumns, before: Sequence[NetworkStates | None], on: DeviceKernels) -> tuple[F32, list[F32 | None]]:
        """Return the networks' mean outputs for each row, and the new states of those that resume from stored ones."""
        whole = [row for row in range(len(columns.begins)) if not before or before[row] is None]
        if len(whole) == len(columns.begins):
            return margins(self._networks, self._scaling, columns, on), [None] * len(whole)
        outputs = np.empty((len(columns.begins), PAGES + len(self.pages) + 1), np.float32)
        after: list[F32 | None] = [None] * len(outputs)
        part = columns._replace(**{name: getattr(columns, name)[whole] for name in ("begins", "ends", "ended", "attributes")})
        outputs[whole] = margins(self._networks, self._scaling, part, on)
        for row, stored in enumerate(before):
            if stored is not None:
                after[row] = stored.states.copy()
                self._advance(columns, row, stored.events, after[row], outputs[row])
        return outputs, after

    def _advance(self, columns: JourneyColumns, row: int, done: int, states: Any, outputs: F32) -> None:
        """Advance the states of a row by its events after the first `done`, and write the networks' mean outputs into `outputs`."""
        begin, end = int(columns.begins[row]), int(columns.ends[row])
        given, out = standardised(columns.attributes[row], self._scaling), np.empty_like(outputs)
        outputs[:] = 0.0
        for network, state in zip(self._networks, states, strict=True):
            gru.journey_outputs(given, network, state, out)
            for place in range(begin + done, end):
                gap = columns.seconds[place] - columns.seconds[place - 1] if place > begin else 0.0
                elapsed = columns.seconds[place] - columns.seconds[begin]
                gru.journey_advance(columns.page[place], gap, elapsed, place - begin, given, network, state, out)
            outputs += out
        outputs /= np.float32(len(self._networks))


def purchase_margin(outputs: F32, ended: Bool) -> F32:
    """Return the network's margin of a purchase, float32 [rows]; running and ended sessions have separate outputs."""
    margin: F32 = np.where(ended, outputs[:, FINISHED], outputs[:, RUNNING])
    return margin


def conversions(trees: NDArray[Any], network: NDArray[Any], ended: Bool, blends: Mapping[str, Blend]) -> F64:
    """Return the calibrated probability of a purchase, float64 [rows], from the trees' and the network's margins."""
    running, last = (blends[name].apply(trees.astype(np.float64), network.astype(np.float64)) for name in BLENDS)
    return probability(np.where(ended, last, running))


def standardised(attributes: F32, scaling: F32) -> F32:
    """Return standardised attributes, 0 where missing; scaling: float32 [2, attributes], means and standard deviations."""
    out: F32 = np.nan_to_num((attributes - scaling[0]) / scaling[1]).astype(np.float32)
    return out


def margins(networks: Sequence[Network], scaling: F32, columns: JourneyColumns, on: DeviceKernels = ON_CPU) -> F32:
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
    """Return the arrays of networks by their names in a file."""
    return {f"{number}.{name}": weight for number, network in enumerate(networks) for name, weight in network._asdict().items()}


def unpacked(content: Mapping[str, F32]) -> list[Network]:
    """Return the networks in the arrays that `packed` returned. Raises KeyError where a weight is missing."""
    numbers = sorted({int(name.partition(".")[0]) for name in content})
    return [Network(*(np.ascontiguousarray(content[f"{number}.{name}"], np.float32) for name in Network._fields)) for number in numbers]


def stacked(columns: JourneyColumns, outputs: F32, pages: int) -> F32:
    """Return the features of the trees, float32 [rows, features + outputs]: those of the session, and the networks' outputs."""
    return np.column_stack([matrix(columns, pages), outputs])


def matrix(columns: JourneyColumns, pages: int) -> F32:
    """Return the features float32 [rows, kernels.sessions.journey.columns]; pages: their number, including the unknown page."""
    out = np.empty((len(columns.begins), kernel.columns(pages, columns.attributes.shape[1])), np.float32)
    kernel.journey_features(columns.begins, columns.ends, columns.page, columns.seconds, columns.ended, columns.attributes, pages, out)
    return out
