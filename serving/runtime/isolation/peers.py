"""Which user is at the other end of a unix socket: both ends check it, beside the mode of the folder that the socket is in."""

import logging
import os
import socket
import struct

log = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class ForeignPeerError(ConnectionAbortedError):
    """The process at the other end of a unix socket runs as another user."""


def require_own_user(sock: socket.socket) -> None:
    """Raise ForeignPeerError unless the other end of a connected unix socket was opened by a process of this user."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid != os.geteuid():
        raise ForeignPeerError(f"process {pid} at the other end of a unix socket runs as uid {uid}, not as uid {os.geteuid()}: not used")


class OwnUserSocket(socket.socket):
    """A listening unix socket that accepts connections of this user alone."""

    def accept(self) -> tuple[socket.socket, object]:
        """Return a connection and its address. Raises ForeignPeerError for one of another user, having closed it."""
        caller, address = super().accept()
        try:
            require_own_user(caller)
        except ForeignPeerError as error:
            log.warning("a connection to %s was refused: %s", address or self.getsockname(), error)
            caller.close()
            raise
        return caller, address
