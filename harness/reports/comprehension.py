"""Columns of language comprehension from a record's `comprehension`.

`comprehension[stage][figure]` is a number or a mapping of numbers; stages are `before` (the base model), `aligned`
(after stage 1) and `annealed`. A record may lack any part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.store.record import Record

STAGES = ("annealed", "aligned", "before")  # the last stage that a run reached counts
BEFORE = "before"


def flattened(record: Record) -> dict[str, float]:
    """`stage.figure[.part]` to its number; whatever is no finite number is left out."""
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
    """The columns as they are shown: figures of the last stage that has them, means over seeds; perplexities with what
    they were before. Empty where nothing was measured."""
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
    """Three digits that count; no exponent for what a table holds.

    >>> _short(0.04567), _short(23.456), _short(123456.7)
    ('0.0457', '23.5', '123,457')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _numbers(prefix: str, part: Any, entries: dict[str, float]) -> None:
    """Adds what is below `part`; thousands of records are read for one leaderboard."""
    if isinstance(part, dict):
        for key, value in part.items():
            _numbers(f"{prefix}.{key}" if prefix else str(key), value, entries)
    elif isinstance(part, (int, float)) and not isinstance(part, bool) and math.isfinite(part):
        entries[prefix] = float(part)
