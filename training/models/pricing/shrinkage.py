"""Shrinkage of many estimates to their group, the more the less precise each is: a normal hierarchical model.

An estimate e_i with error s_i is of a true value from N(mu, tau^2), mu from the prior and tau from a half-normal (Gelman 2006), both
integrated out: tau over a grid, the rest in closed form. With one estimate or none the prior dominates, with many the data.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from kernels.types import F64

TAUS = np.geomspace(0.01, 3.0, 60)


@dataclass(frozen=True, slots=True)
class Prior:
    """A prior: the mean of a group, its standard deviation, the spread between members, and an upper bound."""

    mean: float
    spread: float
    between: float
    below: float = float("inf")


# Bijmolt, van Heerde and Pieters 2005: 1,851 published own-price elasticities, mean -2.62; never positive, as an upward demand would be.
OWN = Prior(-2.62, 1.2, 1.2, below=0.0)
# Cross elasticities: positive on average and smaller than own ones; a single estimate may have either sign.
CROSS = Prior(0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Posterior:
    """mean and sd: float64 [members], of a normal truncated at the prior's bound."""

    mean: F64
    sd: F64
    interval80: F64  # [members, 2]


def shrunk(estimates: F64, errors: F64, prior: Prior) -> Posterior:
    """Return the posterior of each member of a group; one whose estimate is NaN gets that of the group."""
    known = np.isfinite(estimates) & np.isfinite(errors) & (errors > 0)
    e, s2 = np.where(known, estimates, 0.0), np.where(known, errors, 1.0) ** 2
    with np.errstate(divide="ignore"):
        precision = np.where(known, 1.0, 0.0)[None, :] / (s2[None, :] + TAUS[:, None] ** 2)  # [taus, members]
    prior_precision = 1 / prior.spread**2
    total = precision.sum(axis=1) + prior_precision
    mu = (precision @ e + prior.mean * prior_precision) / total
    fit = -0.5 * (precision * (e[None, :] - mu[:, None]) ** 2).sum(axis=1) - 0.5 * prior_precision * (mu - prior.mean) ** 2
    size = 0.5 * np.log(np.where(known[None, :], precision, 1.0)).sum(axis=1) - 0.5 * np.log(total)
    half_normal = -0.5 * (TAUS / prior.between) ** 2 + np.log(TAUS)  # the grid is uniform in log tau
    weight = fit + size + half_normal
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    own = np.where(known[None, :], TAUS[:, None] ** 2 * precision, 0.0)  # the weight of a member's own estimate
    mean = own * e + (1 - own) * mu[:, None]
    variance = np.where(known, own * s2, TAUS[:, None] ** 2) + (1 - own) ** 2 / total[:, None]
    centre = weight @ mean
    sd = np.sqrt(weight @ (variance + (mean - centre) ** 2))
    return truncated(centre, sd, prior.below)


def sd_of_another(estimates: F64, errors: F64, prior: Prior) -> float:
    """Return the sd of a member of the group that has no estimate and is none of these.

    With few members it is about that of the prior, however precise their estimates: how far members differ is then hardly known.
    """
    return float(shrunk(np.append(estimates, np.nan), np.append(errors, np.nan), prior).sd[-1])


def truncated(mean: F64, sd: F64, below: float) -> Posterior:
    """Return mean, sd and central 80 % of a normal truncated to values below `below`."""
    from scipy.stats import norm

    a = (below - mean) / sd
    log_mass = log_ndtr(a)
    hazard = np.exp(-0.5 * np.minimum(a, 40.0) ** 2 - 0.5 * np.log(2 * np.pi) - log_mass)
    inside_mean = np.where(np.isinf(a), mean, mean - sd * hazard)
    ends = np.stack([mean + sd * norm.ppf(share * np.exp(log_mass)) for share in (0.1, 0.9)], axis=1)
    shrink = np.where(np.isinf(a), 1.0, np.clip(1 - np.where(np.isinf(a), 0.0, a) * hazard - hazard**2, 1e-6, 1.0))
    return Posterior(np.minimum(inside_mean, below - 1e-6) if np.isfinite(below) else inside_mean, sd * np.sqrt(shrink), ends)
