"""What an embedded engine is: how it is started, checked and stopped, and the setting that replaces it by an address."""

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from serving.runtime import processes
from serving.settings import Settings

STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """An engine at `url`; or none, and `reason` is the sentence that the server prints.

    ping: returns whether it answers within so many seconds. process: None where another process runs it. socket: removed by `remove` when
    it is stopped; lock: released then.
    """

    url: str | None
    reason: str | None = None
    ping: Callable[[float], bool] = field(default=lambda _: False, repr=False)
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    socket: Path | None = field(default=None, repr=False)
    remove: Callable[[Path], None] = field(default=Path.unlink, repr=False)
    lock: IO[str] | None = field(default=None, repr=False)

    def check(self, timeout_s: float = 1.0) -> bool:
        """Return whether it answers in time."""
        return self.url is not None and self.ping(timeout_s)

    def stop(self) -> None:
        """End its process and remove its socket; a second call does nothing. One that another process runs goes on."""
        if self.process is not None:
            processes.end([self.process.pid] if self.process.poll() is None else [], STOP_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        if self.socket is not None:
            self.remove(self.socket)
        if self.lock is not None:
            self.lock.close()


@dataclass(frozen=True, slots=True)
class EmbeddedEngine:
    """One line of EMBEDDED.

    name: for messages. setting: dotted name of the address that replaces it. needed: returns whether the settings use such an engine.
    find: returns its program, None where this machine has none. start: given the home folder and the node's id, returns the running engine,
    or one without a url but with a reason. data: the folder under home where it keeps what outlives the server, None where it keeps
    nothing. without: what the server does without it.
    """

    name: str
    setting: str
    needed: Callable[[Settings], bool]
    find: Callable[[], Path | None]
    start: Callable[[Path, str], RunningEngine]
    data: str | None
    without: str

    def address(self, settings: Settings) -> str | None:
        """Return the configured address, None where the engine is to be started."""
        section, name = self.setting.split(".")
        address: str | None = getattr(getattr(settings, section), name)
        return address

    def at(self, settings: Settings, url: str) -> Settings:
        """Return the settings with the address of the started engine."""
        section, name = self.setting.split(".")
        return settings.model_copy(update={section: getattr(settings, section).model_copy(update={name: url})})
