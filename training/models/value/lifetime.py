"""The parameters of customer value by maximum likelihood: how often customers buy, when they stop, and what they spend.

All parameters are positive, so their logs are sought, from several starts, with exact derivatives; then Newton's steps go on to the optimum
itself, where the Hessian says how sure each is. Customers who are alike are counted first: of many only few differ.

A time is in weeks, not rounded to whole ones: what is rounded down moves the last purchase and the end of watching apart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from kernels.customers import counting as kernel
from kernels.types import F64, Bool
from training.errors import FitError

# Takes the logs of the parameters and returns the log-likelihood a customer, and its derivatives: float64 [1 + parameters].
Likelihood = Callable[[F64], F64]

FEWEST = 10  # customers, or repeat buyers, with which four parameters can be fitted at all; not yet well
DEPENDENT = 0.3  # correlation of how often with how much above which Gamma-Gamma misleads: it takes them to be independent
LOG_BOUND = 11.5  # of a parameter, in units of the data: beyond 100,000 the data do not determine it
_DIFFERENCE = 1e-4  # in logs: of an exact gradient, a central difference of this is good to 8 digits
_CONVERGED = 1e-9  # what the log-likelihood, of all customers, may still be short of
_NEWTON_STEPS = 25
_OPTIONS = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of how often customers buy: its number in the kernels, its parameters by their published names, and where to start.

    fixed: the values of the other parameters of its kernel.
    """

    number: int
    parameters: tuple[str, ...]
    starts: tuple[tuple[float, ...], ...]  # with times in units of the mean age
    fixed: tuple[float, ...] = ()

    def given(self, values: F64) -> F64:
        """Return the parameters as the kernels take them: float64 [4]."""
        return np.concatenate((values, self.fixed))


_NEVER = 1e-300  # of a chance: it is none
_STARTS = ((0.5, 0.5, 1.0, 2.0), (1.0, 1.0, 1.0, 1.0), (0.2, 0.1, 0.5, 5.0))

MODELS: Mapping[str, Model] = {
    "bg_nbd": Model(kernel.BG_NBD, ("r", "alpha", "a", "b"), _STARTS),
    "mbg_nbd": Model(kernel.MBG_NBD, ("r", "alpha", "a", "b"), _STARTS),
    "pareto_nbd": Model(kernel.PARETO_NBD, ("r", "alpha", "s", "beta"), ((0.5, 0.5, 0.5, 0.5), (1.0, 1.0, 1.0, 1.0), (0.2, 0.1, 1.0, 3.0))),
    # Where nobody seems to stop, as in a season of growth, the others have no optimum, and this is what they tend to (Ehrenberg 1959).
    "nbd": Model(kernel.BG_NBD, ("r", "alpha"), ((0.5, 0.5), (1.0, 1.0), (0.2, 0.1)), fixed=(_NEVER, 1.0)),
}
TIMES = frozenset({"alpha", "beta"})  # the parameters that are times

GAMMA_GAMMA = "gamma_gamma"
SPEND_PARAMETERS = ("p", "q", "v")
_SPEND_STARTS = ((2.0, 3.0, 1.0), (6.0, 4.0, 0.5), (1.0, 2.0, 2.0))  # with money in units of the mean spend


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model.

    model: its name in MODELS, or GAMMA_GAMMA; names: of its parameters, as published; values: float64 [parameters], as the kernels take
    them; errors: their standard errors, from the Hessian; covariance: float64 [parameters, parameters], of their logs; log_likelihood: the
    sum over customers; converged: always true of what the functions here return, since they raise FitError otherwise.
    """

    model: str
    names: tuple[str, ...]
    values: F64
    errors: F64
    covariance: F64
    log_likelihood: float
    customers: int
    converged: bool

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def draws(self, number: int, seed: int) -> F64:
        """Return parameters as they might be too, float64 [number, parameters]: their logs are near a normal distribution (Laplace)."""
        logs = np.random.default_rng(seed).multivariate_normal(np.log(self.values), self.covariance, number, method="cholesky")
        return np.asarray(np.exp(logs))

    def content(self) -> dict[str, object]:
        """Return what a bundle says of it, as JSON takes it."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "standardErrors": dict(zip(self.names, self.errors.tolist(), strict=True)),
            "logCovariance": self.covariance.tolist(),
            "logLikelihood": self.log_likelihood,
            "customers": self.customers,
            "converged": self.converged,
        }


