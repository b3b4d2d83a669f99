"""The device is what was asked for, or a clear refusal."""

import pytest
from numba import cuda

from training import device
from training.errors import DeviceError


def test_cpu_is_cpu_and_auto_is_what_is_there():
    assert device.resolve("cpu") == "cpu"
    assert device.resolve("auto") == ("cuda" if cuda.is_available() else "cpu")


@pytest.mark.skipif(cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_refused_with_the_way_out():
    with pytest.raises(DeviceError, match="device: auto"):
        device.resolve("cuda")
