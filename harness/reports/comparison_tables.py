"""The tables of a comparison, and the formatting of differences."""

from __future__ import annotations

import statistics

from harness.evaluation.significance import ALPHA, LEVEL
from harness.protocol.protocol import unit_of
from harness.reports.comparison import Comparison, Pair
from harness.reports.formats import LEAK, leak_notes, metric_text
from harness.reports.tables import DIGITS, Column, ReportTable, TableRow

STAR = "*"


def sheets(comparison: Comparison) -> list[ReportTable]:
    """Tables of the compared runs, their differences, and the differences by groups."""
    return [_sides(comparison), _pairs(comparison), *([_parts(comparison)] if comparison.parts else [])]


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


def difference_text(pair: Pair) -> str:
    """A difference, starred where it is significant."""
    return signed(pair.found.difference) + (STAR if pair.significant else "")


def family_note(count: int, users: int) -> str:
    """Explains the statistics of a table."""
    number = f"{count} comparisons" if count != 1 else "1 comparison"
    return (
        f"Paired over {users:,} users, each the mean over a row's seeds; {LEVEL:.0%} interval by bootstrap over users; "
        f"p by the randomisation test, corrected by Holm for {number}; {STAR} corrected p ≤ {ALPHA}. The spread over "
        "seeds (±) is not in them."
    )


def _sides(comparison: Comparison) -> ReportTable:
    lines = []
    for side in comparison.sides:
        records = [run.record for run in side.runs]
        cells = []
        for metric in comparison.metrics:
            values = [record.metrics.test[metric] for record in records]
            cells.append(metric_text(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None))
        label = f"{side.label} {LEAK}" if any(record.leaks for record in records) else side.label
        ids = ", ".join(record.run_id for record in records)
        lines.append(TableRow((label, str(len(records)), *cells, ids)))
    first = comparison.sides[0].first
    title = f"{first.dataset.name} · {first.protocol.name}, history {first.protocol.max_history}"
    heads = (
        Column("run", left=True, wraps=True),
        Column("n"),
        *map(Column, comparison.metrics),
        Column("run ids", left=True, wraps=True, drop=0),
    )
    leaks = (text for side in comparison.sides for run in side.runs for text in run.record.leaks)
    notes = leak_notes(leaks, "leaks: sees held-out rows")
    if single := [side.label for side in comparison.sides if len(side.runs) == 1]:
        notes.append(f"A single seed of {', '.join(single)}: no spread over seeds, and no test over them (p seeds).")
    return ReportTable(title, heads, tuple(lines), (*notes, *filter(None, [comparison.effort])))


def _pairs(comparison: Comparison) -> ReportTable:
    lines = [
        TableRow(
            (
                pair.a,
                pair.b,
                pair.metric,
                difference_text(pair),
                bounds(pair.found.low, pair.found.high),
                chance(pair.found.p),
                chance(pair.p_corrected),
                "" if pair.p_seeds is None else chance(pair.p_seeds),
                "-" if pair.found.effect is None else f"{pair.found.effect:+.2f}",
                f"{pair.found.wins:,}",
                f"{pair.found.losses:,}",
                f"{pair.found.ties:,}",
            )
        )
        for pair in comparison.pairs
    ]
    heads = (
        Column("a", left=True, wraps=True),
        Column("b", left=True, wraps=True),
        Column("metric", left=True),
        Column("a - b", main=True),
        Column("interval"),
        Column("p", drop=3),
        Column("p Holm"),
        Column("p seeds", drop=0),
        Column("d", drop=2),
        Column("wins", drop=1),
        Column("losses", drop=1),
        Column("ties", drop=1),
    )
    note = family_note(len(comparison.pairs), comparison.users)
    return ReportTable("Differences", heads, tuple(lines), (note,))


def _parts(comparison: Comparison) -> ReportTable:
    parts, unit = comparison.parts, unit_of(comparison.sides[0].first.protocol.name)
    lines = [
        TableRow(
            (
                part.a,
                part.b,
                part.by,
                f"{part.low}" if part.low == part.high else f"{part.low} to {part.high}",
                f"{part.users:,}",
                metric_text(part.mean_a),
                metric_text(part.mean_b),
                signed(part.difference),
                bounds(*part.interval),
            )
        )
        for part in parts
    ]
    heads = (
        Column("a", left=True, wraps=True),
        Column("b", left=True, wraps=True),
        Column(f"{unit} by", left=True),
        Column("from to"),
        Column(unit),
        Column("mean a", drop=0),
        Column("mean b", drop=0),
        Column("a - b", main=True),
        Column("interval"),
    )
    return ReportTable(f"Where: {parts[0].metric} by groups of {unit} (not tested)", heads, tuple(lines))
