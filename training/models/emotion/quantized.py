"""Quantized linear maps: weights in 8 bits, activations in 7, exact integer sums.

Integer sums do not depend on their order, so a row has the same bits alone and in a batch, unlike with float32. Activations have 7 bits
because processors without VNNI add two products in 16 bits, which 8 bits could overflow. A few inputs of an encoder are a hundred times
larger than the others; each is divided by a factor, and its weights are multiplied by it (Xiao et al. 2023, SmoothQuant). The ranges are
calibrated on texts during training (static quantization), so that scoring measures nothing.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

ENGINE = "fbgemm"  # the engine of torch whose operator takes and returns float32
ALPHA = 0.85  # SmoothQuant's migration strength; .5 to 1 tried on GoEmotions
STEPS, MAX_LEVEL = 127, 255  # quantization steps of an input's range, and the highest level beyond it
WEIGHT_STEPS = 127
MIN_RANGE, OCTAVE = 1e-3, 14  # smallest range, of an input that is always 0; steps per doubling of a range


class InputRange(NamedTuple):
    """Input ranges of a linear map. absmax: float32 [inputs], of each input; ends: float32 [2], of all inputs after smoothing."""

    absmax: Tensor
    ends: Tensor


class QuantizedWeights(NamedTuple):
    """A quantized linear map. inverse [inputs]; weight int8 [outputs, inputs] with a scale per row; scale and zero point of the input."""

    inverse: Tensor
    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    scale: float
    zero: int

    @classmethod
    def of(cls, linear: nn.Linear, seen: InputRange) -> "QuantizedWeights":
        """Return the quantized weights of a linear layer."""
        factor = _factor(linear.weight, seen.absmax)
        weight = linear.weight.detach() * factor
        scale = weight.abs().amax(1).clamp_min(1e-12) / WEIGHT_STEPS
        low, high = min(0.0, float(seen.ends[0])), max(MIN_RANGE, float(seen.ends[1]))
        step = (high - low) / STEPS
        rounded = (weight / scale[:, None]).round().to(torch.int8)
        return cls(1 / factor, rounded, scale, linear.bias.detach(), step, round(-low / step))


class FbgemmLinear(nn.Module):
    """The quantized map by torch's FBGEMM operator, on x86 only."""

    inverse: Tensor

    def __init__(self, weights: QuantizedWeights) -> None:
        super().__init__()
        self.register_buffer("inverse", weights.inverse)
        self._scale, self._zero = weights.scale, weights.zero
        zeros = torch.zeros(len(weights.weight_scale), dtype=torch.int64)
        with warnings.catch_warnings(), _engine():
            # These tensors are deprecated in torch, which is pinned; their successor torch.ops.onednn.qlinear_pointwise is slower today.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            weight = torch._make_per_channel_quantized_tensor(weights.weight, weights.weight_scale.double(), zeros, 0)
            self._packed = torch.ops.quantized.linear_prepack(weight, weights.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of x float32 [..., inputs]."""
        out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x * self.inverse, self._scale, self._zero, self._packed
        )
        return out


class Float32Linear(nn.Module):
    """The same map in float32, for machines without that operator and for GPUs; equal up to rounding."""

    inverse: Tensor
    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, weights: QuantizedWeights) -> None:
        super().__init__()
        for name in ("inverse", "weight_scale", "bias"):
            self.register_buffer(name, getattr(weights, name))
        self.register_buffer("weight", weights.weight.float())
        self._scale, self._zero = weights.scale, weights.zero
        self._steps = float(1 / np.float32(weights.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of x float32 [..., inputs]."""
        # Like the operator: the zero point is added before rounding, which decides ties between two levels.
        levels = ((x * self.inverse).double() * self._steps + self._zero).float().round().clamp(0, MAX_LEVEL) - self._zero
        return nn.functional.linear(levels, self.weight) * (self.weight_scale * self._scale) + self.bias


def best(device: str) -> type[nn.Module]:
    """Return the class of quantized maps for a device."""
    return FbgemmLinear if device == "cpu" and ENGINE in torch.backends.quantized.supported_engines else Float32Linear


def quantize(module: nn.Module, seen: Mapping[str, InputRange], kind: type[nn.Module]) -> nn.Module:
    """Replace the linear maps of a module by quantized ones, and return the module. Raises KeyError for a map without a range."""
    for name, linear in _linears(module):
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, kind(QuantizedWeights.of(linear, seen[name])))
    return module


def ranges(module: nn.Module, run: Callable[[], object]) -> dict[str, InputRange]:
    """Return the input range of each linear map of the module during `run`, by name."""
    highs: dict[str, Tensor] = {}
    lows: dict[str, Tensor] = {}

    def observe(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, given: Any) -> None:
            rows = given[0].reshape(-1, given[0].shape[-1])
            highs[name] = torch.maximum(highs.get(name, rows[0]), rows.amax(0))
            lows[name] = torch.minimum(lows.get(name, rows[0]), rows.amin(0))

        return hook

    linears = list(_linears(module))
    hooks = [linear.register_forward_pre_hook(observe(name)) for name, linear in linears]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _range(linear, lows[name], highs[name]) for name, linear in linears}


def packed(seen: Mapping[str, InputRange]) -> dict[str, Tensor]:
    """Return ranges in the format of a file."""
    return {f"{name}.{part}": tensor for name, one in seen.items() for part, tensor in (("most", _byte(one.absmax)), ("ends", one.ends))}


def unpacked(content: Mapping[str, Tensor]) -> dict[str, InputRange]:
    """Return the ranges that `packed` returned. Raises KeyError where a part is missing."""
    names = {name.rpartition(".")[0] for name in content}
    return {name: InputRange(_of_byte(content[f"{name}.most"]), content[f"{name}.ends"]) for name in sorted(names)}


def _byte(absmax: Tensor) -> Tensor:
    """Return the logarithm of ranges in fourteenths of an octave, uint8: low precision suffices if all processes share it."""
    return ((absmax / MIN_RANGE).log2() * OCTAVE).round().clamp(0, 255).to(torch.uint8)


def _of_byte(code: Tensor) -> Tensor:
    return MIN_RANGE * torch.exp2(code.float() / OCTAVE)


def _range(linear: nn.Linear, low: Tensor, high: Tensor) -> InputRange:
    absmax = _of_byte(_byte(torch.maximum(high, -low).clamp_min(MIN_RANGE)))
    factor = _factor(linear.weight, absmax)
    return InputRange(absmax, torch.stack([(low / factor).min(), (high / factor).max()]))


def _factor(weight: Tensor, absmax: Tensor) -> Tensor:
    """Return the factor by which each input is divided and its weights are multiplied, float32 [inputs]."""
    return absmax**ALPHA / weight.detach().abs().amax(0).clamp_min(1e-5) ** (1 - ALPHA)


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    yield from [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)]


@contextmanager
def _engine() -> Iterator[None]:
    """Set torch's global quantization engine to ENGINE, since its operator accepts only weights packed by it."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = ENGINE
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
