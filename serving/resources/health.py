"""Health and metrics of a replica, for load balancers, orchestrators and Prometheus; they need no credential."""

import asyncio
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.types import ApiModel
from serving.errors import NotReadyError
from serving.resources.resource import Operation, Resource, ResourceRequest, TextPage


class Live(ApiModel, frozen=True, kw_only=True):
    """The process is alive."""

    status: Annotated[Literal["live"], Meta(description="Always live.")]


class Ready(ApiModel, frozen=True, kw_only=True):
    """The replica answers: the version of every live model, what each model chose for this machine, and which models were refused."""

    status: Annotated[Literal["ready"], Meta(description="Always ready.")]
    models: Annotated[dict[str, str], Meta(description="The live model's version, by question.")]
    choices: Annotated[dict[str, list[str]], Meta(description="What each model chose for this machine, by question.")]
    refused: Annotated[
        dict[str, str],
        Meta(description="By question, why the model that the registry points to is not live. Another one is, or none; empty as a rule."),
    ]
    demo: Annotated[
        list[str],
        Meta(description="The questions whose live model was learned from a simulated shop: their answers are for demonstration."),
    ]


async def live(_: ResourceRequest) -> Live:
    """Return 200: a process that can answer is alive."""
    return Live(status="live")


async def ready(request: ResourceRequest) -> Ready:
    """Return the live models. Raises NotReadyError with what is missing."""
    questions, state, _ = request.replica
    if state.draining:
        raise NotReadyError("the server is draining")
    missing = [question for question in questions if question.lacking]
    if missing:
        named = ", ".join(
            f"{question.engine.name} ({question.problem})" if question.problem else question.engine.name for question in missing
        )
        raise NotReadyError(f"no model is live yet for {named}")
    if not state.ready:
        raise NotReadyError("the server is starting")
    return Ready(
        status="ready",
        models={question.engine.name: question.version for question in questions if question.version is not None},
        choices={question.engine.name: list(question.choices) for question in questions},
        refused={question.engine.name: question.problem for question in questions if question.problem is not None},
        demo=[question.engine.name for question in questions if question.demo],
    )


async def metrics(request: ResourceRequest) -> TextPage:
    """Return the metrics of all replicas of the node, in the format that `Accept` prefers."""
    metrics = request.replica.metrics
    metrics.flush()
    # In a thread: it reads the files of the other replicas, and scoring must not wait for that.
    return TextPage(*await asyncio.to_thread(metrics.page, request.accept))


HEALTH = Resource(
    name="health",
    prefix="",
    summary="Health and metrics of this server.",
    scope=None,
    unlimited=True,  # a busy server must remain observable
    operations=(
        Operation("/health/live", "live", "200 while the process can answer at all.", live, Live),
        Operation(
            "/health/ready",
            "ready",
            "200 when every model is loaded and warm and the server is not draining.",
            ready,
            Ready,
            problems=(503,),
        ),
        Operation("/metrics", "metrics", "Metrics of all replicas of this node, for Prometheus.", metrics, None),
    ),
)
