"""Further columns of a board: language comprehension and tuning effort.

`comprehension[stage][figure]` of a record is a number or a mapping of numbers; stages are `before` (the base model),
`aligned` (after stage 1), `annealed` and `reinforced` (after GRPO). A record may lack any part. Unequal tuning effort
is marked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.store.record import Record

STAGES = ("reinforced", "annealed", "aligned", "before")  # a run's last stage is shown
BEFORE = "before"
LESS = "§"  # mark of a model with fewer trials than another one of the table


def flattened(record: Record) -> dict[str, float]:
    """Maps `stage.figure[.part]` to its number; values that are no finite numbers are left out."""
    entries: dict[str, float] = {}
    _numbers("", record.comprehension or {}, entries)
    return entries


def over_seeds(records: Sequence[Record]) -> dict[str, list[float]]:
    """Each figure's values, one for every record that has it."""
    entries: dict[str, list[float]] = {}
    for record in records:
        for name, value in flattened(record).items():
            entries.setdefault(name, []).append(value)
    return entries


def comprehension_texts(values: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """The formatted columns: figures of the last stage that has them, means over seeds; perplexities with the value of
    the base model. Empty if nothing was measured."""
    return {
        "title→code": _last(values, "title_to_code.exact"),
        "title→code F1": _last(values, "title_to_code.token_f1"),
        "code→title": _last(values, "code_to_title.exact"),
        "code→title F1": _last(values, "code_to_title.token_f1"),
        "item text ppl": _change(values, "item_text_perplexity"),
        "plain text ppl": _change(values, "plain_text_perplexity"),
        "plain text drift": _last(values, "plain_text_drift"),
    }


def _last(values: Mapping[str, Sequence[float]], figure: str, stages: Sequence[str] = STAGES) -> str:
    for stage in stages:
        if results := values.get(f"{stage}.{figure}"):
            return _short(math.fsum(results) / len(results))
    return ""


def _change(values: Mapping[str, Sequence[float]], figure: str) -> str:
    first, last = _last(values, figure, (BEFORE,)), _last(values, figure, STAGES[:-1])
    return f"{first} → {last}" if first and last else first or last


def _short(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> _short(0.04567), _short(23.456), _short(123456.7)
    ('0.0457', '23.5', '123,457')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _numbers(prefix: str, part: Any, entries: dict[str, float]) -> None:
    """Adds the numbers below `part`; called for thousands of records, so it must be fast."""
    if isinstance(part, dict):
        for key, value in part.items():
            _numbers(f"{prefix}.{key}" if prefix else str(key), value, entries)
    elif isinstance(part, (int, float)) and not isinstance(part, bool) and math.isfinite(part):
        entries[prefix] = float(part)


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
