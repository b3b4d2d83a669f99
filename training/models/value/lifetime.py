"""Maximum likelihood estimates for models of purchase counts, churn and spend.

All parameters are positive, so the optimisation is over their logs: L-BFGS-B from several starts with exact gradients, then Newton steps
to the optimum, whose Hessian gives the standard errors. Identical customers are aggregated first, since few rows are distinct.

Where the likelihood has no optimum, as that of BG/NBD in a season of growth in which nobody visibly leaves, a penalised fit has one
(`fit_penalised`): the mode of the posterior under a weakly informative prior, in which each parameter has the log-logistic distribution
of median 1, times in units of the mean age of the customers. PyMC-Marketing has such priors, and lifetimes its penalizer, for the same
reason. The prior weighs as much as a few customers: with more data it vanishes.

Times are in weeks and not rounded: rounding down would shift the last purchase against the end of the observation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from kernels.customers import counting as kernel
from kernels.customers.spend import spend_log_likelihood
from kernels.types import F64, Bool
from training.errors import FitError

# Takes the logs of the parameters and returns the mean log-likelihood per customer and its derivatives: float64 [1 + parameters].
Likelihood = Callable[[F64], F64]

MIN_CUSTOMERS = 10  # customers, or repeat buyers: enough to fit four parameters, not to fit them well
MAX_CORRELATION = 0.3  # of frequency with spend: Gamma-Gamma, which assumes independence, is unreliable above it
LOG_BOUND = 11.5  # of a parameter, in units of the data: beyond 100,000 the data do not determine it
_DIFFERENCE = 1e-4  # step in logs: a central difference of an exact gradient is then accurate to 8 digits
_CONVERGED = 1e-9  # remaining increase of the total log-likelihood at which Newton's method stops
_MAX_NEWTON_STEPS = 25
_OPTIONS = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}


@dataclass(frozen=True, slots=True)
class CountingModel:
    """A model of purchase counts: its number in the kernels, its parameters by their published names, and start values.

    fixed: the values of the kernel's other parameters. churns: when a customer can churn: always, after a repeat purchase, or never; where
    they cannot, P(alive) is 1 by assumption and not a finding.
    """

    number: int
    parameters: tuple[str, ...]
    starts: tuple[tuple[float, ...], ...]  # with times in units of the mean age
    fixed: tuple[float, ...] = ()
    churns: Literal["always", "after-repeat", "never"] = "always"

    def kernel_parameters(self, values: F64) -> F64:
        """Return the four parameters that the kernels take, float64 [4]."""
        return np.concatenate((values, self.fixed))


_NO_CHURN = 1e-300  # `a` of the Beta distribution of churn: its mean is 0 in float64
_STARTS = ((0.5, 0.5, 1.0, 2.0), (1.0, 1.0, 1.0, 1.0), (0.2, 0.1, 0.5, 5.0))
_PARETO_STARTS = ((0.5, 0.5, 0.5, 0.5), (1.0, 1.0, 1.0, 1.0), (0.2, 0.1, 1.0, 3.0))

MODELS: Mapping[str, CountingModel] = {
    "bg_nbd": CountingModel(kernel.BG_NBD, ("r", "alpha", "a", "b"), _STARTS, churns="after-repeat"),
    "mbg_nbd": CountingModel(kernel.MBG_NBD, ("r", "alpha", "a", "b"), _STARTS),
    "pareto_nbd": CountingModel(kernel.PARETO_NBD, ("r", "alpha", "s", "beta"), _PARETO_STARTS),
    # Without visible churn, as in a season of growth, the other models have no optimum and tend to this one (Ehrenberg 1959).
    "nbd": CountingModel(kernel.BG_NBD, ("r", "alpha"), ((0.5, 0.5), (1.0, 1.0), (0.2, 0.1)), fixed=(_NO_CHURN, 1.0), churns="never"),
}
TIMES = frozenset({"alpha", "beta"})  # the parameters that are times

GAMMA_GAMMA = "gamma_gamma"
SPEND_PARAMETERS = ("p", "q", "v")
MAX_MEANLESS_Q = 1.0  # with q up to this the population of Gamma-Gamma has no mean
CERTAIN = 2.0  # standard errors by which q must exceed it
_SPEND_STARTS = ((2.0, 3.0, 1.0), (6.0, 4.0, 0.5), (1.0, 2.0, 2.0))  # with money in units of the mean spend


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted model.

    model: its name in MODELS, or GAMMA_GAMMA; names: the published names of its parameters; values: float64 [parameters], in the order of
    the kernels; errors: their standard errors, from the Hessian; covariance: float64 [parameters, parameters], of their logs;
    log_likelihood: the sum over customers, without the prior of a penalised fit; converged: always true, because the functions here raise
    FitError otherwise; penalised: whether the parameters are those of `fit_penalised`.
    """

    model: str
    names: tuple[str, ...]
    values: F64
    errors: F64
    covariance: F64
    log_likelihood: float
    customers: int
    converged: bool
    penalised: bool = False

    @property
    def aic(self) -> float:
        """Akaike's information criterion: the smallest is best."""
        return 2 * (len(self.names) - self.log_likelihood)

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def draws(self, number: int, seed: int) -> F64:
        """Return draws from the Laplace approximation of the posterior, float64 [number, parameters]: normal in the logs."""
        logs = np.random.default_rng(seed).multivariate_normal(np.log(self.values), self.covariance, number, method="cholesky")
        return np.asarray(np.exp(logs))

    def content(self) -> dict[str, object]:
        """Return the model as JSON for a bundle."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "standardErrors": dict(zip(self.names, self.errors.tolist(), strict=True)),
            "logCovariance": self.covariance.tolist(),
            "logLikelihood": self.log_likelihood,
            "customers": self.customers,
            "converged": self.converged,
            "penalised": self.penalised,
        }


def fit(model: str, x: ArrayLike, t_x: ArrayLike, age: ArrayLike) -> FittedModel:
    """Return a model of MODELS fitted to customers.

    x: [customers] repeat purchases; t_x: the time of the last of them, 0 where there is none; age: T, the end of the observation; both in
    weeks since the first purchase. Raises FitError where the values are invalid or do not determine the model.
    """
    return _fit_counting(model, x, t_x, age, penalised=False)


def fit_penalised(model: str, x: ArrayLike, t_x: ArrayLike, age: ArrayLike) -> FittedModel:
    """Return the mode of the posterior of a model of MODELS; arguments as of `fit`. Raises FitError where the values are invalid."""
    return _fit_counting(model, x, t_x, age, penalised=True)


def _fit_counting(model: str, x: ArrayLike, t_x: ArrayLike, age: ArrayLike, *, penalised: bool) -> FittedModel:
    counting = MODELS[model]
    rows = _columns(x=x, t_x=t_x, T=age)
    _check_times(*rows.T)
    _check_repeats(rows[:, kernel.FREQUENCY])
    unit = float(rows[:, kernel.AGE].mean())  # makes the start values independent of the unit of time
    scale = np.array([unit if name in TIMES else 1.0 for name in counting.parameters])
    distinct, counts = collapsed(rows / np.array([1.0, unit, unit]))

    def likelihood(logs: F64) -> F64:
        found = kernel.log_likelihood(counting.number, counting.kernel_parameters(np.exp(logs)), distinct, counts)
        return np.asarray(found)[: 1 + len(counting.parameters)] / len(rows)

    def posterior(logs: F64) -> F64:
        return likelihood(logs) + log_prior(logs) / len(rows)

    logs, hessian = _optimum(posterior if penalised else likelihood, counting.starts, model, len(rows))
    values = np.exp(logs) * scale
    # A change of the unit of time divides the density by the unit once for each purchase.
    total = float(likelihood(logs)[0]) * len(rows) - np.log(unit) * float(rows[:, kernel.FREQUENCY].sum())
    return _fit(model, counting.parameters, values, hessian, total, len(rows), penalised=penalised)


def log_prior(logs: F64) -> F64:
    """Return the log density of the prior of `fit_penalised` and its derivatives, float64 [1 + parameters], at the logs of the parameters.

    The logistic distribution of each log, so that p / (1 + p) of a parameter p is uniform between 0 and 1.
    """
    return np.concatenate(([float((logs - 2 * np.logaddexp(0, logs)).sum())], -np.tanh(logs / 2)))


def has_no_mean(spend: FittedModel) -> bool:
    """Return whether Gamma-Gamma's q is not above 1 by CERTAIN standard errors: the mean spend of the population is then not finite."""
    q = spend.names.index("q")
    return bool(spend.values[q] - CERTAIN * spend.errors[q] <= MAX_MEANLESS_Q)


