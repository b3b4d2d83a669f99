"""Where networks are learned, and how finely: on a GPU where torch has one, in bfloat16 but for losses and what is summed."""

import torch


def device() -> str:
    """Return the device that networks are learned on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def mixed(device: str) -> torch.autocast:
    """Return the context of a forward pass: half the width where there is a GPU for it."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
