"""Consistency of the printed metrics of one published row.

With one relevant item a case, of rank r, recall@k is 1, ndcg@k 1 / log2(r + 1) and mrr@k 1 / r if r <= k. Averages are
linear, so that between two cut-offs a < b every rank in a + 1 ... b adds to the averages in a ratio between the ratios
of those two ranks: ndcg@b - ndcg@a is at least (recall@b - recall@a) / log2(b + 1) and at most (recall@b - recall@a) /
log2(a + 2), and likewise for mrr against either. A cut-off of 0, where every metric is 0, gives the bounds of a single
cut-off: recall@k / log2(k + 1) <= ndcg@k <= recall@k, ndcg@1 = recall@1. No metric decreases with the cut-off, which
gives bounds between cut-offs of one metric.

Each pair is tested separately, with every value within half a unit of its last printed digit. A row that fails is
inconsistent, possibly by a misprint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import combinations, product

GAINS: dict[str, Callable[[int], float]] = {  # contribution of a hit at rank r, the slowest decay first
    "recall": lambda rank: 1.0,
    "ndcg": lambda rank: 1 / math.log2(rank + 1),
    "mrr": lambda rank: 1 / rank,
}
INCONSISTENT = "inconsistent"  # never "false"
INCONSISTENT_NOTE = (
    f"{INCONSISTENT}: with one relevant item a case these printed numbers cannot all be right, as rounded as they are; "
    "it may be a misprint"
)
ZERO = ""  # the exact 0 of cut-off 0
SLACK = 1e-9  # tolerance for floating point


def inconsistencies(printed: Mapping[str, str]) -> list[str]:
    """The inconsistencies, one sentence for each pair of cut-offs; empty for a consistent row. `printed` maps a metric
    such as `ndcg@10` to its value as it is printed, a share."""
    families: dict[str, dict[int, str]] = {}
    for metric, text in printed.items():
        family, _, cut = metric.partition("@")
        families.setdefault(family, {0: ZERO})[int(cut)] = text
    results: list[tuple[int, int, str]] = []
    for slow, fast in combinations([name for name in GAINS if name in families], 2):
        cuts = sorted(families[slow].keys() & families[fast].keys())
        results += [(a, b, text) for a, b in combinations(cuts, 2) if (text := _ratio(slow, fast, a, b, families))]
        results += _across(slow, fast, families)
    for family, values in families.items():
        results += [(a, b, text) for a, b in combinations(sorted(values), 2) if (text := _falls(family, a, b, values))]
    first = {(a, b): text for a, b, text in reversed(results)}
    narrow = [pair for pair in first if not any(_inside(other, pair) for other in first)]
    return [first[pair] for pair in sorted(narrow)]


def _ratio(slow: str, fast: str, a: int, b: int, families: Mapping[str, Mapping[int, str]]) -> str:
    """Checks the rise of `fast` from cut-off `a` to `b` against the rise of `slow`; empty if it is possible."""
    (fewer, value), (low, high) = (_rise(families[name][a], families[name][b]) for name in (slow, fast))
    minimum, limit = (GAINS[fast](rank) / GAINS[slow](rank) for rank in (b, a + 1))
    floor, ceiling = max(fewer, 0.0) * minimum, max(value, 0.0) * limit
    if floor <= high + SLACK and low <= ceiling + SLACK:
        return ""
    digits = max(_digits(families[name][cut]) for name in (slow, fast) for cut in (a, b))
    rise = f"{fast}@{b} - {fast}@{a}" if a else f"{fast}@{b}"
    message = f"{rise} = {(low + high) / 2:.{digits}f}"
    allowed = f"at least {floor:.{digits}f}" if floor > high else f"at most {ceiling:.{digits}f}"
    return f"{message}, {slow} allows {allowed}"


def _across(slow: str, fast: str, families: Mapping[str, Mapping[int, str]]) -> list[tuple[int, int, str]]:
    """Checks `fast` at one cut-off against `slow` at another: values at the smaller cut-off are lower bounds, values at
    the larger one upper bounds."""
    results = []
    for a, b in product(families[slow], families[fast]):
        (fewer, value), (low, high) = _rise(ZERO, families[slow][a]), _rise(ZERO, families[fast][b])
        floor = fewer * GAINS[fast](a) / GAINS[slow](a) if 0 < a < b else 0.0
        if floor > high + SLACK or (0 < b < a and low > value + SLACK):
            results.append(
                (min(a, b), max(a, b), f"{fast}@{b} = {families[fast][b]} beside {slow}@{a} = {families[slow][a]}")
            )
    return results


def _falls(family: str, a: int, b: int, values: Mapping[int, str]) -> str:
    """Checks whether a metric is smaller at the larger cut-off; empty if it is not."""
    return f"{family}@{b} is below {family}@{a}" if _rise(values[a], values[b])[1] < -SLACK else ""


def _rise(first: str, second: str) -> tuple[float, float]:
    """The least and the largest difference of two rounded numbers."""
    room = _half(first) + _half(second)
    rise = Decimal(second or 0) - Decimal(first or 0)
    return float(rise - room), float(rise + room)


def _half(text: str) -> Decimal:
    """Half a unit of the last printed digit.

    >>> _half("0.0459"), _half(ZERO)
    (Decimal('0.00005'), Decimal('0'))
    """
    return Decimal(0) if text == ZERO else Decimal((0, (5,), -_digits(text) - 1))


def _digits(text: str) -> int:
    """Digits behind the point."""
    exponent = Decimal(text or 0).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _inside(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the cut-offs of `one` lie within those of `other`, and are not the same."""
    return one != other and other[0] <= one[0] and one[1] <= other[1]
