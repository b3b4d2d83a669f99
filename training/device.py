"""The device of `device: auto` on this machine, and the precision in which networks are trained on it."""

from typing import TYPE_CHECKING, Literal

from training.errors import DeviceError

if TYPE_CHECKING:
    import torch


def resolve(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Return the device for `wanted` on this machine. Raises DeviceError for cuda where there is none."""
    if wanted == "cpu":
        return "cpu"
    from numba import cuda

    if cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise DeviceError("device: cuda is set, and no CUDA device was found; set device: auto, or install NVIDIA's driver")
    return "cpu"


def for_torch() -> Literal["cpu", "cuda"]:
    """Return the device that networks are trained on: CUDA where torch was built for it and finds a GPU, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def mixed_precision(device: str) -> "torch.autocast":
    """Return the context of a forward pass: bfloat16 on a GPU, except for losses and reductions; float32 on the CPU."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
