"""What happens next in this session, and is it going badly? Events in; what will come, and the friction that can be counted, out."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import xxhash
from msgspec import Meta
from numpy.typing import NDArray

from kernels import friction
from kernels.friction import COUNTED, DEFAULTS, KINDS
from kernels.parts import Parts
from serving.engines import feelings, steps
from serving.engines.consent import Consent, lacking
from serving.engines.engine import Engine, Scorer
from serving.engines.feelings import EmotionalState, Evidence, Level, StateScore
from serving.engines.journey_state import Trace
from serving.engines.memory import Memory
from serving.engines.price_types import Currency
from serving.engines.steps import MOST_CONTACTS, Contact, Measured, NextBestStep, Situation, Steps
from serving.engines.types import (
    Fraction,
    Id,
    Milliseconds,
    Moment,
    Money,
    Name,
    Pixel,
    Rung,
    Url,
    Wire,
    epoch_ms,
    is_sane,
    moment,
    not_sane,
    odd,
)
from serving.errors import FieldProblem, InvalidRequestError, TooLargeError
from serving.settings import CONFIGS, Settings
from training import journey_table

if TYPE_CHECKING:
    from training.bundle import Bundle
    from training.models.journey import Before, Columns, JourneyModel, Scores

MOST_EVENTS, MOST_ATTRIBUTES = 10_000, 200
_KIND = {**{name: code for code, name in enumerate(KINDS)}, "page_view": friction.PAGE, "product_view": friction.PAGE}
_BITS = (1 << 63) - 1
KEEP_S = 3600.0  # of what is remembered, after the last request: twice the pause that ends a session
Remark = Literal["recomputed"]
Whole = Annotated[float, Meta(ge=0, le=1e9, multiple_of=1)]


class JourneyEvent(Wire, frozen=True, kw_only=True):
    """One thing that happened in a session. Unknown types and pages are counted as unknown."""

    type: Annotated[Name, Meta(description=f"page_view, or one of {', '.join(KINDS[1:])}; others are counted as unknown.")]
    timestamp: Annotated[Moment, Meta(description="ISO 8601 with a zone, or milliseconds since 1970-01-01 UTC; in the order of the list.")]
    page: Annotated[Name | None, Meta(description="The kind of page that is shown, as the model's table names it.")] = None
    url: Annotated[Url | None, Meta(description="Of the page, to tell visits of one page apart; absent: page.")] = None
    element_id: Annotated[Name | None, Meta(description="What was clicked, focused or hovered over.")] = None
    x: Annotated[Pixel | None, Meta(description="Pixels from the left of the page.")] = None
    y: Annotated[Pixel | None, Meta(description="Pixels from the top of the page.")] = None
    wait_ms: Annotated[Milliseconds | None, Meta(description="Of a wait: how long the shopper waited for the shop.")] = None


class JourneyRequest(Wire, frozen=True, kw_only=True):
    """One session as of one moment."""

    session_id: Id
    events: Annotated[
        list[JourneyEvent],
        Meta(description=f"In the order in which they came; at most {MOST_EVENTS:,}.", extra_json_schema={"maxItems": MOST_EVENTS}),
    ]
    session_ended: Annotated[
        bool | None, Meta(description="Whether the session is known to have ended; absent: it has not. Never guessed from its length.")
    ] = None
    attributes: Annotated[
        Annotated[dict[Name, float | None], Meta(max_length=MOST_ATTRIBUTES)] | None,
        Meta(description="What else the model's table knows of sessions, by column. Absent is missing."),
    ] = None
    customer_id: Annotated[Id | None, Meta(description="Whose session it is, where that is known; passed through.")] = None
    consent: Consent = None
    as_of: Annotated[Moment | None, Meta(description="Events later than this are not known yet. Absent: now.")] = None
    remember: Annotated[
        bool | None,
        Meta(description="Keep what is known of this session for an hour: the next request then needs only what is new (eventsBefore)."),
    ] = None
    events_before: Annotated[
        Whole | None,
        Meta(description="How many events of this session were sent before, with remember; `events` are those after them."),
    ] = None
    order_value: Annotated[
        Money | None, Meta(description="What an order of this session would be worth; absent: what the model expects, where it can.")
    ] = None
    currency: Annotated[Currency | None, Meta(description="Of orderValue, ISO 4217; the answer's amounts are in it.")] = None
    contacts: Annotated[
        Annotated[list[Contact], Meta(max_length=MOST_CONTACTS)] | None,
        Meta(description="What was done before about this customer or session, for the contact policy; absent: nothing."),
    ] = None
    utc_offset_minutes: Annotated[
        Annotated[float, Meta(ge=-1080, le=1080)] | None,
        Meta(description="The customer's local time less UTC. Absent: not known, and so no message is sent at any hour."),
    ] = None


class _Continued(JourneyRequest, frozen=True, kw_only=True):
    """A request whose events go on from those that are remembered; never decoded from JSON."""

    trace: Any


class Step(Wire, frozen=True, kw_only=True):
    """A page that may come next."""

    page: Annotated[str, Meta(description="unknown: none of those that the model knows.")]
    probability: Fraction


class JourneyResponse(Wire, frozen=True, kw_only=True):
    """What will come, and what went badly so far. Times are ISO 8601 in UTC."""

    session_id: str
    customer_id: str | None
    current_step: Annotated[str | None, Meta(description="The page of the latest page event; null without one.")]
    conversion_probability: Annotated[Fraction, Meta(description="Calibrated: that the session will have bought when it ends.")]
    exit_probability: Annotated[Fraction, Meta(description="Calibrated: that no page comes any more; 1 where the session has ended.")]
    next_steps: Annotated[list[Step], Meta(description="The pages that may come next, if one does, the likeliest first.")]
    value_prediction: Annotated[
        float | None,
        Meta(description="Expected of the session: conversionProbability times an order's value; null: not known."),
    ]
    churn_risk: Annotated[
        Fraction | None, Meta(description="Calibrated: that the customer does not come back; null where the model's table does not say.")
    ]
    currency: Annotated[str | None, Meta(description="Of every amount: the request's with orderValue, else the model's.")]
    next_best_step: Annotated[NextBestStep, Meta(description="What to do now; the steps and the contact policy are in configs/steps.yaml.")]
    emotional_state: Annotated[EmotionalState, Meta(description="What the friction comes to, by rules; nothing of it is measured feeling.")]
    state_scores: Annotated[list[StateScore], Meta(description="Of every state, 0 to 1, with its evidence.")]
    friction_score: Annotated[float, Meta(ge=0, description="5 an error of a script, 4 a rage or error click, 2 a dead click.")]
    friction_level: Level
    friction: Annotated[list[Evidence], Meta(description="What was counted, of all events; what never came is left out.")]
    missing: Annotated[list[str], Meta(description="The model's attributes that are not known.")]
    ignored: Annotated[int, Meta(ge=0, description="Attributes that the model does not know.")]
    unknown_pages: Annotated[int, Meta(ge=0, description="Page events whose page the model does not know.")]
    later_events: Annotated[int, Meta(ge=0, description="Events after asOf, which were left out.")]
    known_events: Annotated[int, Meta(ge=0, description="How many events of the session were sent so far: the next eventsBefore.")]
    remarks: Annotated[
        list[Remark], Meta(description="recomputed: what was remembered was another model's, and was made anew from the events.")
    ]
    rung: Annotated[Rung, Meta(description="What there was time for under load: everything, or an answer of a while ago (Age).")]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment the answer is for.")]
    model_version: str
    timestamp: Annotated[datetime, Meta(tz=True, description="When the answer was computed.")]


class Asked(NamedTuple):
    """Requests as columns: what the model takes, how often everything was counted (int32 [n, 2 counted]), events left out, which pages.

    ids: of sessions, for a batch job. shown: each session's latest page. traces: what is known of the sessions that are remembered, but for
    the networks' states; before: where those go on from; recomputed: whether that was another model's.
    """

    known: "Columns"
    counts: NDArray[np.int32]
    events: list[int]
    later: list[int]
    shown: list[str | None]
    unknown: list[int]
    as_of_ms: list[float]
    ids: list[str]
    traces: "list[Trace | None]"
    before: "list[Before | None]"
    recomputed: list[bool]


class _Session(NamedTuple):
    """The events of a session up to a moment: when each was (milliseconds since 1970), of which kind, and which of them show a page."""

    events: list[JourneyEvent]
    moments: list[float]
    kinds: list[int]
    pages: list[int]

    @classmethod
    def until(cls, events: Sequence[JourneyEvent], until_ms: float) -> "_Session":
        """Return the events that are not later than `until_ms`, in their order."""
        timed = [(event, stamp) for event in events if (stamp := epoch_ms(event.timestamp)) <= until_ms]
        kinds = [_KIND.get(event.type, friction.UNKNOWN) for event, _ in timed]
        pages = [place for place, kind in enumerate(kinds) if kind == friction.PAGE]
        return cls([event for event, _ in timed], [stamp for _, stamp in timed], kinds, pages)


class Answers(NamedTuple):
    """Answers as columns."""

    asked: Asked
    scores: "Scores"
    friction: NDArray[np.float64]


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
        as_of = [now if request.as_of is None else epoch_ms(request.as_of) for request in requests]
        sessions = [_Session.until(request.events, until) for request, until in zip(requests, as_of, strict=True)]
        known_before = [self._remembered(request) for request in requests]
        traces = [
            None if trace is None else _gone_on(trace, session, len(request.events))
            for trace, session, request in zip(known_before, sessions, requests, strict=True)
        ]
        known = self._known(requests, sessions, traces)
        before = [None if trace is None else self._before(trace) for trace in known_before]
        return Asked(
            known,
            _counted(sessions, traces),
            [len(session.events) if trace is None else trace.events for session, trace in zip(sessions, traces, strict=True)],
            [len(request.events) - len(session.events) for request, session in zip(requests, sessions, strict=True)],
            [_shown(session, trace) for session, trace in zip(sessions, traces, strict=True)],
            [int((known.page[begin:end] == journey_table.UNKNOWN).sum()) for begin, end in zip(known.begins, known.ends, strict=True)],
            as_of,
            [request.session_id for request in requests],
            traces,
            before,
            [trace is not None and bool(trace.pages) and trace.version != self.version for trace in known_before],
        )

    def lean(self, columns: Asked) -> Asked:
        """Return the columns as they are: nothing can be left out."""
        return columns

    def base_rate(self, request: JourneyRequest) -> None:
        """Return nothing: the same for every session says nothing of one."""

    def run(self, columns: Asked) -> Answers:
        """Return scores as columns."""
        score = np.empty(len(columns.counts))
        friction.friction_scores(columns.counts, score)
        return Answers(columns, self._model.score(columns.known, columns.before), score)

    def rows(self, requests: Sequence[JourneyRequest], answers: Answers) -> list[JourneyResponse]:
        """Return one response for each request, in order."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return [self._row(request, place, answers, now) for place, request in enumerate(requests)]

    def table(self, frame: Any) -> Asked:
        """Return the sessions of a table of events; nothing but pages is known of them."""
        found = journey_table.read(frame)
        sessions = len(found.ids)
        known = _columns(
            found.offsets, self._model.code(found.pages), found.seconds, found.ended, _attributes(found, self._model.attributes)
        )
        counts = np.zeros((sessions, 2 * len(COUNTED)), np.int32)
        zeros = [0] * sessions
        nothing: Any = [None] * sessions
        return Asked(known, counts, zeros, zeros, nothing, zeros, [0.0] * sessions, found.ids, nothing, nothing, [False] * sessions)

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
            "modelVersion": [self.version] * len(scores.conversion),
        }

    def kept(self, requests: Sequence[JourneyRequest], answers: Answers) -> list[bytes | None]:
        """Return what is to be remembered of each session, None where that was not asked for."""
        table = zip(requests, answers.asked.traces, answers.scores.after, strict=True)
        return [
            trace._replace(version=self.version, states=states).packed() if request.remember and trace and states is not None else None
            for request, trace, states in table
        ]

    def _remembered(self, request: JourneyRequest) -> "Trace | None":
        """Return what is remembered of a session: nothing of one that begins, None of one that is not to be remembered."""
        if isinstance(request, _Continued):
            trace: Trace = request.trace
            return trace
        return Trace.begun(*self._model.state_shape) if request.remember else None

    def _before(self, trace: "Trace") -> "Before":
        """Return where the networks go on from: the beginning, where what is remembered was another model's."""
        from training.models.journey import Before

        shape = self._model.state_shape
        if trace.version != self.version or trace.states.size != shape[0] * shape[1]:
            return Before(np.zeros(shape, np.float32), 0)
        return Before(trace.states.reshape(shape), len(trace.pages))

    def _known(self, requests: Sequence[JourneyRequest], sessions: "Sequence[_Session]", traces: "Sequence[Trace | None]") -> "Columns":
        pages = [
            [session.events[place].page for place in session.pages] if trace is None else trace.pages
            for session, trace in zip(sessions, traces, strict=True)
        ]
        offsets = np.cumsum([0, *map(len, pages)]).astype(np.int64)
        moments = [
            np.array([session.moments[place] for place in session.pages] if trace is None else trace.moments, np.float64)
            for session, trace in zip(sessions, traces, strict=True)
        ]
        stamps = [np.maximum.accumulate(times) for times in moments]
        seconds = [(stamp - stamp[:1]) / 1000 for stamp in stamps]
        given = [
            [float(value) if (value := (request.attributes or {}).get(name)) is not None else np.nan for name in self._model.attributes]
            for request in requests
        ]
        return _columns(
            offsets,
            self._model.code([page for own in pages for page in own]),
            np.concatenate([np.empty(0), *seconds]).astype(np.float32),
            np.array([bool(request.session_ended) for request in requests], np.float32),
            np.array(given, np.float32).reshape(len(requests), len(self._model.attributes)),
        )

    def _row(self, request: JourneyRequest, place: int, answers: Answers, now: datetime) -> JourneyResponse:
        asked, scores, names = answers.asked, answers.scores, self._model.attributes
        given = request.attributes or {}
        steps = zip(("unknown", *self._model.pages), scores.steps[place].tolist(), strict=True)
        evidence = feelings.counted(asked.counts[place])
        states = feelings.scores(evidence, asked.events[place], float(scores.conversion[place]))
        own = request.order_value
        worth = own if own is not None else None if scores.order_value is None else float(scores.order_value[place])
        return JourneyResponse(
            session_id=request.session_id,
            customer_id=request.customer_id,
            current_step=asked.shown[place],
            conversion_probability=float(scores.conversion[place]),
            exit_probability=float(scores.exit[place]),
            next_steps=[Step(page=page, probability=min(1.0, p)) for page, p in sorted(steps, key=lambda one: -one[1])],
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
            unknown_pages=asked.unknown[place],
            later_events=asked.later[place],
            known_events=len(request.events) if (trace := asked.traces[place]) is None else trace.events,
            remarks=["recomputed"] if asked.recomputed[place] else [],
            rung="full",
            as_of=moment(asked.as_of_ms[place]),
            model_version=self.version,
            timestamp=now,
        )

    def _situation(
        self, request: JourneyRequest, place: int, answers: Answers, states: Sequence[StateScore], worth: float | None
    ) -> Situation:
        """Return what is known when a step is to be chosen."""
        asked, scores = answers.asked, answers.scores
        facts: dict[str, float] = {
            "conversionProbability": float(scores.conversion[place]),
            "exitProbability": float(scores.exit[place]),
            "frictionScore": float(answers.friction[place]),
            "events": float(asked.events[place]),
        }
        facts |= {str(one.state): one.score for one in states}
        return Situation(
            facts,
            asked.as_of_ms[place],
            bool(request.session_ended),
            request.consent or (),
            request.contacts or (),
            request.utc_offset_minutes,
            worth,
            f"{request.session_id}\0{asked.events[place]}\0{self.version}",
        )


