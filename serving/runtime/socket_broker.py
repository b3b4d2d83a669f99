"""The node's listening socket: the broker owns it, passes it to each replica by file descriptor, and answers 503 while none is ready.

The socket outlives the replicas, so it is never closed when a replica starts or stops; connections that are not accepted yet wait in the
kernel's queue for the next replica. Protocol on the unix socket: the broker sends one byte with the descriptor; the replica sends READY
when it accepts and LEAVING before it stops; the end of the connection means that the replica has ended. The unix socket is in a folder that
only this user may open, and both ends check that the other one is a process of this user.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from serving.errors import SettingsError
from serving.runtime.isolation import folders
from serving.runtime.isolation.peers import OwnUserSocket, require_own_user

ENVIRONMENT = "REVENUE_ENGINE_SOCKET_BROKER"  # the path of the unix socket, for the replicas
READY, LEAVING = b"R", b"L"
BACKLOG = 4096
SO_ATTACH_FILTER = 26  # Linux; Python has no name for it
IDLE_S = 30.0  # a broker process ends itself when no replica has had the socket for so long
START_S = 10.0
HANDSHAKE_S = 0.25  # for the last part of a handshake to arrive, from another continent too
ANSWER_S = 2.0  # how long a caller that gets 503 has for sending a request

_STARTING = (
    b'{"type":"/problems/not-ready","title":"Not ready","status":503,'
    b'"detail":"no replica is warm: the server is starting or draining; try again"}'
)
_LIVE = b'{"status":"live"}'


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket on host:port. Raises SettingsError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Not SO_REUSEPORT: a second server on the same port must fail, not take half of the traffic.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with PORT=... or server.port") from error
    sock.setblocking(False)
    return sock


class SocketBroker:
    """Owns `sock` and passes it to replicas over the unix socket `path`, from a thread of its own."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self._sock = sock
        self._path = path
        self._unix_socket = OwnUserSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._unix_socket.bind(str(path))
        os.chmod(path, 0o600)
        self._unix_socket.listen(64)
        self._unix_socket.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = os.pipe()
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._selector.register(self._unix_socket, selectors.EVENT_READ)
        self._replicas: dict[socket.socket, bool] = {}  # whether it accepts
        self._answering = False
        self._refusals: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="socket-broker", daemon=True)
        self._closed = False

    @property
    def port(self) -> int:
        """The port of the listening socket."""
        port: int = self._sock.getsockname()[1]
        return port

    @property
    def attached(self) -> int:
        """How many replicas have the socket."""
        return len(self._replicas)

    @property
    def ready(self) -> int:
        """How many replicas accept."""
        return sum(self._replicas.values())

    def start(self) -> None:
        """Begin to pass the socket on, and to answer 503 until a replica accepts."""
        self._accept_while_none_is_ready()
        self._thread.start()

    def close(self) -> None:
        """Close the listening socket and the unix socket."""
        if self._closed:
            return
        self._closed = True
        os.write(self._wake_out, b"x")
        self._thread.join(timeout=ANSWER_S * 2)
        self._refuse_the_last()
        for end in (*self._replicas, self._unix_socket, self._sock):
            end.close()
        self._path.unlink(missing_ok=True)
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _refuse_the_last(self) -> None:
        """Answer every connection that the kernel has taken or is taking: closing the socket before would reset them."""
        _drop_new_connections(self._sock)
        taken = time.monotonic() + HANDSHAKE_S
        while (left := taken - time.monotonic()) > 0:
            select.select([self._sock], [], [], left)
            while self._answer_unavailable():
                pass
        give_up = time.monotonic() + ANSWER_S
        for refusal in self._refusals:
            refusal.join(max(0.0, give_up - time.monotonic()))

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                if key.fileobj is self._unix_socket:
                    self._pass_socket()
                elif key.fileobj is self._sock:
                    self._answer_unavailable()
                elif isinstance(key.fileobj, socket.socket):
                    self._read_state(key.fileobj)

    def _pass_socket(self) -> None:
        with contextlib.suppress(OSError):
            replica, _ = self._unix_socket.accept()
            socket.send_fds(replica, [b"\0"], [self._sock.fileno()])
            replica.setblocking(False)
            self._replicas[replica] = False
            self._selector.register(replica, selectors.EVENT_READ)

    def _read_state(self, replica: socket.socket) -> None:
        try:
            received = replica.recv(16)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            self._replicas[replica] = received[-1:] == READY
        else:
            self._selector.unregister(replica)
            del self._replicas[replica]
            replica.close()
        self._accept_while_none_is_ready()

    def _accept_while_none_is_ready(self) -> None:
        """Accept connections here exactly while no replica does."""
        none_ready = self.ready == 0
        if none_ready and not self._answering:
            self._selector.register(self._sock, selectors.EVENT_READ)
        elif not none_ready and self._answering:
            self._selector.unregister(self._sock)
        self._answering = none_ready

    def _answer_unavailable(self) -> bool:
        """Take one connection and answer it from a thread; False when none is waiting."""
        try:
            caller, _ = self._sock.accept()
        except OSError:
            return False
        refusal = threading.Thread(target=_unavailable, args=(caller,), daemon=True)
        refusal.start()
        self._refusals = [*(thread for thread in self._refusals if thread.is_alive()), refusal]
        return True


