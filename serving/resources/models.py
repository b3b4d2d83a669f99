"""The models that a replica serves: which version is live for each question."""

from typing import Annotated

from msgspec import Meta

from serving.engines.types import ApiModel
from serving.errors import NotFoundError
from serving.resources.resource import Operation, QuestionStatus, Resource, ResourceRequest


class LiveModel(ApiModel, frozen=True, kw_only=True):
    """The model of one question."""

    task: Annotated[str, Meta(description="Name of the question, as in `revenue-engine train TASK`.")]
    route: Annotated[str, Meta(description="Path that the question is answered at.")]
    model_version: Annotated[str | None, Meta(description="Version of the live model, as in its answers; null while no model is live.")]
    simulated: Annotated[
        bool, Meta(description="Whether the live model was learned from a simulated shop, so that its answers have basis demo.")
    ]
    required: Annotated[bool, Meta(description="Whether the server is ready only once this model is live.")]
    choices: Annotated[list[str], Meta(description="What the model chose for this machine, and why.")]


class LiveModels(ApiModel, frozen=True, kw_only=True):
    """The models of all questions."""

    models: Annotated[list[LiveModel], Meta(description="One for each question.")]


def _of(question: QuestionStatus) -> LiveModel:
    engine = question.engine
    return LiveModel(
        task=engine.name,
        route=engine.route,
        model_version=question.version,
        simulated=question.demo,
        required=not engine.optional,
        choices=list(question.choices),
    )


async def models(request: ResourceRequest) -> LiveModels:
    """Return the live model of every question, in the order of ENGINES."""
    return LiveModels(models=[_of(question) for question in request.replica.questions])


async def model(request: ResourceRequest) -> LiveModel:
    """Return the live model of one question. Raises NotFoundError where there is no such question."""
    task = request.parameters["task"]
    for question in request.replica.questions:
        if question.engine.name == task:
            return _of(question)
    known = ", ".join(question.engine.name for question in request.replica.questions)
    raise NotFoundError(f"there is no question {task[:100]!r}; there are {known}")


MODELS = Resource(
    name="models",
    prefix="/v1/models",
    summary="The models that this server answers with.",
    scope="models:read",
    operations=(
        Operation("", "models", "Which model version is live for each question.", models, LiveModels),
        Operation(
            "/{task}",
            "model",
            "Which model version is live for one question.",
            model,
            LiveModel,
            parameters={"task": "Name of a question."},
            problems=(404,),
        ),
    ),
)