def fit_spend(x: ArrayLike, mean_spend: ArrayLike) -> FittedModel:
    """Return Gamma-Gamma fitted to customers who have bought again.

    x: [customers] their repeat purchases, at least 1; mean_spend: [customers] their mean spend at these, above 0. Raises FitError where
    the values are invalid or do not determine the model.
    """
    spent = _columns(x=x, mean_spend=mean_spend)
    if len(spent) < MIN_CUSTOMERS:
        raise FitError(f"{len(spent)} repeat buyers, and Gamma-Gamma needs {MIN_CUSTOMERS}: use the mean spend of all customers")
    _check(spent[:, 0] >= 1, "x", "must be 1 or more: leave out customers without a repeat purchase")
    _check(spent[:, 1] > 0, "mean_spend", "must be above 0: leave out free or returned purchases")
    if spent[:, 0].max() < 2:
        raise FitError("no customer has two repeat purchases, so Gamma-Gamma cannot estimate how spend varies: give a longer history")
    unit = float(spent[:, 1].mean())
    distinct, counts = collapsed(spent / np.array([1.0, unit]))

    def likelihood(logs: F64) -> F64:
        return np.asarray(spend_log_likelihood(np.exp(logs), distinct, counts)) / len(spent)

    logs, hessian = _optimum(likelihood, _SPEND_STARTS, GAMMA_GAMMA, len(spent))
    total = (float(likelihood(logs)[0]) - float(np.log(unit))) * len(spent)
    return _fit(GAMMA_GAMMA, SPEND_PARAMETERS, np.exp(logs) * np.array([1.0, 1.0, unit]), hessian, total, len(spent))


