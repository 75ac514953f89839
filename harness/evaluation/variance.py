"""Components of variance of a method whose tokenizer and model were trained with crossed seeds.

The mean metrics of `a` tokenizer seeds x `b` model seeds are a two-way table without replication. With both factors
random, y = mu + T + M + residual, the ANOVA estimators for balanced data are (Searle, Casella & McCulloch 1992, ch. 4)

    residual = MS_R,    tokenizer = (MS_T - MS_R) / b,    model = (MS_M - MS_R) / a,

cut at zero, and the residual holds the interaction. Its interval is the exact one by chi squared, those of the two
factors are Williams' and Tukey's, whose level is at least 1 - 2 alpha and close to 1 - alpha (Williams 1962; Searle et
al. 1992, table 3.4). They assume normal effects. With a single tokenizer seed, `model` is the variance of the means.

These three move the number that a run reports on the same test cases. `users` is another thing: the variance of the
mean over a draw of as many users, s^2 / n; its interval is the large-sample one, with the fourth moment (Cramer 1946,
27.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness.evaluation.significance import LEVEL, least_difference, spread_of_mean


@dataclass(frozen=True)
class Component:
    """`variance` of the mean metric that a source adds, its interval `low` to `high` (None where there is none), and
    its degrees of freedom."""

    source: str
    variance: float
    low: float | None
    high: float | None
    freedom: int

    @property
    def deviation(self) -> float:
        """The same as a standard deviation, in the metric's unit."""
        return self.variance**0.5


@dataclass(frozen=True)
class Components:
    """`least_users`: the least mean difference of two runs that a paired test over the `users` tells apart, from the
    spread of per-user differences of two runs of this method with no seed in common. `least_seeds`: the least true
    difference of the means of two methods that vary as this one does, one run each; `least_rows` with `model_seeds`
    independent runs each. `least_both` is of such rows over seeds and users at once: it counts the noise of single
    users in both, so it is an upper bound. All by `least_difference`, two-sided and normal."""

    mean: float
    components: tuple[Component, ...]
    tokenizer_seeds: int
    model_seeds: int
    users: int
    cases: int
    least_users: float
    least_seeds: float
    least_rows: float
    least_both: float

    def __getitem__(self, source: str) -> Component:
        return next(one for one in self.components if one.source == source)


def components(values: np.ndarray, clusters: np.ndarray | None = None) -> Components:
    """From a metric a case, float, shape (tokenizer seeds, model seeds, cases); `clusters` is the user of each case
    where a user may have several (`Requests.clusters`).

    Raises `ValueError` for fewer than two model seeds or two users, and for values that are not finite.
    """
    if values.ndim != 3 or values.shape[1] < 2 or values.shape[2] < 2 or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape} have no components of variance")
    tokenizers, models, cases = values.shape
    factors = _two_way(values.mean(axis=2)) if tokenizers > 1 else _one_way(values[0].mean(axis=1))
    spread, users = spread_of_mean(values.mean(axis=(0, 1)), clusters)
    runs = _pair_spread(values, clusters)
    seeds = sum(one.variance for one in factors)
    least_users = least_difference(runs, users)
    least_seeds = least_difference((2 * seeds) ** 0.5, 1)
    least_rows = least_seeds / models**0.5
    return Components(
        mean=float(values.mean()),
        components=(*factors, _users(values.mean(axis=(0, 1)), spread, users, clusters)),
        tokenizer_seeds=tokenizers,
        model_seeds=models,
        users=users,
        cases=cases,
        least_users=least_users,
        least_seeds=least_seeds,
        least_rows=least_rows,
        least_both=float(np.hypot(least_rows, least_users)),
    )


def _two_way(means: np.ndarray) -> tuple[Component, ...]:
    from scipy.stats import chi2

    a, b = means.shape
    rows, columns = means.mean(axis=1), means.mean(axis=0)
    residuals = means - rows[:, None] - columns + means.mean()
    freedom = (a - 1) * (b - 1)
    squares = float(np.square(residuals).sum())
    tails = chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], freedom)
    residual = Component("residual", squares / freedom, squares / tails[0], squares / tails[1], freedom)
    tokenizer = _factor("tokenizer", b * float(np.square(rows - rows.mean()).sum()), (a - 1, b), residual)
    model = _factor("model", a * float(np.square(columns - columns.mean()).sum()), (b - 1, a), residual)
    return tokenizer, model, residual


def _factor(source: str, squares: float, size: tuple[int, int], residual: Component) -> Component:
    """`squares` is the factor's sum of squares, `size` its degrees of freedom and the number of runs at each level."""
    from scipy.stats import chi2, f

    freedom, runs = size
    variance = max(0.0, (squares / freedom - residual.variance) / runs)
    tails = [(1 + LEVEL) / 2, (1 - LEVEL) / 2]
    ends = [
        max(0.0, (squares - freedom * residual.variance * ratio) / (runs * total))
        for ratio, total in zip(f.ppf(tails, freedom, residual.freedom), chi2.ppf(tails, freedom), strict=True)
    ]
    return Component(source, variance, ends[0], ends[1], freedom)


def _one_way(means: np.ndarray) -> tuple[Component, ...]:
    from scipy.stats import chi2

    freedom = len(means) - 1
    squares = float(np.square(means - means.mean()).sum())
    tails = chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], freedom)
    return (Component("model", squares / freedom, squares / tails[0], squares / tails[1], freedom),)


def _users(means: np.ndarray, spread: float, users: int, clusters: np.ndarray | None) -> Component:
    variance = spread**2 / users
    if clusters is not None:
        return Component("users", variance, None, None, users - 1)
    centred = means - means.mean()
    error = (max(0.0, float((centred**4).mean()) - spread**4) / users) ** 0.5 / users
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return Component("users", variance, max(0.0, variance - half), variance + half, users - 1)


def _pair_spread(values: np.ndarray, clusters: np.ndarray | None) -> float:
    """The root mean square of the spread of per-user differences, over the pairs of each run with that of the next seed
    of both factors: no pair shares a seed."""
    other = np.roll(values, (-1, -1) if len(values) > 1 else (0, -1), axis=(0, 1))
    pairs = (values - other).reshape(-1, values.shape[2])
    return float(np.sqrt(np.mean([spread_of_mean(pair, clusters)[0] ** 2 for pair in pairs])))
