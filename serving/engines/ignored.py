"""What a request states and the served model cannot use: paths for the caller, bounded."""

from collections.abc import Iterable
from typing import NamedTuple

from serving.engines.types import MAX_IGNORED

MAX_LETTERS = 100  # of a path; callers chose the names in it


class IgnoredPaths(NamedTuple):
    """Paths of what is ignored, at most MAX_IGNORED, and how many more there are."""

    paths: list[str]
    more: int


NOTHING = IgnoredPaths([], 0)


def ignored_paths(paths: Iterable[str]) -> IgnoredPaths:
    """Return the first MAX_IGNORED of these paths, each once and cut to MAX_LETTERS, and how many more there are."""
    once = list(dict.fromkeys(path if len(path) <= MAX_LETTERS else f"{path[:MAX_LETTERS]}..." for path in paths))
    return IgnoredPaths(once[:MAX_IGNORED], max(0, len(once) - MAX_IGNORED)) if once else NOTHING
