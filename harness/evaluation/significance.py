"""Paired statistics of two models on the same users: difference, confidence interval, significance.

Users are the sampling unit. With several seeds, a user's value is the mean over them; `seeds_p` tests over seeds. Users
of equal difference are sampled together: a sum of random signs is binomial and a resample multinomial.

If a protocol has several cases a user, cases of one user are not independent. The mean is over cases, and `clusters`
names the user of each: signs are sampled a user, resamples draw users with all their cases (cluster bootstrap, Field &
Welsh 2007), and the standard error is that of a ratio of two sums over users (Cochran 1977, ch. 6).

Components of variance of a method whose tokenizer and model were trained with crossed seeds.

The mean metrics of `a` tokenizer seeds x `b` model seeds are a two-way table without replication. With both factors
random, y = mu + T + M + residual, the ANOVA estimators for balanced data are (Searle, Casella & McCulloch 1992, ch. 4)

    residual = MS_R,    tokenizer = (MS_T - MS_R) / b,    model = (MS_M - MS_R) / a,

cut at zero, and the residual holds the interaction. Its interval is the exact one by chi squared, those of the two
factors are Williams' and Tukey's, whose level is at least 1 - 2 alpha and close to 1 - alpha (Williams 1962; Searle et
al. 1992, table 3.4). They assume normal effects. With a single tokenizer seed, `model` is the variance of the means.

`users` is the variance of the mean over a draw of as many users, s^2 / n; its interval is the large-sample one, with
the fourth moment (Cramer 1946, 27.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95  # of intervals
ALPHA = 0.05  # at which a corrected p counts as significant
POWER = 0.8  # with which a difference is found that counts as one that can be told apart
EXACT = 16  # differing users up to which every assignment of signs is counted instead of drawn
RELABELLINGS = 20_000  # of seeds, at most; more are not asked for
DECIMALS = 12  # differences are equal when they agree this far: sums over seeds round in the last digit
CELLS = 4_000_000  # random numbers drawn at once


@dataclass(frozen=True)
class Difference:
    """`a` minus `b` over the `cases` of `users`, in the metric's own unit. `low` and `high` bound the mean difference
    (bootstrap over users, percentiles), `p` is the two-sided randomisation test's, `effect` Cohen's d of paired
    differences of cases (mean over standard deviation; None where they are all equal). `wins` counts cases on which `a`
    is better; `least` is the mean difference that so many users with this spread tell apart (`least_difference`)."""

    users: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p: float
    effect: float | None
    wins: int
    losses: int
    ties: int
    least: float
    cases: int


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> Difference:
    """Compares values a case of two models: float, shape (seeds, cases) or (cases,); the cases are the same and in the
    same order. `clusters`: the user of each case, int64, shape (cases,); None where each is another user's. Raises
    `ValueError` where the shapes do not fit, where there is no case, or for a NaN."""
    one, two = np.atleast_2d(a), np.atleast_2d(b)
    if one.shape[1:] != two.shape[1:] or one.ndim != 2 or not one.size:
        raise ValueError(f"values of shapes {one.shape} and {two.shape} are not of the same users")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise ValueError("a value is not finite")
    separate = np.round(one.mean(axis=0) - two.mean(axis=0), DECIMALS)
    low, high = bootstrap_ci(separate, rng, resamples=resamples, clusters=clusters)
    deviation = spread_of_mean(separate, None)[0]
    spread, users = spread_of_mean(separate, clusters)
    sums = separate if clusters is None else _sums(separate, clusters)[0]
    wins, losses = int((separate > 0).sum()), int((separate < 0).sum())
    return Difference(
        users=users,
        mean_a=float(one.mean()),
        mean_b=float(two.mean()),
        difference=float(separate.mean()),
        low=low,
        high=high,
        p=permutation_test(sums, rng, resamples),
        effect=float(separate.mean()) / deviation if deviation > 0 else None,
        wins=wins,
        losses=losses,
        ties=len(separate) - wins - losses,
        least=least_difference(spread, users),
        cases=len(separate),
    )


def _sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of each user's values and the number of its cases, shape (users,) each."""
    _, inverse, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return np.round(np.bincount(inverse, weights=values), DECIMALS), sizes


def spread_of_mean(values: np.ndarray, clusters: np.ndarray | None) -> tuple[float, int]:
    """The standard error of the mean over users, times sqrt(users), and the number of users: of one value a user their
    standard deviation, else that of the ratio of two sums over users, by linearisation. `values` is float, shape
    (cases,), `clusters` as in `paired_difference`."""
    if clusters is None:
        return (float(values.std(ddof=1)) if len(values) > 1 else 0.0), len(values)
    sums, sizes = _sums(values, clusters)
    if len(sums) < 2:
        return 0.0, len(sums)
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(np.square(residuals).sum() / (len(sums) - 1)) / sizes.mean()), len(sums)