def _drop_new_connections(sock: socket.socket) -> None:
    """Have the kernel drop packets that would open another connection; such callers are refused once the socket is closed.

    Nothing else is dropped: a caller whose handshake is under way counts as connected there once our half has arrived.
    """
    flags, syn = 13, 0x02  # of a TCP header, RFC 9293 section 3.1
    instructions = (  # classic BPF: accept no byte of a packet that has SYN set, all of others
        (0x30, 0, 0, flags),  # load the byte
        (0x45, 0, 1, syn),  # skip one instruction unless the bit is set
        (0x06, 0, 0, 0),  # return 0
        (0x06, 0, 0, 0xFFFFFFFF),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in instructions))
    program = struct.pack("HL", len(instructions), ctypes.addressof(code))
    with contextlib.suppress(OSError):  # not Linux: the last few may be reset
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _unavailable(caller: socket.socket) -> None:
    """Answer one request: 200 to /health/live, 503 to everything else, and close so that the caller can read it."""
    with contextlib.suppress(OSError), caller:
        caller.settimeout(ANSWER_S)
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65536:
            chunk = caller.recv(65536)
            if not chunk:
                return
            head += chunk
        live = head.split(b" ", 2)[1:2] == [b"/health/live"]
        status, kind, body = (b"200 OK", b"application/json", _LIVE) if live else (
            b"503 Service Unavailable", b"application/problem+json", _STARTING)  # fmt: skip
        caller.sendall(
            b"HTTP/1.1 %s\r\ncontent-type: %s\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
            % (status, kind, len(body), body)
        )
        caller.shutdown(socket.SHUT_WR)
        while caller.recv(65536):  # until the caller closes: closing with unread bytes would reset the answer away
            pass


class Lease:
    """A replica's share of the node's socket: `sock` to accept on, and the connection to the broker."""

    def __init__(self, path: Path) -> None:
        """Raise OSError where no broker of this user is at `path`."""
        self._broker = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._broker.connect(str(path))
            require_own_user(self._broker)  # whoever passes the socket could read and answer every request
        except OSError:
            self._broker.close()
            raise
        _, descriptors, _, _ = socket.recv_fds(self._broker, 1, 1)
        if not descriptors:
            raise OSError(f"the socket broker at {path} sent no socket; this is a bug")
        self.sock = socket.socket(fileno=descriptors[0])

    def notify(self, state: bytes) -> None:
        """Send READY or LEAVING to the broker; a broker that has ended needs none."""
        with contextlib.suppress(OSError):
            self._broker.sendall(state)

    def close(self) -> None:
        """Close the socket; the broker keeps its own."""
        self.sock.close()
        self._broker.close()


def ensure(host: str, port: int) -> Path:
    """Return the unix socket of this machine's broker for `port`, starting a broker process where there is none.

    For replicas that a Ray cluster placed here: under `revenue-engine serve` the node itself runs the broker.
    """
    path = folders.temporary() / f"broker-{port}.sock"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two replicas that start together start one broker
        if not _reachable(path):
            subprocess.Popen(
                [sys.executable, "-m", "serving.runtime.socket_broker", host, str(port), str(path)],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
            give_up = time.monotonic() + START_S
            while not _reachable(path):
                if time.monotonic() > give_up:
                    raise SettingsError(
                        f"no socket broker for {host}:{port} came up within {START_S:g} s; is the port taken by another program?"
                    )
                time.sleep(0.05)
    return path


def _reachable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
            require_own_user(probe)
        except OSError:
            return False
        return True


def main() -> None:
    """Run the broker of HOST PORT at the unix socket PATH until no replica has had the socket for IDLE_S."""
    host, port, path = sys.argv[1:]
    broker = SocketBroker(bind(host, int(port)), Path(path))
    broker.start()
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_S:
        time.sleep(1)
        if broker.attached:
            idle_since = time.monotonic()
    broker.close()


if __name__ == "__main__":
    main()
