"""What happens next in this session, and is it going badly? Events in; what will come, and the friction that can be counted, out."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Arrays
from kernels.sessions import friction
from kernels.sessions.friction import COUNTED
from kernels.types import F32, F64, I32, I64
from serving.engines.consent import lacking
from serving.engines.engine import Engine, Scorer
from serving.engines.journey import next_step as steps
from serving.engines.journey import states as feelings
from serving.engines.journey.events import Session, counted, gone_on, waiting
from serving.engines.journey.events import steps as steps_of
from serving.engines.journey.memory import MEMORY, Continued, attributes_of
from serving.engines.journey.next_step import Situation, Steps
from serving.engines.journey.state import Seen, Trace
from serving.engines.journey.states import StateScore
from serving.engines.journey.types import MAX_EVENTS, JourneyRequest, JourneyResponse, Step
from serving.engines.types import epoch_ms, is_sane, moment, not_sane, odd
from serving.errors import FieldProblem, InvalidRequestError, TooLargeError
from serving.settings import CONFIGS, Settings
from training import device
from training.tables import journeys

if TYPE_CHECKING:
    from training.models.journey.model import Before, Columns, JourneyModel, Scores
    from training.registry.bundle import Bundle


class Told(NamedTuple):
    """One session as a request, and what is remembered, tell of it at a moment, in milliseconds since 1970.

    later: events that came but are later than that, and do not count yet. steps: those that the model takes. trace: what is known of a
    session that is remembered, but for the networks' states, and before: where these go on from. waiting: what is to be remembered where
    that is not what was answered for. recomputed: whether it was another model's.
    """

    session: Session
    as_of_ms: float
    later: int
    steps: Sequence[Seen]
    trace: Trace | None = None
    before: "Before | None" = None
    waiting: Trace | None = None
    recomputed: bool = False

    @property
    def events(self) -> int:
        """Return how many events count."""
        return len(self.session.events) if self.trace is None else self.trace.events - self.later


class Asked(NamedTuple):
    """Sessions as columns: what the model takes, how often everything was counted (int32 [n, 2 counted]), and whose they are.

    told: the sessions one by one; none for those of a table.
    """

    known: "Columns"
    counts: I32
    ids: Sequence[str]
    told: Sequence[Told] = ()

    @property
    def unknown(self) -> I64:
        """Return how many steps of each session the model does not know: int64 [n]."""
        before = np.concatenate(([0], np.cumsum(self.known.page == journeys.UNKNOWN)))
        unknown: I64 = before[self.known.ends] - before[self.known.begins]
        return unknown


class Answers(NamedTuple):
    """Answers as columns."""

    asked: Asked
    scores: "Scores"
    friction: F64


class JourneyScorer:
    """A loaded journey model behind the engine's seam. `clock` returns seconds since 1970."""

    def __init__(self, model: "JourneyModel", steps: Steps, clock: Callable[[], float] = time.time) -> None:
        self._model, self._steps, self._clock = model, steps, clock

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.version

    def tune(self, live: Scorer | None = None) -> Sequence[str]:
        """Choose what is fastest on this machine, as the `live` model has or by measuring it, and return what was chosen and why."""
        return self._model.tune(live._model if isinstance(live, JourneyScorer) else None)

    def refusal(self, request: JourneyRequest) -> None:
        """Return nothing: whatever the model does not know is missing."""

    def columns(self, requests: Sequence[JourneyRequest]) -> Asked:
        """Return the requests as columns."""
        now = self._clock() * 1000
        told = [self._told(request, now if request.as_of is None else epoch_ms(request.as_of)) for request in requests]
        counts = counted([one.session for one in told], [one.trace for one in told])
        return Asked(self._known(requests, told), counts, [request.session_id for request in requests], told)

    def without_explanations(self, columns: Asked) -> Asked:
        """Return the columns as they are: nothing can be left out."""
        return columns

    def base_rate(self, request: JourneyRequest) -> None:
        """Return nothing: the same for every session says nothing of one."""

    def run(self, columns: Asked) -> Answers:
        """Return scores as columns."""
        score = np.empty(len(columns.counts))
        friction.friction_scores(columns.counts, score)
        return Answers(columns, self._model.score(columns.known, [one.before for one in columns.told]), score)

    def rows(self, requests: Sequence[JourneyRequest], answers: Answers) -> list[JourneyResponse]:
        """Return one response for each request, in order."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return [self._row(request, place, answers, now) for place, request in enumerate(requests)]

    def table(self, frame: Any) -> Asked:
        """Return the sessions of a table of events; nothing but steps is known of them."""
        found = journeys.read(frame).known(self._model.codes)
        known = _columns(
            found.offsets, self._model.code(found.pages), found.seconds, found.ended, _attributes(found, self._model.attributes)
        )
        return Asked(known, np.zeros((len(found.ids), 2 * len(COUNTED)), np.int32), found.ids)

    def answers_frame(self, answers: Answers) -> dict[str, NDArray[Any] | list[Any]]:
        """Return the output columns of a batch job."""
        scores = answers.scores
        value = None if scores.order_value is None else scores.conversion * scores.order_value
        told = {"valuePrediction": value, "churnRisk": scores.churn}
        return {
            "sessionId": answers.asked.ids,
            "conversionProbability": scores.conversion,
            "exitProbability": scores.exit,
            **{name: column for name, column in told.items() if column is not None},
            "unknownPages": answers.asked.unknown,
            "missing": np.isnan(answers.asked.known.attributes).sum(axis=1),
            "modelVersion": [self.version] * len(scores.conversion),
        }

    def kept(self, requests: Sequence[JourneyRequest], answers: Answers) -> list[bytes | None]:
        """Return what is to be remembered of each session, None where that was not asked for."""
        table = zip(requests, answers.asked.told, answers.scores.after, strict=True)
        return [self._kept(told, states) if request.remember else None for request, told, states in table]

    def _kept(self, told: Told, states: "F32 | None") -> bytes | None:
        if told.waiting is not None:
            return told.waiting.packed()
        if told.trace is None or states is None:
            return None
        return told.trace._replace(version=self.version, states=states).packed()

    def _told(self, request: JourneyRequest, until_ms: float) -> Told:
        """Return what is told of a session until a moment."""
        session, remembered = Session.until(request.events, until_ms), self._remembered(request)
        later = len(request.events) - len(session.events)
        if remembered is None:
            return Told(session, until_ms, later, steps_of(session.seen, self._model.codes))
        begun = remembered._replace(attributes=attributes_of(request))
        trace = gone_on(begun, session, len(request.events))
        return Told(
            session,
            until_ms,
            later,
            steps_of(trace.seen, self._model.codes),
            trace,
            self._before(remembered, begun.attributes),
            waiting(begun, request.events, until_ms),
            bool(remembered.seen) and remembered.version not in ("", self.version),
        )

    def _remembered(self, request: JourneyRequest) -> Trace | None:
        """Return what is remembered of a session: nothing of one that begins, None of one that is not to be remembered."""
        if isinstance(request, Continued):
            trace: Trace = request.trace
            return trace
        return Trace.begun(*self._model.state_shape) if request.remember else None

    def _before(self, trace: Trace, attributes: Mapping[str, float]) -> "Before":
        """Return where the networks go on from: the beginning, where what is remembered was another model's, or of other attributes."""
        from training.models.journey.model import Before

        shape = self._model.state_shape
        if trace.version != self.version or trace.attributes != attributes or trace.states.size != shape[0] * shape[1]:
            return Before(np.zeros(shape, np.float32), 0)
        return Before(trace.states.reshape(shape), len(steps_of(trace.seen, self._model.codes)))

    def _known(self, requests: Sequence[JourneyRequest], told: Sequence[Told]) -> "Columns":
        steps = [one.steps for one in told]
        offsets = np.cumsum([0, *map(len, steps)]).astype(np.int64)
        stamps = [np.maximum.accumulate(np.array([one.moment for one in each], np.float64)) for each in steps]
        seconds = [(stamp - stamp[:1]) / 1000 for stamp in stamps]
        given = [
            [float(value) if (value := (request.attributes or {}).get(name)) is not None else np.nan for name in self._model.attributes]
            for request in requests
        ]
        return _columns(
            offsets,
            self._model.code([one.name for each in steps for one in each]),
            np.concatenate([np.empty(0), *seconds]).astype(np.float32),
            np.array([bool(request.session_ended) for request in requests], np.float32),
            np.array(given, np.float32).reshape(len(requests), len(self._model.attributes)),
        )

    def _row(self, request: JourneyRequest, place: int, answers: Answers, now: datetime) -> JourneyResponse:
        asked, told, scores, names = answers.asked, answers.asked.told[place], answers.scores, self._model.attributes
        given = request.attributes or {}
        steps = zip(("unknown", *self._model.pages), scores.steps[place].tolist(), strict=True)
        evidence = feelings.counted(asked.counts[place])
        states = feelings.scores(evidence, told.events, float(scores.conversion[place]))
        own = request.order_value
        worth = own if own is not None else None if scores.order_value is None else float(scores.order_value[place])
        return JourneyResponse(
            session_id=request.session_id,
            customer_id=request.customer_id,
            current_step=told.steps[-1].name if told.steps else None,
            conversion_probability=float(scores.conversion[place]),
            exit_probability=float(scores.exit[place]),
            next_steps=[Step(step=step, probability=min(1.0, p)) for step, p in sorted(steps, key=lambda one: -one[1])],
            value_prediction=None if worth is None else float(scores.conversion[place]) * worth,
            churn_risk=None if scores.churn is None else float(scores.churn[place]),
            currency=request.currency if own is not None else self._model.heads.currency,
            next_best_step=self._steps.choose(self._situation(request, place, answers, states, worth)),
            emotional_state=feelings.state(states),
            state_scores=states,
            friction_score=float(answers.friction[place]),
            friction_level=feelings.level(float(answers.friction[place])),
            friction=evidence,
            missing=[name for name in names if given.get(name) is None],
            ignored=sum(value is not None and name not in names for name, value in given.items()),
            unknown_pages=sum(one.name not in self._model.codes for one in told.steps),
            later_events=told.later,
            known_events=told.events + told.later,
            remarks=["recomputed"] if told.recomputed else [],
            degradation="none",
            as_of=moment(told.as_of_ms),
            model_version=self.version,
            timestamp=now,
        )

    def _situation(
        self, request: JourneyRequest, place: int, answers: Answers, states: Sequence[StateScore], worth: float | None
    ) -> Situation:
        """Return what is known when a step is to be chosen."""
        told, scores = answers.asked.told[place], answers.scores
        facts: dict[str, float] = {
            "conversionProbability": float(scores.conversion[place]),
            "exitProbability": float(scores.exit[place]),
            "frictionScore": float(answers.friction[place]),
            "events": float(told.events),
        }
        facts |= {str(one.state): one.score for one in states}
        return Situation(
            facts,
            told.as_of_ms,
            bool(request.session_ended),
            request.consent or (),
            request.contacts or (),
            request.utc_offset_minutes,
            worth,
            f"{request.session_id}\0{told.events}\0{self.version}",
        )


