"""The principal: on whose behalf a request is answered."""

import functools
from typing import Final
from urllib.parse import quote

import msgspec

ALL_SCOPES: Final = frozenset({"*"})
DEFAULT_TENANT: Final = "default"


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller, established once per request and passed along with it.

    tenant: owns what is stored and cached. subject: the pseudonymous id of the user or key, None where the caller is not authenticated.
    scopes: what the principal may do; "*" is everything.
    """

    tenant: str = DEFAULT_TENANT
    subject: str | None = None
    scopes: frozenset[str] = ALL_SCOPES

    def allows(self, scope: str) -> bool:
        """Return whether the principal has a scope."""
        return "*" in self.scopes or scope in self.scopes


ANONYMOUS: Final = Principal()


def authenticate(authorization: bytes | None) -> Principal:
    """Return the principal of a request with this `Authorization` header, None where it has none.

    Nobody is authenticated yet, so every request has the same principal: tenant `default`, no subject, all scopes.
    """
    return ANONYMOUS


@functools.lru_cache(maxsize=4096)
def tenant_key(tenant: str) -> bytes:
    """Return the tenant as it begins the keys of stores and caches: percent-encoded, so that it contains no separator."""
    return quote(tenant, safe="").encode()
