"""The device, decided once: what `device: auto` means on this machine."""

from typing import Literal

from serving.errors import SettingsError


def resolve(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Return the device that `wanted` means here. Raises SettingsError when cuda is asked for and there is none."""
    if wanted == "cpu":
        return "cpu"
    from numba import cuda

    if cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise SettingsError("device: cuda is set, and no CUDA device is found here; set device: auto, or install NVIDIA's driver")
    return "cpu"
