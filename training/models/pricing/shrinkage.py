"""Estimates of many of a kind, each drawn to what its kind has in common by how little it says itself: a normal hierarchy.

An estimate e_i with error s_i is of a true value from N(mu, tau^2), mu from the prior and tau from a half-normal (Gelman 2006), both
integrated out: tau over a grid, the rest in closed form. With one estimate or with none this is the prior's business, with many the data's.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from kernels.types import F64

TAUS = np.geomspace(0.01, 3.0, 60)


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before any data: the mean of a kind and how sure of it, how much its members differ, and an upper bound."""

    mean: float
    spread: float
    between: float
    below: float = float("inf")


# Bijmolt, van Heerde and Pieters 2005: 1,851 published own-price elasticities, mean -2.62; never positive, as an upward demand would be.
OWN = Prior(-2.62, 1.2, 1.2, below=0.0)
# A competitor's price 1 % up sells some more of ours: less than one's own price does, and of either sign in any one estimate.
CROSS = Prior(0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Posterior:
    """mean and sd: float64 [members], of a normal, which is cut off where the prior has a bound: they are those of what is left."""

    mean: F64
    sd: F64
    interval80: F64  # [members, 2]


def shrunk(estimates: F64, errors: F64, prior: Prior) -> Posterior:
    """Return the posterior of each member of a kind; one whose estimate is NaN is only known to be of the kind."""
    known = np.isfinite(estimates) & np.isfinite(errors) & (errors > 0)
    e, s2 = np.where(known, estimates, 0.0), np.where(known, errors, 1.0) ** 2
    with np.errstate(divide="ignore"):
        precision = np.where(known, 1.0, 0.0)[None, :] / (s2[None, :] + TAUS[:, None] ** 2)  # [taus, members]
    sure = 1 / prior.spread**2
    total = precision.sum(axis=1) + sure
    mu = (precision @ e + prior.mean * sure) / total
    fit = -0.5 * (precision * (e[None, :] - mu[:, None]) ** 2).sum(axis=1) - 0.5 * sure * (mu - prior.mean) ** 2
    size = 0.5 * np.log(np.where(known[None, :], precision, 1.0)).sum(axis=1) - 0.5 * np.log(total)
    half_normal = -0.5 * (TAUS / prior.between) ** 2 + np.log(TAUS)  # the grid is even in log tau
    weight = fit + size + half_normal
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    own = np.where(known[None, :], TAUS[:, None] ** 2 * precision, 0.0)  # how much of itself a member keeps
    mean = own * e + (1 - own) * mu[:, None]
    variance = np.where(known, own * s2, TAUS[:, None] ** 2) + (1 - own) ** 2 / total[:, None]
    centre = weight @ mean
    sd = np.sqrt(weight @ (variance + (mean - centre) ** 2))
    return cut_off(centre, sd, prior.below)


def cut_off(mean: F64, sd: F64, below: float) -> Posterior:
    """Return mean, sd and central 80 % of a normal that is known to be less than `below`."""
    from scipy.stats import norm

    a = (below - mean) / sd
    log_mass = log_ndtr(a)
    hazard = np.exp(-0.5 * np.minimum(a, 40.0) ** 2 - 0.5 * np.log(2 * np.pi) - log_mass)
    inside_mean = np.where(np.isinf(a), mean, mean - sd * hazard)
    ends = np.stack([mean + sd * norm.ppf(share * np.exp(log_mass)) for share in (0.1, 0.9)], axis=1)
    shrink = np.where(np.isinf(a), 1.0, np.clip(1 - np.where(np.isinf(a), 0.0, a) * hazard - hazard**2, 1e-6, 1.0))
    return Posterior(np.minimum(inside_mean, below - 1e-6) if np.isfinite(below) else inside_mean, sd * np.sqrt(shrink), ends)