def _columns(
    offsets: NDArray[np.int64],
    page: NDArray[np.int64],
    seconds: NDArray[np.float32],
    ended: NDArray[np.float32],
    attributes: NDArray[np.float32],
) -> "Columns":
    from training.models.journey import Columns

    return Columns(offsets[:-1].copy(), offsets[1:].copy(), page, seconds, ended, attributes)


def _attributes(found: journey_table.Journeys, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the table's attributes in the model's order, NaN where the table has none."""
    out = np.full((len(found.ids), len(names)), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in found.names:
            out[:, place] = found.attributes[:, found.names.index(name)]
    return out


def _gone_on(trace: "Trace", session: _Session, sent: int) -> "Trace":
    """Return what is known of a session after the events of a request, of which `sent` came: those after asOf are forgotten."""
    ints, reals = trace.ints.copy(), trace.reals.copy()
    for event, kind, stamp in zip(session.events, session.kinds, session.moments, strict=True):
        x, y, wait = (math.nan if value is None else value for value in (event.x, event.y, event.wait_ms))
        friction.update(kind, int(stamp), x, y, _hash(event.element_id), _hash(event.url or event.page), wait, DEFAULTS, ints, reals)
    pages = [session.events[place].page for place in session.pages]
    moments = [session.moments[place] for place in session.pages]
    return trace._replace(
        events=trace.events + sent, pages=[*trace.pages, *pages], moments=[*trace.moments, *moments], ints=ints, reals=reals
    )


def _shown(session: _Session, trace: "Trace | None") -> str | None:
    """Return the latest page of a session."""
    if trace is not None:
        return trace.pages[-1] if trace.pages else None
    return session.events[session.pages[-1]].page if session.pages else None


def _counted(sessions: "Sequence[_Session]", traces: "Sequence[Trace | None]") -> NDArray[np.int32]:
    """Return what `kernels.friction` counts of sessions, int32 [sessions, 2 counted]; of those that are remembered it has been counted."""
    fresh = [session if trace is None else _NO_EVENT for session, trace in zip(sessions, traces, strict=True)]
    offsets = np.cumsum([0, *(len(session.events) for session in fresh)]).astype(np.int64)
    events = [event for session in fresh for event in session.events]
    out = np.empty((len(fresh), 2 * len(COUNTED)), np.int32)
    place = [(event.x, event.y, event.wait_ms) for event in events]
    x, y, wait = np.array(place, np.float32).reshape(-1, 3).T.copy() if place else np.empty((3, 0), np.float32)
    friction.friction(
        offsets,
        np.array([kind for session in fresh for kind in session.kinds], np.int8),
        np.array([moment for session in fresh for moment in session.moments], np.int64),
        x,
        y,
        np.array([_hash(event.element_id) for event in events], np.int64),
        np.array([_hash(event.url or event.page) for event in events], np.int64),
        wait,
        DEFAULTS,
        out,
    )
    for row, trace in enumerate(traces):
        if trace is not None:
            out[row] = trace.ints[friction.COUNTS : friction.COUNTS + out.shape[1]]
    return out


_NO_EVENT = _Session([], [], [], [])


def _hash(text: str | None) -> int:
    return 0 if not text else xxhash.xxh3_64_intdigest(text.encode()) & _BITS or 1


def check(request: JourneyRequest) -> None:
    """Raise InvalidRequestError for what types cannot say, TooLargeError beyond MOST_EVENTS."""
    if len(request.events) > MOST_EVENTS:
        raise TooLargeError(f"events has {len(request.events):,} events, at most {MOST_EVENTS:,} are taken; send the latest ones", "events")
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


def session_key(request: JourneyRequest) -> str | None:
    """Return the session that is remembered, None where nothing is."""
    return request.session_id if request.remember or request.events_before else None


def continued(request: JourneyRequest, content: bytes | None) -> JourneyRequest:
    """Return the request with what is remembered of its session; events that are known already, since it was sent twice, are left out.

    Raises InvalidRequestError where less is remembered than the request goes on from, TooLargeError where it comes to too much.
    """
    trace, before = None if content is None else Trace.read(content), int(request.events_before or 0)
    known = 0 if trace is None else trace.events
    if trace is None or known < before:
        told = f"{known} events of this session are remembered, not {before}: send all after those, with eventsBefore {known}"
        raise InvalidRequestError([FieldProblem("eventsBefore", told)])
    events = request.events[known - before :]
    if known + len(events) > MOST_EVENTS:
        raise TooLargeError(
            f"the session has {known + len(events):,} events, at most {MOST_EVENTS:,} are remembered; begin it anew", "events"
        )
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return _Continued(**{**fields, "events": events, "trace": trace})


def prepare(bundle: "Bundle") -> Parts:
    """Return the trees of a bundle, laid out and checked. Raises BundleError."""
    from training.models.journey import JourneyModel

    return JourneyModel.prepare(bundle)


def load(bundle: "Bundle", settings: Settings, parts: Parts | None = None) -> JourneyScorer:
    """Return the scorer of a bundle. Raises BundleError for a bundle that does not match."""
    from training.models.journey import JourneyModel

    model = JourneyModel.load(bundle, parts)
    return JourneyScorer(model, steps.load(CONFIGS / "steps.yaml", {name: Measured(*one) for name, one in model.steps.items()}))


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
    memory=Memory(
        "session",
        session_key,
        reads=lambda request: bool(request.events_before),
        filled=continued,
        kept=lambda scorer, requests, answers: scorer.kept(requests, answers),
        keep_s=KEEP_S,
    ),
    pooled=True,
)