def fit(model: str, x: ArrayLike, t_x: ArrayLike, age: ArrayLike) -> Fit:
    """Return a model of MODELS fitted to customers.

    x: [customers] repeat purchases; t_x: the time of the last of them, 0 where there is none; age: T, until when each has been watched;
    both from the first purchase on, in weeks. Raises FitError where they cannot be, or do not determine the model.
    """
    known = MODELS[model]
    seen = _columns(x=x, t_x=t_x, T=age)
    _check_times(*seen.T)
    _check_repeats(seen[:, kernel.FREQUENCY])
    unit = float(seen[:, kernel.AGE].mean())  # so that the same starts serve days and years
    scale = np.array([unit if name in TIMES else 1.0 for name in known.parameters])
    different, counts = collapsed(seen / np.array([1.0, unit, unit]))

    def likelihood(logs: F64) -> F64:
        found = kernel.log_likelihood(known.number, known.given(np.exp(logs)), different, counts)
        return np.asarray(found)[: 1 + len(known.parameters)] / len(seen)

    logs, hessian = _optimum(likelihood, known.starts, model, len(seen))
    values = np.exp(logs) * scale
    # In units of time a density is less by the unit for each purchase.
    total = float(likelihood(logs)[0]) * len(seen) - np.log(unit) * float(seen[:, kernel.FREQUENCY].sum())
    return _fit(model, known.parameters, values, hessian, total, len(seen))


def fit_spend(x: ArrayLike, mean_spend: ArrayLike) -> Fit:
    """Return Gamma-Gamma fitted to customers who have bought again.

    x: [customers] their repeat purchases, at least 1; mean_spend: [customers] what they spent at these on average, above 0. Raises
    FitError.
    """
    spent = _columns(x=x, mean_spend=mean_spend)
    if len(spent) < FEWEST:
        raise FitError(f"{len(spent)} repeat buyers, and Gamma-Gamma needs {FEWEST}: use the mean spend of all until there are")
    _check(spent[:, 0] >= 1, "x", "must be 1 or more: leave out who has not bought again")
    _check(spent[:, 1] > 0, "mean_spend", "must be above 0: leave out what was free or returned")
    if spent[:, 0].max() < 2:
        raise FitError("nobody has made two repeat purchases, so nobody's spend can be seen to vary: give Gamma-Gamma a longer history")
    unit = float(spent[:, 1].mean())
    different, counts = collapsed(spent / np.array([1.0, unit]))

    def likelihood(logs: F64) -> F64:
        return np.asarray(kernel.spend_log_likelihood(np.exp(logs), different, counts)) / len(spent)

    logs, hessian = _optimum(likelihood, _SPEND_STARTS, GAMMA_GAMMA, len(spent))
    total = (float(likelihood(logs)[0]) - float(np.log(unit))) * len(spent)
    return _fit(GAMMA_GAMMA, SPEND_PARAMETERS, np.exp(logs) * np.array([1.0, 1.0, unit]), hessian, total, len(spent))


def dependence(x: ArrayLike, mean_spend: ArrayLike) -> float:
    """Return the correlation of how often with how much, among those who have bought again; 0 where either is the same for all.

    x, mean_spend: [customers], those with x = 0 are left out. Above DEPENDENT in size, what Gamma-Gamma says is not to be relied on.
    """
    spent = _columns(x=x, mean_spend=mean_spend)
    often, much = spent[spent[:, 0] > 0].T
    if len(often) < 2 or often.min() == often.max() or much.min() == much.max():
        return 0.0
    return float(np.corrcoef(often, much)[0, 1])


