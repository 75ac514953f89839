"""Paired comparison of stored runs on the same users: differences, intervals, significance, breakdowns, their tables.

All pairs and metrics of one call are one family, corrected together. Breakdowns show where a difference comes from;
they are exploratory and have intervals but no test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from harness.core.seeding import generator
from harness.evaluation.significance import (
    ALPHA,
    LEVEL,
    RESAMPLES,
    Difference,
    holm,
    mean_interval,
    paired_difference,
    seeds_p,
)
from harness.protocol.protocol import unit_of
from harness.protocol.split import Split
from harness.reports.per_user import Measured, measured
from harness.reports.selection import RunGroup, check_comparable
from harness.reports.tables import ReportTable, text_table
from harness.reports.values import (
    bounds,
    by_model,
    chance,
    leak_notes,
    marked,
    mean_and_std,
    metric_text,
    signed,
    spent,
    unequal,
)

METRICS_SHOWN = ("ndcg@10", "recall@10")
SEED = 1  # of the resampling
STAR = "*"  # mark of a significant difference
PARTS = 4  # groups of users in a breakdown, of about equal size

Values = Mapping[str, np.ndarray]  # metric → (seeds, cases)


@dataclass(frozen=True)
class Pair:
    """`a` against `b` in one metric. `p_corrected` is Holm's over the family; `p_seeds` tests the means of single seeds
    (None where a side has one)."""

    a: str
    b: str
    metric: str
    found: Difference
    p_corrected: float
    p_seeds: float | None

    @property
    def significant(self) -> bool:
        return self.p_corrected <= ALPHA

    def document(self) -> dict[str, Any]:
        """As plain values, unrounded."""
        difference = asdict(self.found)
        if self.found.cases == self.found.users:
            del difference["cases"]
        return {
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            **difference,
            "p_corrected": self.p_corrected,
            "significant": self.significant,
            "p_seeds": self.p_seeds,
        }


@dataclass(frozen=True)
class Part:
    """Users with `low` to `high` items in the history, or with a target of `low` to `high` training interactions."""

    by: str
    low: int
    high: int
    users: int
    a: str
    b: str
    metric: str
    mean_a: float
    mean_b: float
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Result of `harness compare`."""

    sides: tuple[RunGroup, ...]
    metrics: tuple[str, ...]
    pairs: tuple[Pair, ...]
    parts: tuple[Part, ...]

    @property
    def effort(self) -> str:
        """A note on unequal tuning effort; empty if it is equal."""
        return unequal(by_model((side.first.model, spent(run.record for run in side.runs)) for side in self.sides))

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        about = about_sides(self.sides, self.metrics)
        runs = about.pop("runs")
        return {
            **about,
            "users": self.pairs[0].found.users,
            "family": len(self.pairs),
            "alpha": ALPHA,
            "level": LEVEL,
            "resamples": RESAMPLES,
            "effort": self.effort,
            "runs": runs,
            "comparisons": [pair.document() for pair in self.pairs],
            "breakdown": [asdict(part) for part in self.parts],
        }


def compare(sides: Sequence[RunGroup], metrics: Sequence[str], location: str | None = None) -> Comparison:
    """All pairs of `sides`, each side against the later ones. `location`: the data set's name or folder, if the runs'
    configuration does not have it. Raises `InputError` for runs that are not comparable."""
    check_comparable(sides)
    base = measured([run for side in sides for run in side.runs], location)
    values = [base.values(side.runs) for side in sides]
    both = list(combinations(range(len(sides)), 2))
    pairs = tested(sides, values, [(*two, metric) for two in both for metric in metrics], base)
    parts = [
        part
        for one, two in both
        for part in _breakdown(base.split, (sides[one], sides[two]), (values[one], values[two]), metrics[0])
    ]
    return Comparison(tuple(sides), tuple(metrics), pairs, tuple(parts))


def tested(
    sides: Sequence[RunGroup],
    values: Sequence[Values] | Mapping[int, Values],
    tests: Iterable[tuple[int, int, str]],
    base: Measured,
) -> tuple[Pair, ...]:
    """One `Pair` for each test (the positions of two sides, and a metric), corrected together."""
    pairs = []
    for one, two, metric in tests:
        a, b = values[one][metric], values[two][metric]
        difference = paired_difference(a, b, generator(SEED, "compare", metric), clusters=base.clusters)
        over_seeds = seeds_p(a.mean(axis=1).tolist(), b.mean(axis=1).tolist())
        pairs.append(Pair(sides[one].label, sides[two].label, metric, difference, 1.0, over_seeds))
    corrected = holm([pair.found.p for pair in pairs])
    return tuple(replace(pair, p_corrected=p) for pair, p in zip(pairs, corrected, strict=True))


def _breakdown(split: Split, two: tuple[RunGroup, RunGroup], values: tuple[Values, Values], metric: str) -> list[Part]:
    """The difference of two sides by groups: length of the history, and training count of the target."""
    a, b = (side[metric].mean(axis=0) for side in values)
    results = []
    for by, sizes in ways(split).items():
        for low, high in groups(sizes):
            rows = (sizes >= low) & (sizes <= high)
            rng = generator(SEED, "breakdown", by, low)
            mean, lowest, highest = mean_interval(a - b, rows, rng, RESAMPLES, split.test.requests.clusters)
            ends = (by, low, high, int(rows.sum()), two[0].label, two[1].label, metric)
            results.append(Part(*ends, float(a[rows].mean()), float(b[rows].mean()), mean, (lowest, highest)))
    return results


