"""The one place with Numba options: a formula is written once, as plain Python over arrays, and launched on CPU and on CUDA.

The pattern of every kernel file, from the bottom up:

1. *Formulas*, decorated with `@formula`: small functions of numbers and arrays that return a number or a tuple of numbers, and, on top of
   them, the *row formula* `(row, *arrays) -> None` that writes what belongs to row `row`. They neither allocate nor raise: CUDA can do
   neither.
2. The launch on CPU: a function decorated with `@on_cpu` that calls the row formula for each row.
3. The launch on CUDA: `on_cuda(row formula)`, one thread a row. A formula keeps its Python source, and the CUDA compiler compiles that
   again, with every formula it calls, for the device; so nothing is written or listed twice.

A formula lives in the file of what calls it: the cache on disk is renewed by file, and would not see a change elsewhere.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

# The CUDA simulator (NUMBA_ENABLE_CUDASIM=1) is an interpreter: under it formulas stay Python, and so does what calls them.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)


def _compiled(function: Callable[P, R], forceinline: bool) -> Callable[P, R]:
    if SIMULATED:
        return function
    # No fastmath: sums keep their order, so that a row alone and a row among a million give the same bits. A formula does not allocate, so
    # it need not count references to its arrays, which with several exits takes longer than what it does (`_nrt` is Numba's own option).
    compile_ = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=False, forceinline=forceinline, _nrt=not forceinline)
    compiled: Callable[P, R] = compile_(function)
    return compiled


def formula(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` as a part of kernels: compiled into whatever calls it, on CPU and on CUDA, without the cost of a call."""
    return _compiled(function, forceinline=True)


def on_cpu(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled for the CPU: GIL released, cached on disk, IEEE arithmetic, division by zero as in numpy."""
    return _compiled(function, forceinline=False)


def on_cuda(row_formula: Callable[..., None]) -> Callable[..., None]:
    """Return `launch(rows, *arrays)`, which runs the row formula on CUDA, one thread a row, and returns when it is done.

    The last array is the result, the others are only read. Host arrays are copied there and the result back; arrays that are already on
    the device are used in place. Needs a GPU, or NUMBA_ENABLE_CUDASIM=1 (set before Numba is imported) to be simulated.
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
