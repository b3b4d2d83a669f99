"""Resources as routes: the edge establishes the principal, checks the scope, calls the operation and encodes what it returns."""

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.auth.principals import authenticate
from serving.errors import ForbiddenError
from serving.ingress import problems
from serving.ingress.http.headers import AUTHORIZATION, request_id
from serving.ingress.http.response import to_starlette
from serving.resources.resource import Operation, ReplicaStatus, Resource, ResourceRequest, TextPage

_encode = msgspec.json.Encoder().encode
_NOT_CACHED = {"Cache-Control": "no-store"}


def problem_response(request: Request, error: Exception) -> Response:
    """Return an error as the response to a Starlette request."""
    return to_starlette(problems.response(error, request_id(dict(request.scope["headers"]))))


class ResourceEndpoint:
    """Answers one operation of a resource."""

    def __init__(self, resource: Resource, operation: Operation, replica: ReplicaStatus) -> None:
        self._scope = resource.scope
        self._operation = operation
        self._replica = replica

    async def answer(self, request: Request) -> Response:
        """Return the response. What the operation raises becomes a problem response (serving.ingress.api)."""
        headers = dict(request.scope["headers"])
        principal = authenticate(headers.get(AUTHORIZATION))
        if self._scope is not None and not principal.allows(self._scope):
            raise ForbiddenError(f"this path requires the scope {self._scope}, which the credential does not have")
        accept = headers.get(b"accept", b"").decode("latin-1")
        result = await self._operation.respond(ResourceRequest(principal, request.path_params, accept, self._replica))
        if isinstance(result, TextPage):
            return Response(result.content, headers={"Content-Type": result.content_type, **_NOT_CACHED})
        return Response(_encode(result), media_type="application/json", headers=_NOT_CACHED)


def routes(resources: Sequence[Resource], replica: ReplicaStatus) -> list[Route]:
    """Return a route for each operation of the resources; it answers GET and HEAD."""
    return [
        Route(resource.prefix + operation.path, ResourceEndpoint(resource, operation, replica).answer, methods=["GET"])
        for resource in resources
        for operation in resource.operations
    ]


def unlimited_prefixes(resources: Sequence[Resource]) -> tuple[str, ...]:
    """Return the paths, or the beginnings of those with parameters, that are answered whatever the number of requests in flight."""
    return tuple(
        (resource.prefix + operation.path).partition("{")[0]
        for resource in resources
        if resource.unlimited
        for operation in resource.operations
    )
