"""The tuning effort of the rows of a table, and warnings for unequal effort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.store.record import Record

LESS = "§"  # mark of a model with fewer trials than another one of the table


@dataclass(frozen=True)
class Budget:
    """`trials`: configurations tried to select this one (1: defaults, 0: the model has no settings, None: not
    recorded). `seconds`: of the search."""

    trials: int | None = None
    seconds: float | None = None


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
        if one.trials != 0 and _weight(one) >= _weight(limit.get(name, UNKNOWN)):
            limit[name] = one
    return limit


def under_tuned(models: Mapping[str, Budget]) -> set[str]:
    """The models that had fewer trials than another. A record without the number counts as one trial."""
    highest = max((_weight(one) for one in models.values()), default=1)
    return {name for name, one in models.items() if _weight(one) < highest}


def unequal(models: Mapping[str, Budget]) -> str:
    """The note below a table; empty if the effort is equal.

    >>> unequal({"a": Budget(4, 612.0), "b": Budget(1), "c": Budget()})
    "§ unequal effort: a had 4 trials (612 s), b 1, c none on record; part of a lead over § may be the search's"
    >>> unequal({"a": Budget(1), "c": Budget()})
    ''
    """
    if not under_tuned(models):
        return ""
    ordered = sorted(models.items(), key=lambda pair: (-_weight(pair[1]), pair[1].trials is None))
    (name, budget), *rest = ordered
    message = ", ".join([f"{name} had {_text(budget, ' trials')}", *(f"{name} {_text(one)}" for name, one in rest)])
    return f"{LESS} unequal effort: {message}; part of a lead over {LESS} may be the search's"


def _weight(one: Budget) -> int:
    return 1 if one.trials is None else one.trials


def _text(one: Budget, unit: str = "") -> str:
    if one.trials is None:
        return "none on record"
    return f"{one.trials}{unit}" + ("" if one.seconds is None else f" ({one.seconds:.0f} s)")
