"""Linear maps in whole numbers: nearly the ones they were made of, the same alone and among others, and the same without x86."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.models.emotion import quantized
from training.models.emotion.quantized import FbgemmLinear, Float32Linear, QuantizedWeights

INPUTS, OUTPUTS = 48, 16

fast = pytest.mark.skipif(
    quantized.ENGINE not in torch.backends.quantized.supported_engines, reason=f"torch has no {quantized.ENGINE} here"
)


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return nn.Linear(INPUTS, OUTPUTS)


def rows(seed, number=64):
    x = np.random.default_rng(seed).normal(0, 1, (number, INPUTS)).astype(np.float32)
    x[:, 3] *= 40  # one input is much larger than the others
    return torch.from_numpy(x)


@pytest.fixture(scope="module")
def seen(linear):
    module = nn.Sequential(linear)
    return quantized.ranges(module, lambda: module(rows(0, 512)))["0"]


def test_ranges_are_what_came_in_and_survive_being_kept(seen):
    back = quantized.unpacked(quantized.packed({"a.b": seen}))["a.b"]
    assert torch.equal(back.absmax, seen.absmax)
    assert torch.equal(back.ends, seen.ends)
    largest = rows(0, 512).abs().amax(0)
    np.testing.assert_allclose(seen.absmax, largest, rtol=0.03)


@pytest.mark.parametrize("kind", [Float32Linear, pytest.param(FbgemmLinear, marks=fast)])
def test_a_map_is_nearly_the_one_it_was_made_of(linear, seen, kind):
    x = rows(1)
    with torch.inference_mode():
        got, right = kind(QuantizedWeights.of(linear, seen))(x), linear(x)
    assert float((got - right).abs().mean() / right.abs().mean()) < 0.03


@fast
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_the_fast_way_is_the_plain_one_and_a_row_has_the_same_bits_in_every_batch(linear, seen, number, seed):
    whole, x = QuantizedWeights.of(linear, seen), rows(seed, number)
    with torch.inference_mode():
        together = FbgemmLinear(whole)(x)
        np.testing.assert_allclose(together, Float32Linear(whole)(x), atol=2e-3)
        alone = torch.cat([FbgemmLinear(whole)(x[row : row + 1]) for row in range(number)])
    assert together.numpy().tobytes() == alone.numpy().tobytes()


def test_a_map_without_a_range_is_named():
    with pytest.raises(KeyError, match="0"):
        quantized.quantize(nn.Sequential(nn.Linear(2, 2)), {}, Float32Linear)
