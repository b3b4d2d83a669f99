"""The principal of a request: established at the edge, once, and passed to the question."""

import asyncio
from typing import Any

import msgspec
import pytest

from serving.auth import principals
from serving.auth.principals import ANONYMOUS, Principal, authenticate, tenant_key
from serving.ingress import endpoint as edge
from serving.scoring.answer import Answer, Cancel, Done
from tests.serving.greeting import JSON, Scripted, configured, encoded, endpoint


class RecordingQuestion(Scripted):
    """A question that records the principal of each request."""

    def __init__(self) -> None:
        super().__init__(Answer(b"{}", "miss", 0.0))
        self.principals: list[Principal] = []

    def begin(self, request: msgspec.Struct, done: Done, **how: Any) -> Cancel:
        self.principals.append(how["principal"])
        return super().begin(request, done, **how)


def test_without_authentication_every_request_has_the_default_tenant_and_all_scopes() -> None:
    for authorization in (None, b"", b"Bearer x"):
        assert authenticate(authorization) is ANONYMOUS
    assert (ANONYMOUS.tenant, ANONYMOUS.subject, ANONYMOUS.allows("models:read")) == ("default", None, True)


def test_a_principal_has_the_scopes_it_was_given() -> None:
    principal = Principal(scopes=frozenset({"models:read"}))
    assert (principal.allows("models:read"), principal.allows("models:write")) == (True, False)


def test_a_tenant_begins_a_key_without_a_separator() -> None:
    assert tenant_key("a:b/c") == b"a%3Ab%2Fc"
    assert principals.DEFAULT_TENANT.encode() == tenant_key("default")


@pytest.mark.parametrize("body", [encoded(), encoded(colour="red"), b"[%b,%b]" % (encoded(), encoded())], ids=["one", "reread", "list"])
async def test_the_edge_establishes_the_principal_once_and_passes_it_on(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes | None] = []

    def authenticated(authorization: bytes | None) -> Principal:
        seen.append(authorization)
        return Principal(tenant="shop", subject="key-1")

    monkeypatch.setattr(edge, "authenticate", authenticated)
    question = RecordingQuestion()
    response = await asyncio.wait_for(endpoint(question, configured()).answer({**JSON, b"authorization": b"Bearer x"}, body), 10)
    assert (response.status, seen) == (200, [b"Bearer x"])
    assert {principal.tenant for principal in question.principals} == {"shop"}