def _columns(
    offsets: I64,
    page: I64,
    seconds: F32,
    ended: F32,
    attributes: F32,
) -> "Columns":
    from training.models.journey.model import Columns

    return Columns(offsets[:-1].copy(), offsets[1:].copy(), page, seconds, ended, attributes)


def _attributes(found: journeys.Journeys, names: Sequence[str]) -> F32:
    """Return the table's attributes in the model's order, NaN where the table has none."""
    out = np.full((len(found.ids), len(names)), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in found.names:
            out[:, place] = found.attributes[:, found.names.index(name)]
    return out


def check(request: JourneyRequest) -> None:
    """Raise InvalidRequestError for what types cannot say, TooLargeError beyond MAX_EVENTS."""
    if len(request.events) > MAX_EVENTS:
        raise TooLargeError(f"events has {len(request.events):,} events, at most {MAX_EVENTS:,} are taken; send the latest ones", "events")
    stamps: list[datetime | float] = [event.timestamp for event in request.events]
    wrong = [not_sane(f"events[{i}].timestamp") for i, stamp in enumerate(stamps) if not is_sane(stamp)] if odd(stamps) else []
    if request.as_of is not None and not is_sane(request.as_of):
        wrong.append(not_sane("asOf"))
    wrong += lacking(request.customer_id, request.consent)
    wrong += [not_sane(f"contacts[{i}].at") for i, contact in enumerate(request.contacts or ()) if not is_sane(contact.at)]
    if any(value is not None and not -1e12 <= value <= 1e12 for value in (request.attributes or {}).values()):
        wrong.append(FieldProblem("attributes", "expected numbers from -1e12 to 1e12"))
    if wrong:
        raise InvalidRequestError(wrong)


def prepare(bundle: "Bundle") -> Arrays:
    """Return the trees of a bundle, laid out and checked. Raises BundleError."""
    from training.models.journey.model import JourneyModel

    return JourneyModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, parts: Arrays | None = None) -> JourneyScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match."""
    from training.models.journey.model import JourneyModel

    model = JourneyModel.load(bundle, parts, device.resolve(settings.device))
    return JourneyScorer(model, steps.load(CONFIGS / "steps.yaml", model.steps))


EXAMPLE: Mapping[str, Any] = {
    "sessionId": "s-1",
    "events": [
        {"type": "page_view", "timestamp": "2026-11-20T19:58:00Z", "page": "0"},
        {"type": "page_view", "timestamp": "2026-11-20T19:58:21Z", "page": "3"},
        {"type": "click", "timestamp": "2026-11-20T19:58:40Z", "elementId": "add-to-cart", "x": 610, "y": 402},
        {"type": "click", "timestamp": "2026-11-20T19:58:40.4Z", "elementId": "add-to-cart", "x": 611, "y": 402},
        {"type": "click", "timestamp": "2026-11-20T19:58:40.8Z", "elementId": "add-to-cart", "x": 611, "y": 403},
        {"type": "page_view", "timestamp": "2026-11-20T19:58:50Z", "page": "4"},
        {"type": "wait", "timestamp": "2026-11-20T19:58:55Z", "waitMs": 5200},
        {"type": "page_view", "timestamp": "2026-11-20T19:59:30Z", "page": "0"},
    ],
    "attributes": {"static0": 1},
    "orderValue": 80,
    "currency": "EUR",
    "consent": ["marketing"],
    "utcOffsetMinutes": 60,
}

JOURNEY = Engine(
    name="journey",
    route="/v1/journey",
    summary="What happens next in this session, and is it going badly? Purchase, exit, the next page, and friction with its evidence.",
    request=JourneyRequest,
    response=JourneyResponse,
    example=EXAMPLE,
    check=check,
    prepare=prepare,
    load=load,
    optional=True,
    memory=MEMORY,
    pooled=True,
)
