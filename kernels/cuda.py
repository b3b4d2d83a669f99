"""Launches of row formulas on CUDA. Imported at the first launch: importing numba.cuda takes a tenth of a second."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numba import cuda

THREADS_PER_BLOCK = 128


def compiled(formula: Callable[..., None]) -> Any:
    """Return the kernel `(rows, arrays)` that runs `formula(row, *arrays)` in one thread per row; it is compiled at its first launch."""
    return cuda.jit(fastmath=False)(source(formula))


def source(formula: Callable[..., None]) -> Callable[[int, tuple[Any, ...]], None]:
    """Return the kernel `(rows, arrays)` as plain Python, for `cuda.jit`."""

    def kernel(rows: int, arrays: tuple[Any, ...]) -> None:
        row = cuda.grid(1)
        if row < rows:
            formula(row, *arrays)

    return kernel


def launch(kernel: Any, rows: int, arrays: tuple[Any, ...]) -> None:
    """Run a kernel for `rows` rows and wait for it. The last array is the result: it is copied back if it is on the host."""
    there = on_device(arrays)
    blocks = -(-rows // THREADS_PER_BLOCK)
    kernel[blocks, THREADS_PER_BLOCK](rows, there)
    cuda.synchronize()
    if isinstance(arrays[-1], np.ndarray):
        there[-1].copy_to_host(arrays[-1])


def on_device(arrays: Iterable[Any]) -> tuple[Any, ...]:
    """Return the arrays on the device, those in a NamedTuple too; host arrays are copied, other values are returned as they are."""
    return tuple(_there(one) for one in arrays)


def _there(one: Any) -> Any:
    if isinstance(one, tuple):
        return type(one)(*map(_there, one))
    return cuda.to_device(one) if isinstance(one, np.ndarray) else one


def empty(shape: tuple[int, ...]) -> Any:
    """Return an uninitialised float32 array of this shape on the device."""
    return cuda.device_array(shape, np.float32)


def empty_beside(array: Any, size: int) -> Any:
    """Return an uninitialised float32 array [size] on the same side as `array`: host or device."""
    return np.empty(size, np.float32) if isinstance(array, np.ndarray) else empty((size,))
