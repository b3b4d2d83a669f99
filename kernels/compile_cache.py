"""Where compiled kernels are kept: the first of a few folders that this user can write, chosen before anything is compiled.

Numba would raise "no locator available" in the middle of an import where it finds none, as for a user without a home. It looks in
NUMBA_CACHE_DIR, beside the source files, and in the cache folder of the user's home. This module adds a folder among the temporary files.
Compiled kernels are pickles, which can run code when they are read, so that folder belongs to this user alone, or is not used.
"""

import os
import stat
import tempfile
from collections.abc import Callable

from kernels.errors import CompileCacheError

VARIABLE = "NUMBA_CACHE_DIR"
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def choose() -> str | None:
    """Return the folder for compiled kernels, having set it in the environment; None where they are kept beside the source files.

    Child processes inherit the choice. Raises CompileCacheError where no folder can be written.
    """
    given = os.environ.get(VARIABLE)
    reasons = []
    for folder, check in _candidates(given):
        try:
            check(folder)
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror or error})")
            continue
        if folder == _PACKAGE:
            os.environ.pop(VARIABLE, None)
            return None
        os.environ[VARIABLE] = folder
        return folder
    raise CompileCacheError(
        f"compiled kernels cannot be kept in any of {', '.join(reasons)}: set {VARIABLE} to a folder that {_user()} can write"
    )


def rejected() -> str | None:
    """Return why the folder that the environment names is not used, None where it is, or none is named. Call it before `choose`."""
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    try:
        _require_writable(given)
    except OSError as error:
        return f"{VARIABLE}={given} ({error.strerror or error})"
    return None


def _candidates(given: str | None) -> "list[tuple[str, Callable[[str], None]]]":
    """Return the folders to try, in order, each with what raises OSError where it cannot be used."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(os.path.join("~", ".cache"))
    named = [(os.path.abspath(given), _require_writable)] if given else []
    temporary = os.path.join(tempfile.gettempdir(), f"revenue-engine-numba-{os.geteuid()}")
    return [*named, (_PACKAGE, _require_package), (os.path.join(cache, "numba"), _require_writable), (temporary, _require_private)]


def _require_writable(folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # os.access does not see a file system that is mounted for reading only


def _require_package(folder: str) -> None:
    """Raise OSError unless every folder of the package can be written: Numba keeps what it compiles in the `__pycache__` of each."""
    for path, _, files in os.walk(folder):
        if any(file.endswith(".py") for file in files):
            _require_writable(os.path.join(path, "__pycache__"))


def _require_private(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError("it is not a folder") from None
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise OSError(f"it belongs to uid {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}, others could change it") from None
    _require_writable(folder)


def _user() -> str:
    return f"uid {os.geteuid()}"
