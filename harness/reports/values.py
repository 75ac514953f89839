"""Formatting of values, and the marks of rows with their notes: leaks, and unequal tuning effort."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.store.record import SUSPECTED, Record

DIGITS = 4  # digits of a formatted metric
LEAK = "‡"  # mark of a configuration that sees held-out rows
LEAKS = "leaks: this configuration sees held-out rows, so it is no clean result"
LESS = "§"  # mark of a model with fewer trials than another one of the table
T = TypeVar("T")
K = TypeVar("K")


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items of each key, both in the order of the items."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def comma_separated(text: str | None) -> tuple[str, ...]:
    """The names in an option's value, each once; empty for None."""
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def metric_text(mean: float | None, std: float | None = None) -> str:
    """A formatted metric: four digits, `±` for several seeds, a dash for a missing value."""
    if mean is None:
        return "-"
    return f"{mean:.{DIGITS}f}" if std is None else f"{mean:.{DIGITS}f} ± {std:.{DIGITS}f}"


def mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation over seeds; None for too few values."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def signed(value: float) -> str:
    """A difference, with its sign.

    >>> signed(0.01234), signed(-0.0), signed(-0.5)
    ('+0.0123', '0.0000', '-0.5000')
    """
    text = f"{value:+.{DIGITS}f}"
    return text[1:] if float(text) == 0 else text


def bounds(low: float, high: float) -> str:
    """An interval of differences."""
    return f"{signed(low)} to {signed(high)}"


def chance(p: float) -> str:
    """A p value: three digits, never 0.

    >>> chance(0.0421), chance(0.00002)
    ('0.042', '<0.001')
    """
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def marked(name: str, leaks: Collection[str]) -> str:
    """A row's name, with the mark of leaks if it has any."""
    return f"{name} {LEAK}" if leaks else name


def leak_notes(leaks: Iterable[str], head: str = LEAKS) -> list[str]:
    """Explains the leak marks: first leaks that models declare, then those that the lists suggest."""
    messages = list(dict.fromkeys(leaks))
    declared = "; ".join(sentence for sentence in messages if not sentence.startswith(SUSPECTED))
    suspected = [sentence for sentence in messages if sentence.startswith(SUSPECTED)]
    return [f"{LEAK} {text}" for text in [*([f"{head}: {declared}"] if declared else []), *suspected]]


@dataclass(frozen=True)
class Budget:
    """`trials`: configurations tried to select this one (1: defaults, 0: the model has no settings, None: not
    recorded). `seconds`: of the search."""

    trials: int | None = None
    seconds: float | None = None

    @property
    def counted(self) -> int:
        """The trials; a record without the number counts as one."""
        return 1 if self.trials is None else self.trials


UNKNOWN = Budget()


def spent(records: Iterable[Record]) -> Budget:
    """The largest effort of the runs."""
    budgets = [Budget(record.effort.trials, record.effort.seconds) for record in records if record.effort is not None]
    return max(budgets, key=lambda one: (one.trials or 0, one.seconds or 0.0), default=UNKNOWN)


def by_model(sides: Iterable[tuple[str, Budget]]) -> dict[str, Budget]:
    """The largest effort of a model's rows; models without settings are left out.

    >>> by_model([("a", Budget(1)), ("a", Budget(4, 9.0)), ("fixed", Budget(0)), ("b", Budget())])
    {'a': Budget(trials=4, seconds=9.0), 'b': Budget(trials=None, seconds=None)}
    """
    limit: dict[str, Budget] = {}
    for name, one in sides:
        if one.trials != 0 and one.counted >= limit.get(name, UNKNOWN).counted:
            limit[name] = one
    return limit


def under_tuned(models: Mapping[str, Budget]) -> set[str]:
    """The models that had fewer trials than another."""
    highest = max((one.counted for one in models.values()), default=1)
    return {name for name, one in models.items() if one.counted < highest}


def unequal(models: Mapping[str, Budget]) -> str:
    """The note below a table; empty if the effort is equal.

    >>> unequal({"a": Budget(4, 612.0), "b": Budget(1), "c": Budget()})
    "§ unequal effort: a had 4 trials (612 s), b 1, c none on record; part of a lead over § may be the search's"
    >>> unequal({"a": Budget(1), "c": Budget()})
    ''
    """
    if not under_tuned(models):
        return ""
    ordered = sorted(models.items(), key=lambda pair: (-pair[1].counted, pair[1].trials is None))
    (name, budget), *rest = ordered
    message = ", ".join([f"{name} had {_text(budget, ' trials')}", *(f"{name} {_text(one)}" for name, one in rest)])
    return f"{LESS} unequal effort: {message}; part of a lead over {LESS} may be the search's"


def _text(one: Budget, unit: str = "") -> str:
    if one.trials is None:
        return "none on record"
    return f"{one.trials}{unit}" + ("" if one.seconds is None else f" ({one.seconds:.0f} s)")
