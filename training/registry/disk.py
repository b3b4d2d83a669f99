"""Atomic writes of files and folders on the local disk, durable across a power failure."""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.EBUSY: "it is a mount point: choose a folder inside it",
    errno.EXDEV: "it is a mount point: choose a folder inside it",
    errno.EEXIST: "a part of its path is a file: choose another folder",
    errno.ENOTDIR: "a part of its path is a file: choose another folder",
    errno.ENOTEMPTY: "another process wrote there: choose another folder",
}


def reason(error: OSError) -> str:
    """Return the cause of an error and its fix, for the end of a message."""
    return f"{error.strerror or error}: {_FIXES.get(error.errno or 0, 'correct that and try again')}"


def write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into the folder `out`, which must be absent or empty. On an error neither it nor a new parent folder remains."""
    out = Path(os.path.abspath(out))
    made = [parent for parent in out.parents if not parent.exists()]
    staged = _beside(out)
    left = staged
    try:
        staged.mkdir(parents=True)
        for name, content in files.items():
            _put(staged / name, content)
        _sync(staged)
        staged.rename(out)
        left = out
        _sync(out.parent)
    except BaseException:
        shutil.rmtree(left, ignore_errors=True)
        _remove_empty(made)
        raise


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of `path` atomically: a reader sees the old content or the new, and an error leaves the old."""
    staged = _beside(path)
    try:
        _put(staged, content)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _beside(path: Path) -> Path:
    """Return a unique hidden path beside `path`, on the same disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _put(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Wait until the names in `folder` are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to the first that is not empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
