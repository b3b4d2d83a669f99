"""A pooled replica's own unix socket: it appears at its path once the replica accepts, in place of its predecessor's."""

import contextlib
import os
import socket
from pathlib import Path

from serving.runtime.socket_broker import READY


class PoolSocket:
    """What `holder.Lease` is to a replica of the node's socket. `path`: where callers connect; at most 100 bytes of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = path.with_suffix(f".{os.getpid()}")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._before.unlink(missing_ok=True)
        self.sock.bind(str(self._before))
        os.chmod(self._before, 0o600)
        self._own = os.stat(self._before).st_ino

    def say(self, word: bytes) -> None:
        """Take the path at READY: who connects from then on comes here, who came to a predecessor stays there until it has drained."""
        if word == READY:
            os.replace(self._before, self._path)

    def close(self) -> None:
        """Close the socket, and leave the path to a successor that has it."""
        self.sock.close()
        for path in (self._before, self._path):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == self._own:
                    path.unlink()
