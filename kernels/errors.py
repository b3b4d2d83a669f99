"""Errors of the kernels, beside those that a wrong argument raises."""


class CompileCacheError(Exception):
    """Compiled kernels cannot be kept anywhere; the message names the folders that were tried, and the fix."""

    code = "compile-cache"
