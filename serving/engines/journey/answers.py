"""Journey predictions as responses: probabilities, the next best step, and the friction with its evidence."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from kernels.types import F64
from serving.engines.ignored import NOTHING, IgnoredPaths, ignored_paths
from serving.engines.journey import friction_states
from serving.engines.journey.columns import JourneyInputs, SessionSnapshot
from serving.engines.journey.events import unknown_type
from serving.engines.journey.friction_states import StateScore
from serving.engines.journey.next_step import Situation, StepChooser
from serving.engines.journey.types import JourneyRequest, JourneyResponse, NextStep
from serving.engines.types import from_epoch_ms
from training.tables.journeys import is_step

if TYPE_CHECKING:
    from training.models.journey.model import JourneyModel, JourneyScores


class JourneyPredictions(NamedTuple):
    """Predictions as columns; friction: the friction score of each session, float64 [n]."""

    inputs: JourneyInputs
    scores: "JourneyScores"
    friction: F64


def response(
    model: "JourneyModel", chooser: StepChooser, request: JourneyRequest, row: int, predictions: JourneyPredictions, now: datetime
) -> JourneyResponse:
    """Return the response to the request in a row of the predictions."""
    inputs, snapshot, scores = predictions.inputs, predictions.inputs.snapshots[row], predictions.scores
    names, given, friction_score = model.attributes, request.attributes or {}, float(predictions.friction[row])
    ignored = _ignored(model, given, snapshot)
    steps = zip(("unknown", *model.pages), scores.steps[row].tolist(), strict=True)
    evidence = friction_states.evidence(inputs.counts[row])
    states = friction_states.scores(evidence, snapshot.events, float(scores.conversion[row]))
    stated = request.order_value
    order_value = stated if stated is not None else None if scores.order_value is None else float(scores.order_value[row])
    return JourneyResponse(
        session_id=request.session_id,
        customer_id=request.customer_id,
        current_step=snapshot.steps[-1].name if snapshot.steps else None,
        conversion_probability=float(scores.conversion[row]),
        exit_probability=float(scores.exit[row]),
        next_steps=[NextStep(step=step, probability=min(1.0, p)) for step, p in sorted(steps, key=lambda one: -one[1])],
        value_prediction=None if order_value is None else float(scores.conversion[row]) * order_value,
        churn_risk=None if scores.churn is None else float(scores.churn[row]),
        currency=request.currency if stated is not None else model.heads.currency,
        next_best_step=chooser.choose(_situation(model, request, row, predictions, states, order_value)),
        emotional_state=friction_states.strongest(states),
        state_scores=states,
        friction_score=friction_score,
        friction_level=friction_states.level(friction_score),
        friction=evidence,
        missing_features=[name for name in names if given.get(name) is None],
        ignored=ignored.paths,
        more_ignored=ignored.more,
        unknown_pages=sum(one.name not in model.codes for one in snapshot.steps),
        later_events=snapshot.later,
        known_events=snapshot.events + snapshot.later,
        remarks=["recomputed"] if snapshot.recomputed else [],
        degradation="none",
        as_of=from_epoch_ms(snapshot.as_of_ms),
        model_version=model.version,
        timestamp=now,
    )


def _ignored(model: "JourneyModel", given: Mapping[str, float | None], snapshot: SessionSnapshot) -> IgnoredPaths:
    """Return the attributes, the kinds of page and the types of events that neither the model nor the friction rules can use."""
    paths = [f"attributes.{name}" for name, value in given.items() if value is not None and name not in model.attributes]
    paths += [f"events.pageKind.{one.name}" for one in snapshot.steps if one.name and one.name not in model.codes]
    if len(snapshot.possible_steps) != len(snapshot.steps):
        types = (unknown_type(one.name) for one in snapshot.possible_steps if not is_step(one.name, model.codes))
        paths += [f"events.{name}" for name in types if name is not None]
    return ignored_paths(paths) if paths else NOTHING


def _situation(
    model: "JourneyModel",
    request: JourneyRequest,
    row: int,
    predictions: JourneyPredictions,
    states: Sequence[StateScore],
    order_value: float | None,
) -> Situation:
    """Return what the choice of a step depends on."""
    snapshot, scores = predictions.inputs.snapshots[row], predictions.scores
    facts: dict[str, float] = {
        "conversionProbability": float(scores.conversion[row]),
        "exitProbability": float(scores.exit[row]),
        "frictionScore": float(predictions.friction[row]),
        "events": float(snapshot.events),
    }
    facts |= {str(one.state): one.score for one in states}
    return Situation(
        facts,
        snapshot.as_of_ms,
        bool(request.session_ended),
        request.consent or (),
        request.contacts or (),
        request.utc_offset_minutes,
        order_value,
        f"{request.session_id}\0{snapshot.events}\0{model.version}",
    )
