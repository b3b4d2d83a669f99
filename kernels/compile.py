"""The one place with Numba options: a formula is written once, as plain Python over arrays, and launched on CPU and on CUDA.

The pattern of every kernel file, from the bottom up:

1. *Parts*: small functions of scalars and arrays, each decorated with `@on_cpu`, that return numbers or a tuple of numbers.
2. The *row formula* `(row, *arrays) -> None`, decorated with `@on_cpu`: it calls the parts and writes what belongs to row `row`. It
   neither allocates nor raises, for CUDA can do neither.
3. The *launch on CPU*: an `@on_cpu` function that calls the row formula for each row.
4. The *launch on CUDA*: `on_cuda(row formula)`, one thread a row. A function compiled for the CPU keeps its Python source, and the CUDA
   compiler compiles that again, with every part it calls, for the device; so nothing is written or listed twice.

Parts live in the file of the formula that calls them: the cache on disk is renewed by file, and would not see a part change elsewhere.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

THREADS_PER_BLOCK = 128


def on_cpu(formula: Callable[P, R]) -> Callable[P, R]:
    """Return `formula` compiled for the CPU: GIL released, cached on disk, division as numpy does it.

    IEEE arithmetic without fastmath: sums keep their order, so that a row alone and a row among a million give the same bits.
    """
    compiled: Callable[P, R] = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=False)(formula)
    return compiled


def on_cuda(formula: Callable[..., None]) -> Callable[..., None]:
    """Return `launch(rows, *arrays)`, which runs the row formula on CUDA, one thread a row, and returns when it is done.

    `formula` is what `on_cpu` returned. The last array is the result, the others are only read. Host arrays are copied there and the
    result back; arrays already on the device are used in place. Compiled at the first launch. Needs a GPU, or NUMBA_ENABLE_CUDASIM=1
    (set before Numba is imported) to be simulated.
    """
    kernels: list[Any] = []

    def launch(rows: int, *arrays: Any) -> None:
        from numba import cuda

        if rows == 0:
            return
        if not kernels:
            kernels.append(cuda.jit(cuda_kernel(formula)))
        there = [cuda.to_device(array) for array in arrays]
        kernels[0][-(-rows // THREADS_PER_BLOCK), THREADS_PER_BLOCK](rows, tuple(there))
        cuda.synchronize()
        if there[-1] is not arrays[-1] and not hasattr(arrays[-1], "__cuda_array_interface__"):
            there[-1].copy_to_host(arrays[-1])

    return launch


def cuda_kernel(formula: Callable[..., None]) -> Callable[..., None]:
    """Return the Python source of the kernel `(rows, arrays)` that runs `formula` in each thread below `rows`, for `cuda.jit`."""
    from numba import cuda

    def kernel(rows: int, arrays: Any) -> None:
        row = cuda.grid(1)
        if row < rows:
            formula(row, *arrays)

    return kernel
