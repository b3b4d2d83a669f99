"""Pareto/NBD: the log-odds that a customer has churned, and the expected purchases of one who has not.

The published log-odds are a difference of two hypergeometric functions, which cancels. Here they are an integral over the time of churn,
taken in the logarithm of time: there the integrand is log-concave, and Gauss-Legendre panels of 16 nodes are exact to the last digits.
"""

import math

import numpy as np

from kernels.compile import formula
from kernels.types import F64

_WIDEST_PANEL = 2.0
_STEEPEST_PANEL = 16.0  # the largest change of the log of the integrand over a panel
_NEGLIGIBLE = -40.0  # log of the part of the largest value that is neglected
_NO_TIME = 1e-200  # the product of this with any parameter is still a normal number
_NODES, _WEIGHTS = (np.ascontiguousarray(part) for part in np.polynomial.legendre.leggauss(16))


@formula
def slope_at(y: float, near: float, far: float, power: float, other_power: float) -> float:
    """Return the slope of the log of the integrand of `pareto_churn_log_odds`, which falls with y.

    near, far: the smaller scale and the larger, at y = 0; power, other_power: the exponents that belong to them.
    """
    return 1 - power - other_power * near / (near + (far - near) * math.exp(-y))


@formula
def pareto_churn_log_odds(params: F64, x: float, t_x: float, age: float) -> tuple[float, float, float, float, float]:
    """Return the log-odds that a customer has churned between t_x and T, and their derivatives by the four parameters.

    The odds are the integral from t_x to T over tau of s (alpha + T)^k (beta + T)^s / ((alpha + tau)^k (beta + tau)^(s + 1)), with
    k = r + x (SMC 1987, appendix; Fader & Hardie 2005, "A note on deriving the Pareto/NBD model"). It is taken in
    y = ln((m + tau) / (m + mode)), m the smaller of alpha and beta, from the mode both ways until the rest is negligible.
    """
    r, alpha, s, beta = params[0], params[1], params[2], params[3]
    k = r + x
    alpha_near = alpha <= beta
    near, far = min(alpha, beta) + t_x, max(alpha, beta) + t_x
    power, other_power = (k, s + 1) if alpha_near else (s + 1, k)
    end = math.log1p((age - t_x) / near)
    if end < _NO_TIME:
        return -math.inf, 0.0, 0.0, 0.0, 0.0
    shift, high = 0.0, end
    if slope_at(0.0, near, far, power, other_power) > 0:
        if slope_at(end, near, far, power, other_power) >= 0:
            shift = end
        else:
            for _ in range(30):  # a point near the mode is enough
                middle = 0.5 * (shift + high)
                if slope_at(middle, near, far, power, other_power) > 0:
                    shift = middle
                else:
                    high = middle
    mode = t_x + near * math.expm1(shift)
    near, far = near + (mode - t_x), far + (mode - t_x)
    total = sum_alpha = sum_alpha_rate = sum_beta = sum_beta_rate = 0.0
    for side in range(2):
        sign, length = (-1, shift) if side == 0 else (1, end - shift)
        start = 0.0
        while start < length:
            width = min(_WIDEST_PANEL, length - start)
            while abs(slope_at(sign * (start + width), near, far, power, other_power)) * width > _STEEPEST_PANEL:
                width *= 0.5
            for node in range(len(_NODES)):
                y = sign * (start + 0.5 * width * (1 + _NODES[node]))
                later = near * math.expm1(y)
                other = math.log1p(later / far)
                weight = _WEIGHTS[node] * 0.5 * width * math.exp((1 - power) * y - other_power * other)
                log_alpha, log_beta = (y, other) if alpha_near else (other, y)
                total += weight
                sum_alpha += weight * log_alpha
                sum_beta += weight * log_beta
                sum_alpha_rate += weight / (alpha + mode + later)
                sum_beta_rate += weight / (beta + mode + later)
            start += width
            reached = near * math.expm1(sign * start)
            if (1 - power) * sign * start - other_power * math.log1p(reached / far) < _NEGLIGIBLE:
                break
    from_alpha, from_beta = math.log1p((age - mode) / (alpha + mode)), math.log1p((age - mode) / (beta + mode))
    odds = k * from_alpha + s * from_beta + math.log(s * (near / (beta + mode)) * total)
    return (
        odds,
        from_alpha - sum_alpha / total,
        k * (1 / (alpha + age) - sum_alpha_rate / total),
        1 / s + from_beta - sum_beta / total,
        s / (beta + age) - (s + 1) * sum_beta_rate / total,
    )


@formula
def pareto_expected_purchases(k: float, rate: float, s: float, beta: float, t: float) -> float:
    """Return the expected purchases within t of a customer who is alive: lambda from Gamma(k, rate), the rate of churn from Gamma(s, beta).

    It is k beta / (rate (s - 1)) (1 - (beta / (beta + t))^(s - 1)), SMC 1987 (17).
    """
    logs = math.log1p(t / beta)
    exponent = (s - 1) * logs
    share = 1.0 if exponent == 0 else -math.expm1(-exponent) / exponent  # the limit where s is 1 is a logarithm
    return k / rate * beta * logs * share
