"""A session as features: those that plain Python counts, on a GPU too."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks.clicks import random_journeys
from kernels.sessions import journey
from tests.journeys import DRAWN, PAGES, columns
from tests.naive import sessions as naive
from tests.simulator import simulate

ATTRIBUTES = 2


def features(arrays):
    """Return what is counted of sessions as `random_journeys` returns them."""
    out = np.empty((len(arrays[0]), journey.columns(PAGES, ATTRIBUTES)), np.float32)
    journey.journey_features(*arrays, PAGES, out)
    return out


@settings(max_examples=60, deadline=None)
@given(DRAWN)
def test_features_are_those_of_plain_python(drawn):
    begins, ends, page, seconds = columns(drawn)
    ended = np.arange(len(drawn), dtype=np.float32) % 2
    attributes = np.random.default_rng(len(drawn)).normal(0, 1, (len(drawn), ATTRIBUTES)).astype(np.float32)
    out = features((begins, ends, page, seconds, ended, attributes))
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        expected = naive.journey_features(
            page[begin:end].tolist(), seconds[begin:end].tolist(), ended[row], attributes[row].tolist(), PAGES
        )
        np.testing.assert_allclose(out[row], np.array(expected, np.float32), rtol=1e-5, atol=1e-4)


SIMULATED = """
import sys
import numpy as np
from kernels import compile
from kernels.sessions import journey
assert compile.SIMULATED
with np.load(sys.argv[1]) as stored:
    arrays = [stored[f"arr_{place}"] for place in range(6)]
pages = int(sys.argv[3])
out = np.empty((len(arrays[0]), journey.columns(pages, arrays[5].shape[1])), np.float32)
journey.journey_features_cuda(*arrays, pages, out)
np.save(sys.argv[2], out)
"""


def test_the_simulated_cuda_launch_counts_as_the_cpu_does(tmp_path: Path) -> None:
    arrays = random_journeys(40, PAGES, ATTRIBUTES)
    np.savez(tmp_path / "in.npz", *arrays)
    simulate(SIMULATED, tmp_path / "in.npz", tmp_path / "out.npy", PAGES)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), features(arrays))


@pytest.mark.gpu
def test_a_gpu_counts_as_the_cpu_does() -> None:
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device here")
    arrays = random_journeys(20_000, PAGES, ATTRIBUTES)
    expected = features(arrays)
    out = np.empty_like(expected)
    journey.journey_features_cuda(*arrays, PAGES, out)
    np.testing.assert_array_equal(out, expected)
