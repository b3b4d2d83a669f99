"""Lanes give the same bits compiled as in plain Python."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compile import on_cpu
from kernels.simd import LANES, WIDE, beside, fma, load, splat, store
from kernels.types import F32, F64

numbers = st.floats(allow_subnormal=False) | st.sampled_from([0.1, -0.0, math.inf, math.nan])

singles = st.floats(width=32, allow_subnormal=False) | st.sampled_from([-0.0, math.inf, math.nan])


@on_cpu
def reckon(one: F64, two: F64, number: float, out: F64) -> None:
    """Write every operation of lanes into `out`: float64 [8, LANES] as one row."""
    for start in range(0, len(one), LANES):
        a, b = load(one, start), load(two, start)
        store(out, 0, a + b)
        store(out, 4, a - b)
        store(out, 8, a * b)
        store(out, 12, a * b + splat(number))
        store(out, 16, number - a)
        store(out, 20, b * number)
        store(out, 24, number + a * number)
        store(out, 28, splat(number))


@settings(deadline=None)
@given(st.lists(numbers, min_size=LANES, max_size=LANES), st.lists(numbers, min_size=LANES, max_size=LANES), numbers)
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")  # numpy says so, compiled code does not
def test_compiled_lanes_give_the_bits_of_arrays(one: list[float], two: list[float], number: float) -> None:
    a, b, out = np.array(one), np.array(two), np.zeros(8 * LANES)
    reckon(a, b, number, out)
    expected = [a + b, a - b, a * b, a * b + number, number - a, b * number, number + a * number, np.full(LANES, number)]
    np.testing.assert_array_equal(out, np.concatenate(expected))


@on_cpu
def reckon_wide(one: F32, two: F32, number: np.float32, out: F32) -> None:
    """Write every operation of wide lanes into `out`: float32 [5, WIDE] as one row."""
    a, b = load(one, 0), load(two, 0)
    store(out, 0, a + b)
    store(out, WIDE, a - b)
    store(out, 2 * WIDE, a * b + splat(number))
    store(out, 3 * WIDE, b * number)
    store(out, 4 * WIDE, number - a)


@settings(deadline=None)
@given(st.lists(singles, min_size=2 * WIDE, max_size=2 * WIDE), singles)
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_wide_lanes_give_the_bits_of_arrays(numbers: list[float], number: float) -> None:
    a, b, c = np.array(numbers[:WIDE], np.float32), np.array(numbers[WIDE:], np.float32), np.float32(number)
    out = np.zeros(5 * WIDE, np.float32)
    reckon_wide(a, b, c, out)
    np.testing.assert_array_equal(out, np.concatenate([a + b, a - b, a * b + c, b * c, c - a]))


def test_lanes_begin_at_any_index_and_leave_the_rest() -> None:
    array = np.arange(8.0)
    store(array, 3, load(array, 1) * 10)
    np.testing.assert_array_equal(array, [0, 1, 2, 10, 20, 30, 40, 7])
    compiled = np.arange(8.0)
    moved(compiled, 1, 3)
    np.testing.assert_array_equal(compiled, array)


@on_cpu
def moved(array: F64, origin: int, to: int) -> None:
    """Write ten times the lanes at `origin` to `to`."""
    store(array, to, load(array, origin) * 10.0)


@on_cpu
def fused(a: F64, b: F64, c: F64, out: F64) -> None:
    """Write a * b + c of lanes, of lanes and a number in either place, and of numbers alone: [4, lanes] as one row."""
    size = len(a)
    one, two, three = load(a, 0), load(b, 0), load(c, 0)
    store(out, 0, fma(one, two, three))
    store(out, size, fma(a[0], two, three))
    store(out, 2 * size, fma(one, two, c[0]))
    for place in range(size):
        out[3 * size + place] = fma(a[place], b[place], c[place])


@pytest.mark.parametrize(("kind", "size"), [(np.float64, LANES), (np.float32, WIDE)])
@settings(deadline=None)
@given(data=st.data())
def test_fused_products_and_sums_are_rounded_once(kind: type[np.floating], size: int, data: st.DataObject) -> None:
    """Nothing that the type has is nearer to the exact result."""
    drawn = st.lists(st.floats(-1e6, 1e6, width=32), min_size=3 * size, max_size=3 * size)
    a, b, c = np.split((np.array(data.draw(drawn)) / 3).astype(kind), 3)
    out = np.empty(4 * size, kind)
    fused(a, b, c, out)
    inputs = [(a, b, c), (np.full(size, a[0]), b, c), (a, b, np.full(size, c[0])), (a, b, c)]
    for found, x, y, z in zip(out, *(np.concatenate(parts) for parts in zip(*inputs, strict=True)), strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        others = np.nextafter(found, kind(np.inf)), np.nextafter(found, kind(-np.inf))
        assert all(abs(Fraction(float(found)) - exact) <= abs(Fraction(float(other)) - exact) for other in others)


@on_cpu
def reckon_twice(a: F64, b: F64, number: float, out: F64) -> None:
    """Write the operations of twice the lanes into `out`: float64 [4, 2 * LANES] as one row."""
    one, two = beside(load(a, 0), load(a, LANES)), beside(load(b, 0), load(b, LANES))
    store(out, 0, one + two)
    store(out, 2 * LANES, one * two - one)
    store(out, 4 * LANES, fma(one, two, one))
    store(out, 6 * LANES, fma(one, beside(splat(number), load(b, 0)), two) * number)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=4 * LANES, max_size=4 * LANES), st.floats(-1e6, 1e6))
def test_lanes_beside_lanes_give_the_bits_of_arrays_and_fused_sums_those_of_fractions(values: list[float], number: float) -> None:
    a, b = np.split(np.array(values), 2)
    out = np.empty(8 * LANES)
    reckon_twice(a, b, number, out)
    mixed = np.concatenate((np.full(LANES, number), b[:LANES]))
    expected = [a + b, a * b - a, fma(a, b, a), fma(a, mixed, b) * number]
    np.testing.assert_array_equal(out, np.concatenate(expected))


def test_plain_python_fuses_numbers_of_half_the_width() -> None:
    a, b = np.float32(1 + 2**-12), np.float32(1 - 2**-12)
    assert fma(a, b, np.float32(-1)) == np.float32(-(2**-24))
    assert fma(a, b, np.float32(-1)).dtype == np.float32