def dependence(x: ArrayLike, mean_spend: ArrayLike) -> float:
    """Return the correlation of repeat purchases with mean spend among repeat buyers; 0 where either is constant.

    x, mean_spend: [customers]; those with x = 0 are left out. Gamma-Gamma is unreliable where its absolute value exceeds MAX_CORRELATION.
    """
    spent = _columns(x=x, mean_spend=mean_spend)
    repeats, amount = spent[spent[:, 0] > 0].T
    if len(repeats) < 2 or repeats.min() == repeats.max() or amount.min() == amount.max():
        return 0.0
    return float(np.corrcoef(repeats, amount)[0, 1])


def collapsed(rows: F64) -> tuple[F64, F64]:
    """Return the distinct rows of [n, columns], sorted, and the count of each, float64."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    first = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))
    return np.ascontiguousarray(ordered[first]), np.diff(np.append(np.flatnonzero(first), len(rows))).astype(np.float64)


def _columns(**arrays: ArrayLike) -> F64:
    """Return arrays of one length as the columns of a matrix."""
    columns = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    if any(column.ndim != 1 for column in columns.values()) or len({len(column) for column in columns.values()}) != 1:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise FitError(f"the columns differ in shape ({shapes}): give one number per customer in each")
    for name, column in columns.items():
        _check(np.isfinite(column), name, "must be a finite number")
    return np.column_stack(list(columns.values()))


def _check(valid: Bool, name: str, fix: str) -> None:
    """Raise FitError with the first row that is not valid."""
    if not valid.all():
        raise FitError(f"row {int(np.argmin(valid)) + 1}, {name}: {fix}")


def _check_times(x: F64, t_x: F64, age: F64) -> None:
    """Raise FitError where a customer's purchases and times contradict each other."""
    _check((x >= 0) & (x == np.floor(x)), "x", "must be a whole number, 0 or more")
    _check((t_x >= 0) & (t_x <= age), "t_x", "must be from 0 to T: times are measured from the first purchase")
    _check((x > 0) | (t_x == 0), "t_x", "must be 0 where x is 0")