def ways(split: Split) -> dict[str, np.ndarray]:
    """Values by which test cases are grouped: int64 (cases,), in the order of `split.test.requests`."""
    return {
        "history length": split.cut.test.places,
        "target's training count": split.train.counts()[split.test.targets.items],
    }


def groups(sizes: np.ndarray) -> list[tuple[int, int]]:
    """`PARTS` ranges of whole numbers that contain about equally many of `sizes`; zero is a group of its own.

    >>> groups(np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8]))
    [(0, 0), (1, 2), (3, 4), (5, 6), (7, 8)]
    """
    ordered = np.sort(sizes[sizes > 0])
    counts = [len(ordered) * n // PARTS for n in range(1, PARTS + 1)]
    ends = list(dict.fromkeys(int(ordered[count - 1]) for count in counts if count))
    begins = [*ordered[:1].tolist(), *(end + 1 for end in ends[:-1])]
    return [*([(0, 0)] if len(ordered) < len(sizes) else []), *zip(begins, ends, strict=True)]


def range_text(low: int, high: int) -> str:
    """A range of whole numbers."""
    return f"{low}" if low == high else f"{low} to {high}"


def about_sides(sides: Sequence[RunGroup], metrics: Sequence[str]) -> dict[str, Any]:
    """The entries of a JSON document about the runs."""
    first = sides[0].first
    return {
        "dataset": first.dataset.model_dump(),
        "protocol": first.protocol.model_dump(mode="json"),
        "runs": [
            {
                "label": side.label,
                "model": side.first.model,
                "seeds": list(side.seeds),
                "run_ids": list(side.run_ids),
                "metrics": {name: side.values(name) for name in metrics},
                "leaks": list(side.leaks),
                "trials": spent(run.record for run in side.runs).trials,
            }
            for side in sides
        ],
    }


def sheets(comparison: Comparison) -> list[ReportTable]:
    """Tables of the compared runs, their differences, and the differences by groups."""
    return [_sides(comparison), _pairs(comparison), *([_parts(comparison)] if comparison.parts else [])]


def difference_text(pair: Pair) -> str:
    """A difference, starred where it is significant."""
    return signed(pair.found.difference) + (STAR if pair.significant else "")


def family_note(pairs: Sequence[Pair]) -> str:
    """Explains the statistics of a table."""
    number = f"{len(pairs)} comparisons" if len(pairs) != 1 else "1 comparison"
    users = pairs[0].found.users
    return (
        f"Paired over {users:,} users, each the mean over a row's seeds; {LEVEL:.0%} interval by bootstrap over users; "
        f"p by the randomisation test, corrected by Holm for {number}; {STAR} corrected p ≤ {ALPHA}. The spread over "
        "seeds (±) is not in them."
    )


def _sides(comparison: Comparison) -> ReportTable:
    rows = [
        {
            "run": marked(side.label, side.leaks),
            "n": str(len(side.runs)),
            **{metric: metric_text(*mean_and_std(side.values(metric))) for metric in comparison.metrics},
            "run ids": ", ".join(side.run_ids),
        }
        for side in comparison.sides
    ]
    first = comparison.sides[0].first
    title = f"{first.dataset.name} · {first.protocol.name}, history {first.protocol.max_history}"
    notes = leak_notes((text for side in comparison.sides for text in side.leaks), "leaks: sees held-out rows")
    if single := [side.label for side in comparison.sides if len(side.runs) == 1]:
        notes.append(f"A single seed of {', '.join(single)}: no spread over seeds, and no test over them (p seeds).")
    notes += filter(None, [comparison.effort])
    return text_table(title, rows, wraps=("run", "run ids"), drop=("run ids",), notes=notes)


def _pairs(comparison: Comparison) -> ReportTable:
    rows = [
        {
            "a": pair.a,
            "b": pair.b,
            "metric": pair.metric,
            "a - b": difference_text(pair),
            "interval": bounds(pair.found.low, pair.found.high),
            "p": chance(pair.found.p),
            "p Holm": chance(pair.p_corrected),
            "p seeds": "" if pair.p_seeds is None else chance(pair.p_seeds),
            "d": "-" if pair.found.effect is None else f"{pair.found.effect:+.2f}",
            "wins": f"{pair.found.wins:,}",
            "losses": f"{pair.found.losses:,}",
            "ties": f"{pair.found.ties:,}",
        }
        for pair in comparison.pairs
    ]
    return text_table(
        "Differences",
        rows,
        left=("metric",),
        wraps=("a", "b"),
        main="a - b",
        drop=("p seeds", "wins", "losses", "ties", "d", "p"),
        notes=[family_note(comparison.pairs)],
    )


def _parts(comparison: Comparison) -> ReportTable:
    unit = unit_of(comparison.sides[0].first.protocol.name)
    rows = [
        {
            "a": part.a,
            "b": part.b,
            f"{unit} by": part.by,
            "from to": range_text(part.low, part.high),
            unit: f"{part.users:,}",
            "mean a": metric_text(part.mean_a),
            "mean b": metric_text(part.mean_b),
            "a - b": signed(part.difference),
            "interval": bounds(*part.interval),
        }
        for part in comparison.parts
    ]
    title = f"Where: {comparison.parts[0].metric} by groups of {unit} (not tested)"
    return text_table(title, rows, left=(f"{unit} by",), wraps=("a", "b"), main="a - b", drop=("mean a", "mean b"))
