"""Journey requests as columns: the steps that the model takes, friction counts, and the state that a remembered session resumes from."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernels.sessions.friction import COUNTED
from kernels.types import F32, I32, I64
from serving.engines.journey.events import SessionEvents, advance, friction_counts, known_steps, with_pending
from serving.engines.journey.session_memory import ResumedRequest, attributes_of
from serving.engines.journey.session_state import PossibleStep, SessionState
from serving.engines.journey.types import JourneyRequest
from serving.engines.types import epoch_ms
from training.tables import journeys
from training.tables.cells import EMPTY_ONLY

if TYPE_CHECKING:
    from training.models.journey.model import JourneyColumns, JourneyModel, NetworkStates


class SessionSnapshot(NamedTuple):
    """One session at a moment, in milliseconds since 1970.

    session: the events of the request that count; later: how many came but are later than the moment; steps: those that the model takes.
    state: of a remembered session, but for the networks' states; before: where the networks resume.
    pending: the state to store instead, where some events are later than the moment.
    recomputed: whether the stored state was another model's.
    """

    session: SessionEvents
    as_of_ms: float
    later: int
    steps: Sequence[PossibleStep]
    state: SessionState | None = None
    before: "NetworkStates | None" = None
    pending: SessionState | None = None
    recomputed: bool = False

    @property
    def possible_steps(self) -> Sequence[PossibleStep]:
        """Return the events that may be steps of one model or another."""
        return self.session.possible_steps if self.state is None else self.state.possible_steps

    @property
    def events(self) -> int:
        """Return how many events count."""
        return len(self.session.events) if self.state is None else self.state.events - self.later


class JourneyInputs(NamedTuple):
    """Sessions as columns: the model's columns, friction counts (int32 [n, 2 counted]), and session ids.

    snapshots: the sessions one by one; empty for those of a table.
    """

    columns: "JourneyColumns"
    counts: I32
    ids: Sequence[str]
    snapshots: Sequence[SessionSnapshot] = ()

    @property
    def unknown_pages(self) -> I64:
        """Return the number of steps of each session that the model does not have: int64 [n]."""
        before = np.concatenate(([0], np.cumsum(self.columns.page == journeys.UNKNOWN)))
        unknown: I64 = before[self.columns.ends] - before[self.columns.begins]
        return unknown


class JourneyInputsBuilder:
    """Builds the columns of requests and tables for one model."""

    def __init__(self, model: "JourneyModel") -> None:
        self._model = model

    def of_requests(self, requests: Sequence[JourneyRequest], now_ms: float) -> JourneyInputs:
        """Return the requests as columns; now_ms: the moment of requests without asOf."""
        snapshots = [self._snapshot(request, now_ms if request.as_of is None else epoch_ms(request.as_of)) for request in requests]
        counts = friction_counts([one.session for one in snapshots], [one.state for one in snapshots])
        return JourneyInputs(self._columns(requests, snapshots), counts, [request.session_id for request in requests], snapshots)

    def of_table(self, frame: Any) -> JourneyInputs:
        """Return the sessions of a table of events as columns; they have steps only, and no friction."""
        found = journeys.read(frame, options=EMPTY_ONLY).known(self._model.codes)
        columns = _model_columns(
            found.offsets, self._model.code(found.pages), found.seconds, found.ended, _attributes(found, self._model.attributes)
        )
        return JourneyInputs(columns, np.zeros((len(found.ids), 2 * len(COUNTED)), np.int32), found.ids)

    def _snapshot(self, request: JourneyRequest, until_ms: float) -> SessionSnapshot:
        session, stored = SessionEvents.until(request.events, until_ms), self._stored(request)
        later = len(request.events) - len(session.events)
        if stored is None:
            return SessionSnapshot(session, until_ms, later, known_steps(session.possible_steps, self._model.codes))
        begun = stored._replace(attributes=attributes_of(request))
        state = advance(begun, session, len(request.events))
        return SessionSnapshot(
            session,
            until_ms,
            later,
            known_steps(state.possible_steps, self._model.codes),
            state,
            self._before(stored, begun.attributes),
            with_pending(begun, request.events, until_ms),
            bool(stored.possible_steps) and stored.version not in ("", self._model.version),
        )

    def _stored(self, request: JourneyRequest) -> SessionState | None:
        """Return the stored state of a session: an empty one for a session that begins, None for one that is not remembered."""
        if isinstance(request, ResumedRequest):
            state: SessionState = request.state
            return state
        return SessionState.empty(*self._model.state_shape) if request.remember else None

    def _before(self, state: SessionState, attributes: Mapping[str, float]) -> "NetworkStates":
        """Return where the networks resume: at the first step if the state is of another model or of other attributes."""
        from training.models.journey.model import NetworkStates

        shape = self._model.state_shape
        if state.version != self._model.version or state.attributes != attributes or state.states.size != shape[0] * shape[1]:
            return NetworkStates(np.zeros(shape, np.float32), 0)
        return NetworkStates(state.states.reshape(shape), len(known_steps(state.possible_steps, self._model.codes)))

    def _columns(self, requests: Sequence[JourneyRequest], snapshots: Sequence[SessionSnapshot]) -> "JourneyColumns":
        steps = [one.steps for one in snapshots]
        offsets = np.cumsum([0, *map(len, steps)]).astype(np.int64)
        stamps = [np.maximum.accumulate(np.array([one.moment for one in each], np.float64)) for each in steps]
        seconds = [(stamp - stamp[:1]) / 1000 for stamp in stamps]
        given = [
            [float(value) if (value := (request.attributes or {}).get(name)) is not None else np.nan for name in self._model.attributes]
            for request in requests
        ]
        return _model_columns(
            offsets,
            self._model.code([one.name for each in steps for one in each]),
            np.concatenate([np.empty(0), *seconds]).astype(np.float32),
            np.array([bool(request.session_ended) for request in requests], np.float32),
            np.array(given, np.float32).reshape(len(requests), len(self._model.attributes)),
        )


def _model_columns(offsets: I64, page: I64, seconds: F32, ended: F32, attributes: F32) -> "JourneyColumns":
    from training.models.journey.model import JourneyColumns

    return JourneyColumns(offsets[:-1].copy(), offsets[1:].copy(), page, seconds, ended, attributes)


def _attributes(found: journeys.Journeys, names: Sequence[str]) -> F32:
    """Return the table's attributes in the model's order, NaN where the table has none."""
    out = np.full((len(found.ids), len(names)), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in found.names:
            out[:, place] = found.attributes[:, found.names.index(name)]
    return out
