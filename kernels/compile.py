"""The one place with Numba options: a formula is written once, as plain Python over arrays, and launched on CPU and on CUDA.

The pattern of every kernel file, from the bottom up:

1. *Formulas*, decorated with `@formula`: small functions of numbers and arrays that return a number or a tuple of numbers, and, on top of
   them, the *row formula* `(row, *arrays) -> None` that writes the results of row `row`. They neither allocate nor raise: CUDA can do
   neither.
2. The launch on CPU: a function decorated with `@on_cpu` that calls the row formula for each row.
3. The launch on CUDA: `on_cuda(row formula)`, one thread per row. A formula keeps its Python source, and the CUDA compiler compiles that
   again for the device, with every formula it calls; so nothing is written or listed twice.

Compiled functions are cached on disk. Numba renews a cached function when the file of the function changes, but not when a formula or a
constant that it imports changes. `_stamp` adds the imported files, so formulas and constants may be shared between files.
"""

import linecache
import re
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any, ParamSpec, TypeVar

import numba

from kernels import compile_cache

P = ParamSpec("P")
R = TypeVar("R")

# The CUDA simulator (NUMBA_ENABLE_CUDASIM=1) is an interpreter: under it formulas stay Python, and so do their callers.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
if not SIMULATED:
    numba.config.CACHE_DIR = compile_cache.choose() or ""  # Numba has read the environment when it was imported

_PACKAGES = ("kernels", "training", "serving")
_IMPORT = re.compile(r"^from ([\w.]+) import (\([^)]*\)|.*)$", re.MULTILINE)


def sources(file: str) -> list[str]:
    """Return `file` and the files of this project that it imports at its top, directly or through others, in order of their paths."""
    found, left = set[str](), [file]
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += _imported(one)
    return sorted(found)


@cache
def _read(file: str) -> str:
    return "".join(linecache.getlines(file))


@cache
def _imported(file: str) -> list[str]:
    """Return the files of the modules that a file imports; modules that are imported within functions do not count."""
    names = []
    for module, imported in _IMPORT.findall(_read(file)):
        if module.partition(".")[0] in _PACKAGES:
            names += [module, *(f"{module}.{name}" for name in re.findall(r"\w+", imported))]
    return [path for name in names if (path := getattr(sys.modules.get(name), "__file__", None))]


@cache
def _stamp(file: str) -> str:
    """Return the digest of all sources of the functions in a file."""
    return sha256("\0".join(map(_read, sources(file))).encode()).hexdigest()


def _compiled(function: Callable[P, R], forceinline: bool) -> Callable[P, R]:
    if SIMULATED:
        return function
    # No fastmath: sums keep their order, so that a row alone and a row among a million give the same bits. A formula does not allocate, so
    # it need not count references to its arrays, which takes longer than the formula where it has several exits (`_nrt` is Numba's option).
    compile_ = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=False, forceinline=forceinline, _nrt=not forceinline)
    compiled: Any = compile_(function)
    # Numba has no public way to set this. It compares the version before it unpickles an index, which fails where a class was renamed.
    compiled._cache._cache_file._version = f"{numba.__version__} {_stamp(function.__code__.co_filename)}"
    return compiled  # type: ignore[no-any-return]  # Numba is untyped


def formula(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` as a part of kernels: compiled into its callers, on CPU and on CUDA, without the cost of a call."""
    return _compiled(function, forceinline=True)


def on_cpu(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled for the CPU: GIL released, cached on disk, IEEE arithmetic, division by zero as in numpy."""
    return _compiled(function, forceinline=False)


def on_cuda(row_formula: Callable[..., None]) -> Callable[..., None]:
    """Return `launch(rows, *arrays)`, which runs the row formula on CUDA, one thread per row, and returns when it is done.

    The last array is the result, the others are only read. Host arrays are copied to the device and the result back; arrays that are
    already on the device are used in place. Needs a GPU, or NUMBA_ENABLE_CUDASIM=1 (set before Numba is imported) to simulate one.
    """

    @cache
    def kernel() -> Any:
        from kernels import cuda

        return cuda.compiled(row_formula)

    def launch(rows: int, *arrays: Any) -> None:
        from kernels import cuda

        if rows > 0:
            cuda.launch(kernel(), rows, arrays)

    return launch