def _check_repeats(x: F64) -> None:
    """Raise FitError where there are too few customers or repeat buyers to estimate purchase rates."""
    if len(x) < MIN_CUSTOMERS:
        raise FitError(f"{len(x)} customers are fewer than the {MIN_CUSTOMERS} that four parameters need: give more customers")
    repeaters = int((x > 0).sum())
    if repeaters == 0:
        raise FitError(f"none of {len(x)} customers has bought again, so no purchase rate can be estimated: give a longer history")
    if repeaters < MIN_CUSTOMERS:
        raise FitError(f"{repeaters} of {len(x)} customers have bought again, at least {MIN_CUSTOMERS} are needed: give a longer history")


def _optimum(likelihood: Likelihood, starts: tuple[tuple[float, ...], ...], model: str, customers: int) -> tuple[F64, F64]:
    """Return the logs of the parameters of greatest likelihood, and the Hessian there per customer. Raises FitError."""

    def cost(logs: F64) -> tuple[float, F64]:
        found = -likelihood(logs)
        return float(found[0]), found[1:]

    bounds = [(-LOG_BOUND, LOG_BOUND)] * len(starts[0])
    ends = [minimize(cost, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS) for start in starts]
    best: F64 = min(ends, key=lambda end: float(end.fun)).x
    if (np.abs(best) > LOG_BOUND - 0.01).any():
        raise FitError(_undetermined(model, "a parameter reaches its bound"))
    for _ in range(_MAX_NEWTON_STEPS):
        gradient, hessian = likelihood(best)[1:], _hessian(likelihood, best)
        if not (np.linalg.eigvalsh(hessian) < 0).all():
            raise FitError(_undetermined(model, "several values of the parameters are equally likely"))
        step = np.linalg.solve(hessian, -gradient)
        if gradient @ step / 2 * customers < _CONVERGED:
            return best + step, hessian  # the last step is already computed, and doubles the correct digits
        best = best + step / max(1.0, float(np.abs(step).max()))
    raise FitError(_undetermined(model, f"after {_MAX_NEWTON_STEPS} steps the log-likelihood still rises"))


def _undetermined(model: str, how: str) -> str:
    return f"the data do not determine {model}: {how}; give more customers or a longer history, or try another model"


def _hessian(likelihood: Likelihood, logs: F64) -> F64:
    """Return the second derivatives with respect to the logs, from central differences of the exact gradient."""
    steps = np.eye(len(logs)) * _DIFFERENCE
    rows = np.array([(likelihood(logs + step)[1:] - likelihood(logs - step)[1:]) / (2 * _DIFFERENCE) for step in steps])
    return np.asarray((rows + rows.T) / 2)


def _fit(
    model: str, names: tuple[str, ...], values: F64, hessian: F64, total: float, customers: int, *, penalised: bool = False
) -> FittedModel:
    """Return the fitted model, from the Hessian per customer at the optimum."""
    covariance = np.linalg.inv(-hessian * customers)
    covariance = (covariance + covariance.T) / 2
    return FittedModel(model, names, values, values * np.sqrt(np.diag(covariance)), covariance, total, customers, True, penalised)
