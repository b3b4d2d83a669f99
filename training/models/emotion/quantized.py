"""Linear maps in whole numbers: weights in 8 bits, what they are applied to in 7, sums exact.

Sums of whole numbers do not depend on their order, so that a row has the same bits alone and among others, which float32 products have not.
7 bits and not 8: machines without VNNI add two products in 16 bits, which more would overflow. A few of an encoder's inputs are a hundred
times larger than the others; each is divided by what it needs, and its weights multiplied by the same (Xiao et al. 2023, SmoothQuant), with
ranges that were seen on texts before and are kept, so that nothing is measured while an answer is made.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

ENGINE = "fbgemm"  # of torch: the one whose operator takes and returns float32
SMOOTH = 0.85  # how much of what makes an input large is given to its weights (SmoothQuant's alpha; .5 to 1 tried on GoEmotions)
STEPS, MOST = 127, 255  # of an input's range, and what an input beyond it may reach
WEIGHT_STEPS = 127
LEAST, OCTAVE = 1e-3, 14  # of a range: an input that never was; steps in which a range doubles


class Range(NamedTuple):
    """What the inputs of a linear map were. most: float32 [inputs], the largest absolute; ends: float32 [2], of all of them, smoothed."""

    most: Tensor
    ends: Tensor


class Whole(NamedTuple):
    """A linear map in whole numbers. inverse [inputs]; weight int8 [outputs, inputs] with a scale each row; scale and zero of the input."""

    inverse: Tensor
    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    scale: float
    zero: int

    @classmethod
    def of(cls, linear: nn.Linear, seen: Range) -> "Whole":
        """Return the map of a linear layer."""
        factor = _factor(linear.weight, seen.most)
        weight = linear.weight.detach() * factor
        scale = weight.abs().amax(1).clamp_min(1e-12) / WEIGHT_STEPS
        low, high = min(0.0, float(seen.ends[0])), max(LEAST, float(seen.ends[1]))
        step = (high - low) / STEPS
        rounded = (weight / scale[:, None]).round().to(torch.int8)
        return cls(1 / factor, rounded, scale, linear.bias.detach(), step, round(-low / step))


class Fast(nn.Module):
    """The map by torch's operator: on x86 alone."""

    inverse: Tensor

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        self.register_buffer("inverse", whole.inverse)
        self._scale, self._zero = whole.scale, whole.zero
        zeros = torch.zeros(len(whole.weight_scale), dtype=torch.int64)
        with warnings.catch_warnings(), _engine():
            # Such tensors will go from torch, which is pinned; torch.ops.onednn.qlinear_pointwise is what follows them, slower today.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            weight = torch._make_per_channel_quantized_tensor(whole.weight, whole.weight_scale.double(), zeros, 0)
            self._packed = torch.ops.quantized.linear_prepack(weight, whole.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of x float32 [..., inputs]."""
        out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x * self.inverse, self._scale, self._zero, self._packed
        )
        return out


class Plain(nn.Module):
    """The same map in float32, for machines without that operator and for GPUs: equal but for rounding."""

    inverse: Tensor
    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        for name in ("inverse", "weight_scale", "bias"):
            self.register_buffer(name, getattr(whole, name))
        self.register_buffer("weight", whole.weight.float())
        self._scale, self._zero = whole.scale, whole.zero
        self._steps = float(1 / np.float32(whole.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of x float32 [..., inputs]."""
        # As the operator does it: fused with the zero before it is rounded, which decides what lies between two whole numbers.
        taken = ((x * self.inverse).double() * self._steps + self._zero).float().round().clamp(0, MOST) - self._zero
        return nn.functional.linear(taken, self.weight) * (self.weight_scale * self._scale) + self.bias


def best(device: str) -> type[nn.Module]:
    """Return which of the two a device takes."""
    return Fast if device == "cpu" and ENGINE in torch.backends.quantized.supported_engines else Plain


def quantized(module: nn.Module, seen: Mapping[str, Range], kind: type[nn.Module]) -> nn.Module:
    """Return the module with its linear maps in whole numbers; the module given is changed. Raises KeyError for one without a range."""
    for name, linear in _linears(module):
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, kind(Whole.of(linear, seen[name])))
    return module


def ranges(module: nn.Module, run: Callable[[], object]) -> dict[str, Range]:
    """Return what comes into each linear map of the module while `run` runs it, by the maps' names."""
    highs: dict[str, Tensor] = {}
    lows: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, Any], None]:
        def look(_: nn.Module, given: Any) -> None:
            rows = given[0].reshape(-1, given[0].shape[-1])
            highs[name] = torch.maximum(highs.get(name, rows[0]), rows.amax(0))
            lows[name] = torch.minimum(lows.get(name, rows[0]), rows.amin(0))

        return look

    linears = list(_linears(module))
    hooks = [linear.register_forward_pre_hook(watch(name)) for name, linear in linears]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _range(linear, lows[name], highs[name]) for name, linear in linears}


def packed(seen: Mapping[str, Range]) -> dict[str, Tensor]:
    """Return ranges as a file keeps them."""
    return {f"{name}.{part}": tensor for name, one in seen.items() for part, tensor in (("most", _byte(one.most)), ("ends", one.ends))}


def unpacked(content: Mapping[str, Tensor]) -> dict[str, Range]:
    """Return the ranges that `packed` returned. Raises KeyError where a part is missing."""
    names = {name.rpartition(".")[0] for name in content}
    return {name: Range(_of_byte(content[f"{name}.most"]), content[f"{name}.ends"]) for name in sorted(names)}


def _byte(most: Tensor) -> Tensor:
    """Return the logarithm of ranges in fourteenths of an octave, uint8: they need not be exact, only remembered."""
    return ((most / LEAST).log2() * OCTAVE).round().clamp(0, 255).to(torch.uint8)


def _of_byte(code: Tensor) -> Tensor:
    return LEAST * torch.exp2(code.float() / OCTAVE)


def _range(linear: nn.Linear, low: Tensor, high: Tensor) -> Range:
    most = _of_byte(_byte(torch.maximum(high, -low).clamp_min(LEAST)))
    factor = _factor(linear.weight, most)
    return Range(most, torch.stack([(low / factor).min(), (high / factor).max()]))


def _factor(weight: Tensor, most: Tensor) -> Tensor:
    """Return what each input is divided by and its weights multiplied with."""
    return most**SMOOTH / weight.detach().abs().amax(0).clamp_min(1e-5) ** (1 - SMOOTH)


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    yield from [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)]


@contextmanager
def _engine() -> Iterator[None]:
    """Have torch pack for ENGINE: the choice is the process's, and the operator takes no other's weights."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = ENGINE
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
