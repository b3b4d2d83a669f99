"""SIMD lanes as a type of Numba: LANES float64, or twice as many, or WIDE float32, in one register.

The loop vectoriser leaves loops of few iterations to the SLP vectoriser, which Numba disables because of wrong code (numba#8705), and keeps
no sum in a register over an enclosing loop. So lanes are types here, which Numba compiles to LLVM's `<4 x double>`, `<8 x double>` and `<16
x float>`: `load` them, put two `beside` each other, compute with `+`, `-`, `*` and `fma`, among themselves and with numbers of their own
kind, each a single IEEE operation per lane, and `store` them. Machines with narrower registers give the same bits. In plain Python they are
arrays.
"""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # it has no annotations
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

LANES, WIDE = 4, 16
Lanes = NDArray[Any]
Sum = TypeVar("Sum")


def _size(dtype: Any) -> int:
    return LANES if dtype == np.float64 else WIDE


def load(array: NDArray[Any], start: int) -> Lanes:
    """Return the values from `array[start]` on, one register of them. The array must be contiguous; bounds are not checked."""
    return array[start : start + _size(array.dtype)].copy()


def store(array: NDArray[Any], start: int, lanes: Lanes) -> None:
    """Write lanes to `array[start]` and on; the array as for `load`."""
    array[start : start + len(lanes)] = lanes


def beside(first: Lanes, second: Lanes) -> Lanes:
    """Return LANES float64 and, after them, LANES others."""
    return np.concatenate((first, second))


def splat(value: Any) -> Lanes:
    """Return the same value in every lane; a float64 (or a float) or a float32."""
    kind = np.asarray(value).dtype
    return np.full(_size(kind), value, kind)


def fma(a: Any, b: Any, c: Sum) -> Sum:
    """Return a * b + c, rounded once: of lanes, of numbers and lanes, or of numbers of one kind alone, which CUDA supports too.

    A compiler for GPUs fuses products with sums by itself and one for CPUs does not: explicit fusing gives the same bits on both. Plain
    Python has no such operation: there float32 is computed in float64, which differs once in 2^29, and float64 in fractions.
    """
    more: Any = c
    kind = np.result_type(a, b, more)
    if kind == np.float64:
        return cast(Sum, _fused_exactly(a, b, more)[()])
    return cast(Sum, (np.multiply(a, b, dtype=np.float64) + np.asarray(more, np.float64)).astype(kind))


@np.vectorize(otypes=[np.float64])
def _fused_exactly(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    return float(Fraction(a) * Fraction(b) + Fraction(c))


class _LanesType(types.Type):  # type: ignore[misc]  # Numba is untyped
    """Numba's type of lanes of one kind of number."""

    def __init__(self, of: Any, llvm: Any, size: int) -> None:
        super().__init__(f"Lanes({of}, {size})")
        self.of, self.size = of, size
        self.vector = ir.VectorType(llvm, size)


_KINDS = {
    types.float64: _LanesType(types.float64, ir.DoubleType(), LANES),
    types.float32: _LanesType(types.float32, ir.FloatType(), WIDE),
}
_TWICE = _LanesType(types.float64, ir.DoubleType(), 2 * LANES)


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]  # Numba is untyped
    """The data model of lanes: LLVM's vector."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, numba_type.vector)


type_callable(load)(lambda context: lambda array, start: _KINDS[array.dtype])
type_callable(store)(lambda context: lambda array, start, lanes: types.none)
type_callable(beside)(lambda context: lambda first, second: _TWICE if first == second == _KINDS[types.float64] else None)
type_callable(splat)(lambda context: lambda value: _KINDS[value])


def _address(context: Any, builder: Any, sig: Any, args: Any, kind: Any) -> Any:
    """Return the pointer to lanes of this kind in the array `args[0]` from index `args[1]` on."""
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    start = context.cast(builder, args[1], sig.args[1], types.intp)
    return builder.bitcast(builder.gep(data, [start]), kind.vector.as_pointer())


def _splat(builder: Any, kind: Any, value: Any) -> Any:
    undefined = ir.Constant(kind.vector, ir.Undefined)
    lane = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.size), [0] * kind.size))


def _bytes(kind: Any) -> int:
    return int(kind.bitwidth) // 8


def _lower_load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_address(context, builder, sig, args, sig.return_type), align=_bytes(sig.args[0].dtype))


def _lower_store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _address(context, builder, sig, args, sig.args[2]), align=_bytes(sig.args[0].dtype))
    return context.get_dummy_value()


def _lower_beside(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), list(range(2 * LANES))))


def _lower_splat(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _splat(builder, sig.return_type, args[0])


lower_builtin(load, types.Array, types.Integer)(_lower_load)
lower_builtin(store, types.Array, types.Integer, _LanesType)(_lower_store)
lower_builtin(beside, _LanesType, _LanesType)(_lower_beside)
lower_builtin(splat, types.Float)(_lower_splat)


def _operation(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Register an operator between lanes, and between lanes and a number of their own kind, as one LLVM instruction."""

    class Typing(AbstractTemplate):  # type: ignore[misc]  # Numba is untyped
        def generic(self, args: Any, kws: Any) -> Any:
            of = next((arg for arg in args if isinstance(arg, _LanesType)), None)
            known = of is not None and len(args) == 2 and all(arg in (of, of.of) for arg in args)
            return signature(of, *args) if known else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        of = sig.return_type
        both = [arg if kind == of else _splat(builder, of, arg) for kind, arg in zip(sig.args, args, strict=True)]
        return getattr(builder, instruction)(*both)

    infer_global(symbol)(Typing)
    for kinds in ((_LanesType, _LanesType), (_LanesType, types.Float), (types.Float, _LanesType)):
        lower_builtin(symbol, *kinds)(lower)


def _type_fma(context: Any) -> Callable[..., Any]:
    def typed(a: Any, b: Any, c: Any) -> Any:
        of = next((arg for arg in (a, b, c) if isinstance(arg, _LanesType)), None)
        kind = a if of is None else of.of
        known = kind in _KINDS and all(arg in (of, kind) for arg in (a, b, c))
        return (kind if of is None else of) if known else None

    return typed


def _lower_fma(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fma(*args)


def _lower_fma_of_lanes(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    of = sig.return_type
    name = f"llvm.fma.v{of.size}f{of.of.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(of.vector, [of.vector] * 3), name)
    return builder.call(function, [arg if kind == of else _splat(builder, of, arg) for kind, arg in zip(sig.args, args, strict=True)])


type_callable(fma)(_type_fma)
for _kinds in product((_LanesType, types.Float), repeat=3):
    lower_builtin(fma, *_kinds)(_lower_fma_of_lanes if _LanesType in _kinds else _lower_fma)

_operation(operator.add, "fadd")
_operation(operator.sub, "fsub")
_operation(operator.mul, "fmul")
