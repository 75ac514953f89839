"""Paired statistics of two models on the same users: difference, confidence interval, significance.

Users are the sampling unit. With several seeds, a user's value is the mean over them, so that the test is about the
trained models at hand; `seeds_p` tests over seeds. With one relevant item there are few distinct values, so that users
of equal difference are sampled together: a sum of random signs is binomial and a resample multinomial, the same
distribution at lower cost.
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
    """`a` minus `b` over `users`, in the metric's own unit. `low` and `high` bound the mean difference (bootstrap over
    users, percentiles), `p` is the two-sided randomisation test's, `effect` Cohen's d of paired differences (mean
    over standard deviation; None where they are all equal). `wins` counts users on which `a` is better; `least` is
    the mean difference that so many users with this spread tell apart (`least_difference`)."""

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


def paired_difference(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> Difference:
    """Compares per-user values of two models: float, shape (seeds, users) or (users,); the users are the same and in
    the same order. Raises `ValueError` where the shapes do not fit, where there is no user, or for a NaN."""
    one, two = np.atleast_2d(a), np.atleast_2d(b)
    if one.shape[1:] != two.shape[1:] or one.ndim != 2 or not one.size:
        raise ValueError(f"values of shapes {one.shape} and {two.shape} are not of the same users")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise ValueError("a value is not finite")
    separate = np.round(one.mean(axis=0) - two.mean(axis=0), DECIMALS)
    low, high = bootstrap_ci(separate, rng, resamples=resamples)
    spread = float(separate.std(ddof=1)) if len(separate) > 1 else 0.0
    wins, losses = int((separate > 0).sum()), int((separate < 0).sum())
    return Difference(
        users=len(separate),
        mean_a=float(one.mean()),
        mean_b=float(two.mean()),
        difference=float(separate.mean()),
        low=low,
        high=high,
        p=permutation_test(separate, rng, resamples),
        effect=float(separate.mean()) / spread if spread > 0 else None,
        wins=wins,
        losses=losses,
        ties=len(separate) - wins - losses,
        least=least_difference(spread, len(separate)),
    )


def least_difference(spread: float, users: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true mean difference that a paired two-sided test at `alpha` finds with this `power`, where
    differences have the standard deviation `spread`: (z of 1 - alpha / 2 + z of power) spread / sqrt(users) (Cohen
    1988). For one test that is not corrected, over users: what other seeds would change is not in it.

    >>> round(least_difference(0.25, 10_000), 4)
    0.007
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * spread / users**0.5


def permutation_test(separate: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the paired randomisation test: how often random signs give a mean at least as far from zero.

    Exact up to `EXACT` users that differ; beyond, (as far + 1) / (resamples + 1), which is never zero and keeps its
    level (Phipson & Smyth 2010). `separate` is float, shape (users,).
    """
    changed = separate[separate != 0]
    if not len(changed):
        return 1.0
    sizes, counts = np.unique(np.abs(changed), return_counts=True)
    far = abs(changed.sum()) * (1 - 1e-12)
    if len(changed) <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed))) & 1)
        return float((np.abs(signs @ changed) >= far).mean())
    progress = 0
    for part in _parts(resamples, len(sizes)):
        positive = rng.binomial(counts, 0.5, size=(part, len(sizes)))
        progress += int((np.abs((2 * positive - counts) @ sizes) >= far).sum())
    return (progress + 1) / (resamples + 1)


def bootstrap_ci(
    separate: np.ndarray, rng: np.random.Generator, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, over users: `separate` is float, shape (users,), at least one."""
    values, counts = np.unique(separate, return_counts=True)
    if len(values) == 1:
        return float(values[0]), float(values[0])
    share = counts / len(separate)
    sums = [rng.multinomial(len(separate), share, size=part) @ values for part in _parts(resamples, len(values))]
    low, high = np.quantile(np.concatenate(sums) / len(separate), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
    """Two-sided exact permutation test over seeds: a model's mean a seed, every way to deal the seeds to two models.

    None where one has a single seed, or where there are more than `RELABELLINGS` ways. The smallest p it can give is
    2 / (number of ways): 0.1 for three seeds each, 0.33 for two, so it warns more than it proves.
    """
    n, both = len(a), np.array([*a, *b], dtype=np.float64)
    if min(n, len(b)) < 2 or comb(len(both), n) > RELABELLINGS:
        return None
    share = np.array(list(combinations(range(len(both)), n)))
    selected = both[share].sum(axis=1)
    separate = selected / n - (both.sum() - selected) / len(b)
    return float((np.abs(separate) >= abs(separate[0]) - 1e-12).mean())


def _parts(resamples: int, width: int) -> list[int]:
    """Resamples to draw at once, so that memory stays bounded."""
    size = max(1, min(resamples, CELLS // max(width, 1)))
    return [size] * (resamples // size) + ([resamples % size] if resamples % size else [])
