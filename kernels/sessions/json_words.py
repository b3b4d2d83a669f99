"""Text compared eight bytes at a time, which Numba does not do by itself.

`load` reads eight bytes of an array as one uint64, the first byte lowest, at any alignment. In plain Python it composes the number byte by
byte.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # it has no annotations
from numba import types
from numba.extending import lower_builtin, type_callable

from kernels.types import U8, U64

BYTES = 8


def load(data: U8, start: int) -> np.uint64:
    """Return the eight bytes from `data[start]` on. The array must be contiguous and hold all eight: bounds are not checked."""
    return np.uint64(int.from_bytes(data[start : start + BYTES].tobytes(), "little"))


type_callable(load)(lambda context: lambda data, start: types.uint64)


def _lower_load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    start = context.cast(builder, args[1], sig.args[1], types.intp)
    return builder.load(builder.bitcast(builder.gep(data, [start]), ir.IntType(64).as_pointer()), align=1)


lower_builtin(load, types.Array, types.Integer)(_lower_load)


def table(texts: tuple[bytes, ...]) -> tuple[U64, U64]:
    """Return texts as uint64 [texts, words], padded with zeros, and masks: a text matches where `load & mask == word` for all its words."""
    width = BYTES * -(-max(map(len, texts)) // BYTES)
    rows = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in texts), "<u8").reshape(len(texts), -1)
    masks = np.frombuffer(b"".join((b"\xff" * len(text)).ljust(width, b"\0") for text in texts), "<u8").reshape(len(texts), -1)
    return rows.astype(np.uint64), masks.astype(np.uint64)
