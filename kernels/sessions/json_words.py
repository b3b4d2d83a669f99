"""Eight bytes at a time: what one register holds, and what Numba does not read at once by itself.

`load` reads eight bytes of an array of bytes as one uint64, the first byte lowest, wherever they begin. In plain Python it makes the number
byte by byte. A change of this file does not renew what Numba has cached of its callers.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # it has no annotations
from numba import types
from numba.extending import lower_builtin, type_callable

from kernels.types import U8, U64

BYTES = 8


def load(data: U8, start: int) -> np.uint64:
    """Return the eight bytes from `data[start]` on. The array is contiguous and the eight are in it: nobody checks."""
    return np.uint64(int.from_bytes(data[start : start + BYTES].tobytes(), "little"))


type_callable(load)(lambda context: lambda data, start: types.uint64)


def _lower_load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    start = context.cast(builder, args[1], sig.args[1], types.intp)
    return builder.load(builder.bitcast(builder.gep(data, [start]), ir.IntType(64).as_pointer()), align=1)


lower_builtin(load, types.Array, types.Integer)(_lower_load)


def table(texts: tuple[bytes, ...]) -> tuple[U64, U64]:
    """Return texts as uint64 [texts, words], filled up with zeros, and masks: a text begins where `load & mask == word` for all of it."""
    width = BYTES * -(-max(map(len, texts)) // BYTES)
    rows = np.frombuffer(b"".join(text.ljust(width, b"\0") for text in texts), "<u8").reshape(len(texts), -1)
    masks = np.frombuffer(b"".join((b"\xff" * len(text)).ljust(width, b"\0") for text in texts), "<u8").reshape(len(texts), -1)
    return rows.astype(np.uint64), masks.astype(np.uint64)
