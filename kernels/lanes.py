"""Four float64 side by side: what one AVX2 register holds, and what Numba does not put there by itself.

The loop vectoriser leaves loops of four turns to the SLP vectoriser, which Numba switches off, having met wrong code from it (numba#8705).
So the four lanes are a type here, which Numba compiles to LLVM's `<4 x double>`: `load` them, reckon with `+`, `-` and `*`, among
themselves and with floats, each a single IEEE operation a lane, and `store` them. Machines with narrower registers give the same bits.
In plain Python they are arrays of four.

A change of this file does not renew what Numba has cached of its callers.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # it has no annotations
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

LANES = 4
Lanes = NDArray[np.float64]

_FOUR = ir.VectorType(ir.DoubleType(), LANES)
_FIRST = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


def load(array: NDArray[np.float64], start: int) -> Lanes:
    """Return the four values from `array[start]` on. The array is contiguous and the four are in it: nobody checks."""
    return array[start : start + LANES].copy()


def store(array: NDArray[np.float64], start: int, lanes: Lanes) -> None:
    """Write the four to `array[start]` and on; the array as for `load`."""
    array[start : start + LANES] = lanes


def splat(value: float) -> Lanes:
    """Return the same value four times."""
    return np.full(LANES, value)


class _LanesType(types.Type):  # type: ignore[misc]  # Numba is untyped
    """Numba's name for four lanes."""

    def __init__(self) -> None:
        super().__init__("Lanes")


_LANES = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]  # Numba is untyped
    """Numba's lanes are LLVM's vector of four."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FOUR)


type_callable(load)(lambda context: lambda array, start: _LANES)
type_callable(store)(lambda context: lambda array, start, lanes: types.none)
type_callable(splat)(lambda context: lambda value: _LANES)


def _address(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return the pointer to the four values of the array `args[0]` from index `args[1]` on."""
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    start = context.cast(builder, args[1], sig.args[1], types.intp)
    return builder.bitcast(builder.gep(data, [start]), _FOUR.as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    lane = builder.insert_element(ir.Constant(_FOUR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, ir.Constant(_FOUR, ir.Undefined), _FIRST)


def _lower_load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_address(context, builder, sig, args), align=8)


def _lower_store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _address(context, builder, sig, args), align=8)
    return context.get_dummy_value()


def _lower_splat(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _splat(builder, args[0])


lower_builtin(load, types.Array, types.Integer)(_lower_load)
lower_builtin(store, types.Array, types.Integer, _LanesType)(_lower_store)
lower_builtin(splat, types.float64)(_lower_splat)


def _operation(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Teach Numba an operator between lanes, and between lanes and a float64, as one LLVM instruction."""

    class Typing(AbstractTemplate):  # type: ignore[misc]  # Numba is untyped
        def generic(self, args: Any, kws: Any) -> Any:
            known = len(args) == 2 and _LANES in args and all(arg in (_LANES, types.float64) for arg in args)
            return signature(_LANES, *args) if known else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = [arg if kind == _LANES else _splat(builder, arg) for kind, arg in zip(sig.args, args, strict=True)]
        return getattr(builder, instruction)(*both)

    infer_global(symbol)(Typing)
    for kinds in ((_LanesType, _LanesType), (_LanesType, types.Float), (types.Float, _LanesType)):
        lower_builtin(symbol, *kinds)(lower)


_operation(operator.add, "fadd")
_operation(operator.sub, "fsub")
_operation(operator.mul, "fmul")
