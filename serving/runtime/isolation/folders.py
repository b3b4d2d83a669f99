"""Folders that only this user may open: for unix sockets, logs and what processes of one machine leave for each other."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

from serving.errors import SettingsError

PRIVATE = 0o700


def private(path: Path) -> Path:
    """Return the folder `path`, which only this user may open: made where it is missing, closed to others where it was open to them.

    Raises SettingsError where that is not possible: it belongs to another user, is a link or a file, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=PRIVATE)
        except FileExistsError:
            _require_own(path)
        # By descriptor, and never through a link: between a look and a change by name another user could put something else there.
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(folder).st_uid != os.geteuid():
                raise _foreign(path, os.fstat(folder).st_uid)
            if stat.S_IMODE(os.fstat(folder).st_mode) != PRIVATE:
                os.fchmod(folder, PRIVATE)
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be a folder of {_user(os.geteuid())} alone ({error.strerror}); make {path.parent} writable, or set "
            "REVENUE_ENGINE_HOME and TMPDIR to folders of this user"
        ) from error
    return path


def temporary() -> Path:
    """Return this user's private folder among the temporary files: what replicas share that a Ray cluster has placed on this machine."""
    return private(Path(tempfile.gettempdir()) / f"revenue-engine-{os.geteuid()}")


def _require_own(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a folder"
        raise SettingsError(f"{path} is {what}, and a folder is needed there that only {_user(os.geteuid())} may open; remove it")
    if found.st_uid != os.geteuid():
        raise _foreign(path, found.st_uid)


def _foreign(path: Path, owner: int) -> SettingsError:
    return SettingsError(
        f"{path} belongs to {_user(owner)}, who could read and change what this server keeps there; this server runs as "
        f"{_user(os.geteuid())}: remove the folder, run as its owner, or set REVENUE_ENGINE_HOME or TMPDIR to a folder of this user"
    )


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
