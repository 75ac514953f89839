"""Columns of language comprehension from a record's `comprehension`.

`comprehension[stage][figure]` is a number or a mapping of numbers; stages are `before` (the base model), `aligned`
(after stage 1) and `annealed`. A record may lack any part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.store.record import Record

STAGES = ("annealed", "aligned", "before")  # a run's last stage is shown
BEFORE = "before"


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


def texts(values: Mapping[str, Sequence[float]]) -> dict[str, str]:
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
