"""Special functions without cancellation: the logarithm of the rising factorial, the digamma function, softplus."""

import math

from kernels.compile import formula

_STIRLING_FROM = 10.0


@formula
def stirling(c: float) -> float:
    """Return the log of the gamma function at c >= 10, less (c - 1/2) ln c - c + ln(2 pi) / 2."""
    u = 1 / (c * c)
    return (1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u * (1 / 1188 - u * 691 / 360360))))) / c


@formula
def log_rising(c: float, x: float) -> float:
    """Return ln(gamma(c + x) / gamma(c)), c > 0, x >= 0, without the cancellation of a difference of two large logarithms."""
    if x == 0:
        return 0.0
    if c < _STIRLING_FROM:
        return math.lgamma(c + x) - math.lgamma(c)
    return (c - 0.5) * math.log1p(x / c) + x * (math.log(c + x) - 1) + stirling(c + x) - stirling(c)


@formula
def digamma_tail(c: float) -> float:
    """Return the digamma function at c >= 10, less ln c."""
    u = 1 / (c * c)
    return -0.5 / c - u * (1 / 12 - u * (1 / 120 - u * (1 / 252 - u * (1 / 240 - u * (1 / 132 - u * 691 / 32760)))))


@formula
def digamma(c: float) -> float:
    """Return the derivative of the log of the gamma function at c > 0."""
    less = 0.0
    while c < _STIRLING_FROM:
        less += 1 / c
        c += 1
    return math.log(c) + digamma_tail(c) - less


@formula
def digamma_rise(c: float, x: float) -> float:
    """Return digamma(c + x) - digamma(c), the derivative of `log_rising` by c."""
    if x == 0:
        return 0.0
    if c < _STIRLING_FROM:
        return digamma(c + x) - digamma(c)
    return math.log1p(x / c) + digamma_tail(c + x) - digamma_tail(c)


@formula
def softplus(y: float) -> float:
    """Return ln(1 + e^y)."""
    return y + math.log1p(math.exp(-y)) if y > 0 else math.log1p(math.exp(y))
