"""A pooled replica's own unix socket: it appears at its path once the replica accepts, in place of its predecessor's."""

import contextlib
import os
import socket
from pathlib import Path

from serving.runtime.isolation.peers import OwnUserSocket
from serving.runtime.socket_broker import READY


class PoolSocket:
    """The counterpart of `socket_broker.Lease` for a pooled replica. `path`: where callers connect, at most 100 bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._private = path.with_suffix(f".{os.getpid()}")
        self.sock = OwnUserSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._private.unlink(missing_ok=True)
        self.sock.bind(str(self._private))
        os.chmod(self._private, 0o600)
        self._own = os.stat(self._private).st_ino

    def notify(self, state: bytes) -> None:
        """Take the path at READY: new connections come here; those of a predecessor stay there until it has drained."""
        if state == READY:
            os.replace(self._private, self._path)

    def close(self) -> None:
        """Close the socket, and remove the path unless a successor has taken it."""
        self.sock.close()
        for path in (self._private, self._path):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == self._own:
                    path.unlink()