def collapsed(rows: F64) -> tuple[F64, F64]:
    """Return the different ones of rows [n, columns], in order, and how many there are of each, float64."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    first = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))
    return np.ascontiguousarray(ordered[first]), np.diff(np.append(np.flatnonzero(first), len(rows))).astype(np.float64)


def _columns(**arrays: ArrayLike) -> F64:
    """Return arrays of one length as the columns of a matrix."""
    columns = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    if any(column.ndim != 1 for column in columns.values()) or len({len(column) for column in columns.values()}) != 1:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise FitError(f"the columns differ in shape ({shapes}): give one number a customer in each")
    for name, column in columns.items():
        _check(np.isfinite(column), name, "must be a finite number")
    return np.column_stack(list(columns.values()))


def _check(good: Bool, name: str, fix: str) -> None:
    """Raise FitError with the first row that is not good."""
    if not good.all():
        raise FitError(f"row {int(np.argmin(good)) + 1}, {name}: {fix}")


def _check_times(x: F64, t_x: F64, age: F64) -> None:
    """Raise FitError where a customer's purchases and times contradict each other."""
    _check((x >= 0) & (x == np.floor(x)), "x", "must be a whole number, 0 or more")
    _check((t_x >= 0) & (t_x <= age), "t_x", "must be from 0 to T: times run from the first purchase on")
    _check((x > 0) | (t_x == 0), "t_x", "must be 0 where x is 0")


def _check_repeats(x: F64) -> None:
    """Raise FitError where there is too little in the data to tell how often anybody buys."""
    if len(x) < FEWEST:
        raise FitError(f"{len(x)} customers, and four parameters need {FEWEST} at least: give more customers")
    repeaters = int((x > 0).sum())
    if repeaters == 0:
        raise FitError(f"none of {len(x)} customers has bought again, so nothing tells how often they do: give a longer history")
    if repeaters < FEWEST:
        raise FitError(f"{repeaters} of {len(x)} customers have bought again, and {FEWEST} must have: give a longer history")


def _optimum(likelihood: Likelihood, starts: tuple[tuple[float, ...], ...], model: str, customers: int) -> tuple[F64, F64]:
    """Return the logs of the parameters where the likelihood is greatest, and its Hessian there, both a customer. Raises FitError."""

    def cost(logs: F64) -> tuple[float, F64]:
        found = -likelihood(logs)
        return float(found[0]), found[1:]

    bounds = [(-LOG_BOUND, LOG_BOUND)] * len(starts[0])
    ends = [minimize(cost, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS) for start in starts]
    best: F64 = min(ends, key=lambda end: float(end.fun)).x
    if (np.abs(best) > LOG_BOUND - 0.01).any():
        raise FitError(_undetermined(model, "a parameter runs away"))
    for _ in range(_NEWTON_STEPS):
        gradient, hessian = likelihood(best)[1:], _hessian(likelihood, best)
        if not (np.linalg.eigvalsh(hessian) < 0).all():
            raise FitError(_undetermined(model, "several values of the parameters are as likely"))
        step = np.linalg.solve(hessian, -gradient)
        if gradient @ step / 2 * customers < _CONVERGED:
            return best + step, hessian  # one more costs nothing, and doubles the digits
        best = best + step / max(1.0, float(np.abs(step).max()))
    raise FitError(_undetermined(model, f"after {_NEWTON_STEPS} steps the likelihood still rises"))


def _undetermined(model: str, how: str) -> str:
    return f"the data do not determine {model}: {how}; give more customers or a longer history, or try another model"


def _hessian(likelihood: Likelihood, logs: F64) -> F64:
    """Return the second derivatives by the logs, from central differences of the exact first ones."""
    steps = np.eye(len(logs)) * _DIFFERENCE
    rows = np.array([(likelihood(logs + step)[1:] - likelihood(logs - step)[1:]) / (2 * _DIFFERENCE) for step in steps])
    return np.asarray((rows + rows.T) / 2)


def _fit(model: str, names: tuple[str, ...], values: F64, hessian: F64, total: float, customers: int) -> Fit:
    """Return what a fit says, from the Hessian a customer at its optimum."""
    covariance = np.linalg.inv(-hessian * customers)
    covariance = (covariance + covariance.T) / 2
    return Fit(model, names, values, values * np.sqrt(np.diag(covariance)), covariance, total, customers, converged=True)
