"""Addresses that other machines can reach: a server that authenticates nobody listens there only where the settings allow it."""

import ipaddress
import socket

from serving.errors import SettingsError
from serving.settings import ServerSettings


def warning(server: ServerSettings) -> str | None:
    """Return what to warn of at start, None where only this machine reaches the server.

    Raises SettingsError for an address that others reach, unless `server.allow_remote_access` is set.
    """
    if not server.own_socket or is_loopback(server.host):
        return None
    exposed = f"server.host {server.host!r} can be reached from other machines, and the server neither authenticates callers nor encrypts"
    if not server.allow_remote_access:
        raise SettingsError(
            f"{exposed}: listen on 127.0.0.1 behind a gateway that does both, or, where only trusted machines reach this address, set "
            "server.allow_remote_access: true (REVENUE_ENGINE_SERVER__ALLOW_REMOTE_ACCESS=true)"
        )
    return f"WARNING: {exposed} (server.allow_remote_access is set): whoever reaches it can read every answer and use every model"


def is_loopback(host: str) -> bool:
    """Return whether a socket that listens on `host` is reached from this machine alone; a name counts if all its addresses do."""
    try:
        addresses = {host} if _is_address(host) else {str(found[4][0]) for found in socket.getaddrinfo(host or None, None)}
    except OSError:
        return False  # binding it fails with its own message, or succeeds somewhere
    return bool(host) and all(_is_loopback(address) for address in addresses)


def reached_at(host: str) -> str:
    """Return an address at which this machine reaches a server that listens on `host`: the wildcard addresses are none."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that listens on host:port."""
    address = reached_at(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
