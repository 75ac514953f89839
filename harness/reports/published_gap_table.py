"""How runs beside published rows look: the numbers, and in what the protocols differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby

from harness.reports.comparison_tables import signed
from harness.reports.formats import LEAK, QUOTED, QUOTED_NOTE, leak_notes, metric_text
from harness.reports.lint import INCONSISTENT, INCONSISTENT_NOTE
from harness.reports.published import Quoted
from harness.reports.published_gap import Gap, hand_text, suspects
from harness.reports.selection import Chosen
from harness.reports.tables import Column, Line, Sheet

SHORTER = "what is not known of one of the two is unknown, never the same"


def sheets(sides: Sequence[Chosen], found: Sequence[Gap], metrics: Sequence[str]) -> list[Sheet]:
    """Two sheets a side."""
    made = []
    for side, (_, own) in zip(sides, groupby(found, key=lambda gap: gap.label), strict=True):
        gaps = list(own)
        made += [_numbers(side, gaps, metrics), _protocols(gaps)]
    return made


def _numbers(side: Chosen, gaps: Sequence[Gap], metrics: Sequence[str]) -> Sheet:
    records = [run.record for run in side.runs]
    leaks = list(dict.fromkeys(text for record in records for text in record.leaks))
    mine = []
    for metric in metrics:
        values = [record.metrics.test[metric] for record in records]
        mine += [metric_text(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None), ""]
    told = f"measured here, {len(records)} {'seed' if len(records) == 1 else 'seeds'}"
    lines = [Line((f"{side.label} {LEAK}" if leaks else side.label, *mine, told))]
    for gap in gaps:
        cells = []
        for metric in metrics:
            both = gap.numbers.get(metric)
            cells += ["-", ""] if both is None else [metric_text(both[1]), signed(both[0] - both[1])]
        lines.append(Line((method_text(gap.quoted), *cells, hand_text(gap.quoted)), apart=True))
    first = side.first
    title = (
        f"{side.label} on {first.dataset.name} ({first.dataset.users:,} users, {first.dataset.items:,} items) "
        "against published rows"
    )
    heads = [Column("method", left=True, wraps=True)]
    for metric in metrics:
        heads += [Column(metric), Column("ours - theirs", main=metric == metrics[0])]
    doubts = [INCONSISTENT_NOTE] if any(gap.quoted.inconsistent for gap in gaps) else []
    notes = [QUOTED_NOTE, *doubts, *leak_notes(leaks, "leaks: sees held-out rows")]
    return Sheet(title, (*heads, Column("where", left=True, wraps=True, drop=0)), tuple(lines), tuple(notes))


def _protocols(gaps: Sequence[Gap]) -> Sheet:
    lines = [
        Line(
            (
                method_text(gap.quoted),
                gap.quoted.source,
                suspects(gap, "differs"),
                suspects(gap, "unknown"),
                suspects(gap, "same"),
                _note(gap.quoted),
            ),
            apart=True,
        )
        for gap in gaps
    ]
    heads = (
        Column("method", left=True, wraps=True),
        Column("source", left=True, wraps=True, drop=0),
        Column("differs (ours / theirs)", left=True, wraps=True, main=True),
        Column("unknown", left=True, wraps=True, drop=2),
        Column("same", left=True, wraps=True, drop=1),
        Column("note", left=True, wraps=True, drop=3),
    )
    return Sheet("Protocol: what may explain a difference", heads, tuple(lines), (SHORTER,))


def method_text(quoted: Quoted) -> str:
    """The method with the marks of a published row."""
    return " ".join([quoted.method, QUOTED, *([INCONSISTENT] if quoted.inconsistent else [])])


def _note(quoted: Quoted) -> str:
    doubt = f"{INCONSISTENT}: {quoted.inconsistent}" if quoted.inconsistent else ""
    return "; ".join(filter(None, [doubt, quoted.note]))
