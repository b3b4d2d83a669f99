"""What a resource is: its paths, the scope that they require, and what they return."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from serving.auth.principals import Principal
from serving.engines import Engine
from serving.engines.types import ApiModel
from serving.metrics.collect import Metrics


class QuestionStatus(Protocol):
    """One question of a replica, answered here or in a process of its own."""

    @property
    def engine(self) -> Engine:
        """Return the engine that answers."""

    @property
    def ready(self) -> bool:
        """Return whether a model is live."""

    @property
    def lacking(self) -> bool:
        """Return whether a required model is not live."""

    @property
    def version(self) -> str | None:
        """Return the version of the live model."""

    @property
    def demo(self) -> bool:
        """Return whether the live model is for demonstration: learned from a simulated shop."""

    @property
    def choices(self) -> Sequence[str]:
        """Return what the live model chose for this machine, and why."""

    @property
    def problem(self) -> str | None:
        """Return why the model that the registry points to is not live, None where it is."""


class ReplicaState(Protocol):
    """What a replica is doing: serving.ingress.http.lifecycle.State."""

    ready: bool
    draining: bool


class ReplicaStatus(NamedTuple):
    """What the operations of a resource can read of the replica that answers."""

    questions: Sequence[QuestionStatus]
    state: ReplicaState
    metrics: Metrics


class ResourceRequest(NamedTuple):
    """A request to a resource: who makes it, the path parameters, the `Accept` header, and the replica that answers."""

    principal: Principal
    parameters: Mapping[str, str]
    accept: str
    replica: ReplicaStatus


class TextPage(NamedTuple):
    """A response that is not JSON."""

    content: bytes
    content_type: str


@dataclass(frozen=True)
class Operation:
    """GET on one path, below the prefix of its resource.

    name: the operationId. respond: returns a `response`, or a TextPage where that is None, or raises a RevenueEngineError, which becomes a
    problem response. parameters: the path parameters with their descriptions. problems: the HTTP statuses of the errors that it raises.
    """

    path: str
    name: str
    summary: str
    respond: Callable[[ResourceRequest], Awaitable[ApiModel | TextPage]]
    response: type[ApiModel] | None
    parameters: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[int] = ()


@dataclass(frozen=True)
class Resource:
    """One REST collection. Its name is the OpenAPI tag of its operations.

    scope: what a principal must have for each operation; None: every caller may. unlimited: its requests are answered even where the
    server answers as many as server.max_connections allows.
    """

    name: str
    prefix: str
    summary: str
    scope: str | None
    operations: Sequence[Operation]
    unlimited: bool = False