def least_difference(spread: float, users: int) -> float:
    """The smallest true mean difference that a paired two-sided test at `ALPHA` finds with `POWER`, where differences
    have the standard deviation `spread`: (z of 1 - alpha / 2 + z of power) spread / sqrt(users) (Cohen 1988). For one
    test that is not corrected, over users: what other seeds would change is not in it.

    >>> round(least_difference(0.25, 10_000), 4)
    0.007
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - ALPHA / 2) + normal.inv_cdf(POWER)) * spread / users**0.5


def permutation_test(separate: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the paired randomisation test: how often random signs give a mean at least as far from zero. Exact
    up to `EXACT` users that differ; beyond, (as far + 1) / (resamples + 1), which keeps its level (Phipson & Smyth
    2010). `separate` is float, shape (users,): a user's difference, or the sum over its cases."""
    changed = separate[separate != 0]
    if not len(changed):
        return 1.0
    sizes, counts = np.unique(np.abs(changed), return_counts=True)
    far = abs(changed.sum()) * (1 - 1e-12)
    if len(changed) <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed))) & 1)
        return float((np.abs(signs @ changed) >= far).mean())
    as_far = 0
    for part in _parts(resamples, len(sizes)):
        positive = rng.binomial(counts, 0.5, size=(part, len(sizes)))
        as_far += int((np.abs((2 * positive - counts) @ sizes) >= far).sum())
    return (as_far + 1) / (resamples + 1)


def bootstrap_ci(
    separate: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, over users: `separate` is float, shape (cases,), at least one;
    `clusters` as in `paired_difference`."""
    rows, axis = (separate, None) if clusters is None else (np.column_stack(_sums(separate, clusters)), 0)
    values, counts = np.unique(rows, axis=axis, return_counts=True)
    if clusters is None and len(values) == 1:
        return float(values[0]), float(values[0])
    share = counts / len(rows)
    sums = [rng.multinomial(len(rows), share, size=part) @ values for part in _parts(resamples, len(values))]
    totals = np.concatenate(sums)
    means = totals / len(rows) if clusters is None else totals[:, 0] / totals[:, 1]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(
    values: np.ndarray, rows: np.ndarray, rng: np.random.Generator, resamples: int, clusters: np.ndarray | None
) -> tuple[float, float, float]:
    """Mean and `bootstrap_ci` of the cases in `rows`, bool, at least one; `values` and `clusters` are of all cases."""
    users = None if clusters is None else clusters[rows]
    return float(values[rows].mean()), *bootstrap_ci(values[rows], rng, resamples, users)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's step-down method (1979), in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [1.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, values[index] * (len(values) - place)))
        corrected[index] = highest
    return corrected


def seeds_p(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided exact permutation test over seeds: a model's mean a seed, every way to deal the seeds to two models;
    None where one has a single seed, or where there are more than `RELABELLINGS` ways. The smallest p it can give is
    2 / (number of ways): 0.1 for three seeds each."""
    n, values = len(a), np.array([*a, *b], dtype=np.float64)
    if min(n, len(b)) < 2 or comb(len(values), n) > RELABELLINGS:
        return None
    share = np.array(list(combinations(range(len(values)), n)))
    selected = values[share].sum(axis=1)
    separate = selected / n - (values.sum() - selected) / len(b)
    return float((np.abs(separate) >= abs(separate[0]) - 1e-12).mean())


def _parts(resamples: int, width: int) -> list[int]:
    """Resamples to draw at once, so that memory stays bounded."""
    size = max(1, min(resamples, CELLS // max(width, 1)))
    return [size] * (resamples // size) + ([resamples % size] if resamples % size else [])


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
    spread of per-user differences of two runs of this method with no seed in common. `least_seeds`: of the means of two
    methods that vary as this one does, one run each; `least_rows` with `model_seeds` independent runs each;
    `least_both` of such rows over seeds and users at once, an upper bound. All by `least_difference`."""

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
    """From a metric a case, float, shape (tokenizer seeds, model seeds, cases); `clusters` as in `paired_difference`.
    Raises `ValueError` for fewer than two model seeds or two users, and for values that are not finite."""
    if values.ndim != 3 or values.shape[1] < 2 or values.shape[2] < 2 or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape} have no components of variance")
    tokenizers, models, cases = values.shape
    means = values.mean(axis=2)
    factors = _two_way(means) if tokenizers > 1 else (_mean_square("model", means[0] - means[0].mean(), models - 1),)
    spread, users = spread_of_mean(values.mean(axis=(0, 1)), clusters)
    least_users = least_difference(_pair_spread(values, clusters), users)
    least_seeds = least_difference((2 * sum(one.variance for one in factors)) ** 0.5, 1)
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
    a, b = means.shape
    rows, columns = means.mean(axis=1), means.mean(axis=0)
    residuals = means - rows[:, None] - columns + means.mean()
    residual = _mean_square("residual", residuals, (a - 1) * (b - 1))
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


def _mean_square(source: str, residuals: np.ndarray, freedom: int) -> Component:
    """Sum of squares over degrees of freedom, with the exact interval by chi squared."""
    from scipy.stats import chi2

    squares = float(np.square(residuals).sum())
    tails = chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], freedom)
    return Component(source, squares / freedom, squares / tails[0], squares / tails[1], freedom)


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
