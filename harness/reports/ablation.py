"""The table of an ablation: each row over its seeds, and its difference to the base, paired by user; and the table of
`harness ablate --factor`: components of variance, and the least detectable differences.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.errors import InputError
from harness.evaluation.significance import ALPHA, LEVEL, POWER, Component, Components
from harness.reports.comparison import Comparison, Pair, against
from harness.reports.comparison_tables import bounds, chance, difference_text, family_note
from harness.reports.formats import LEAK, csv_text, metric_text
from harness.reports.per_user import Measured
from harness.reports.selection import RunGroup
from harness.reports.tables import DIGITS, Column, ReportTable, TableRow
from harness.store.run_store import StoredRun

WORDS = {
    "tokenizer": "seed of the tokenizer",
    "model": "seed of the model",
    "residual": "residual (interaction of both)",
    "users": "draw of the users",
}
PLACES = DIGITS + 1  # more digits than for means, since deviations are smaller


@dataclass(frozen=True)
class Variant:
    """One row: its complete runs, how many were planned, and why others failed."""

    name: str
    changes: str
    runs: tuple[StoredRun, ...]
    planned: int
    failures: tuple[str, ...] = ()

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(run.record.run_id for run in self.runs)

    @property
    def leaks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for run in self.runs for text in run.record.leaks))

    def values(self, metric: str) -> list[float]:
        """The metric of each seed."""
        return [run.record.metrics.test[metric] for run in self.runs]

    def seconds(self) -> float | None:
        """Mean seconds of training."""
        values = [run.record.cost.train_seconds for run in self.runs]
        results = [seconds for seconds in values if seconds is not None]
        return statistics.fmean(results) if results else None


@dataclass(frozen=True)
class AblationTable:
    """`variants[0]` is the base; `metrics[0]` is the one that differences are tested in."""

    title: str
    variants: tuple[Variant, ...]
    metrics: tuple[str, ...]
    found: Comparison | None

    def pair(self, variant: Variant) -> Pair | None:
        """A row against the base; None for the base, for a row without runs, and for a row with the base's runs."""
        pairs = self.found.pairs if self.found else ()
        return next((pair for pair in pairs if pair.a == variant.name), None)


def ablation_table(title: str, variants: Sequence[Variant], metrics: Sequence[str], base: Measured) -> AblationTable:
    """Compares every row with the base, as one family of tests. Raises `InputError` if no run is complete."""
    if not any(variant.runs for variant in variants):
        reasons = [reason for variant in variants for reason in variant.failures]
        raise InputError(
            f"no run of this grid could be made: {reasons[0] if reasons else 'none was asked for'}", code="no-runs"
        )
    first = variants[0]
    rest = [v for v in variants[1:] if v.runs and set(v.run_ids) != set(first.run_ids)]
    result = None
    if first.runs and rest:
        sides = [RunGroup(variant.name, variant.runs) for variant in (first, *rest)]
        result = against(sides, (metrics[0],), base)
    return AblationTable(title, tuple(variants), tuple(metrics), result)


def sheet(table: AblationTable) -> ReportTable:
    """The table, ready to print."""
    main, *rest = table.metrics
    lines = [_line(table, variant) for variant in table.variants]
    heads = (
        Column("variant", left=True),
        Column("n"),
        Column(main, main=True),
        Column(f"{main} - base"),
        Column("interval", drop=4),
        Column("p Holm", drop=3),
        *(Column(name, drop=2) for name in rest),
        Column("train s", drop=1),
        Column("note", left=True, wraps=True, drop=0),
    )
    notes = [family_note(len(table.found.pairs), table.found.users)] if table.found else []
    if leaks := dict.fromkeys(text for variant in table.variants for text in variant.leaks):
        notes.append(f"{LEAK} leaks: this configuration sees held-out rows: {'; '.join(leaks)}")
    return ReportTable(table.title, heads, tuple(lines), tuple(notes))


def table_csv(table: AblationTable) -> str:
    """One line a row, unrounded."""
    rows = [{key: _flat(value) for key, value in row.items()} for row in document(table)["rows"]]
    return csv_text(rows)


def document(table: AblationTable) -> dict[str, Any]:
    """The JSON document, unrounded. `difference` and what follows is against the base, in `metric`."""
    rows = []
    for variant in table.variants:
        pair = table.pair(variant)
        means: dict[str, Any] = {}
        for name in table.metrics:
            values = variant.values(name)
            means[name] = statistics.fmean(values) if values else None
            means[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
        rows.append(
            {
                "name": variant.name,
                "changes": variant.changes,
                "n": len(variant.runs),
                "seeds": [run.record.seed for run in variant.runs],
                **means,
                **_found(pair),
                "train_seconds": variant.seconds(),
                "leaks": list(variant.leaks),
                "failures": list(variant.failures),
                "run_ids": list(variant.run_ids),
            }
        )
    users = table.found.users if table.found else None
    return {"title": table.title, "metric": table.metrics[0], "users": users, "rows": rows}


def _found(pair: Pair | None) -> dict[str, Any]:
    if pair is None:
        names = (
            "difference",
            "low",
            "high",
            "p",
            "p_corrected",
            "significant",
            "p_seeds",
            "effect",
            "wins",
            "losses",
            "ties",
        )
        return dict.fromkeys(names)
    merged = pair.document()
    return {name: merged[name] for name in _found(None)}


def _line(table: AblationTable, variant: Variant) -> TableRow:
    pair = table.pair(variant)
    tested = (
        ("", "", "")
        if pair is None
        else (
            difference_text(pair),
            bounds(pair.found.low, pair.found.high),
            chance(pair.p_corrected),
        )
    )
    means = [_mean(variant.values(name)) for name in table.metrics]
    seconds = variant.seconds()
    text = f"{variant.name} {LEAK}" if variant.leaks else variant.name
    count = (
        str(len(variant.runs)) if len(variant.runs) == variant.planned else f"{len(variant.runs)} of {variant.planned}"
    )
    cost = "" if seconds is None else f"{seconds:,.1f}"
    return TableRow((text, count, means[0], *tested, *means[1:], cost, _note(table, variant)), apart=not variant.runs)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return metric_text(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _note(table: AblationTable, variant: Variant) -> str:
    base = table.variants[0]
    same = variant is not base and variant.runs and set(variant.run_ids) == set(base.run_ids)
    parts = [f"the same runs as {base.name}" if same else variant.changes]
    parts += [f"failed: {reason}" for reason in dict.fromkeys(variant.failures)]
    return "; ".join(filter(None, parts))


def _flat(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise TypeError("a table has no mappings")
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def variance_sheet(title: str, components: Components) -> ReportTable:
    """The table, ready to print: standard deviations of the mean metric with their intervals, and the notes."""
    heads = (
        Column("source", left=True),
        Column("df"),
        Column("deviation of the mean", main=True),
        Column("interval"),
        Column("share of the seeds' variance"),
    )
    seeds = sum(one.variance for one in components.components if one.source != "users")
    lines = [TableRow(_cells(one, seeds), apart=one.source == "users") for one in components.components]
    return ReportTable(title, heads, tuple(lines), tuple(_notes(components)))


def variance_document(title: str, metric: str, components: Components) -> dict[str, Any]:
    """The JSON document, unrounded."""
    entries = {name: value for name, value in asdict(components).items() if name != "components"}
    parts = [{**asdict(one), "deviation": one.deviation} for one in components.components]
    return {"title": title, "metric": metric, **entries, "alpha": ALPHA, "power": POWER, "components": parts}


def variance_csv(components: Components) -> str:
    """One line for each component, unrounded."""
    rows = [{**asdict(one), "deviation": one.deviation} for one in components.components]
    return csv_text(rows)


def _cells(one: Component, seeds: float) -> tuple[str, ...]:
    interval = "" if one.low is None or one.high is None else f"{_text(one.low**0.5)} to {_text(one.high**0.5)}"
    share = "" if one.source == "users" or not seeds else f"{one.variance / seeds:.0%}"
    return WORDS[one.source], f"{one.freedom:,}", _text(one.deviation), interval, share


def _notes(components: Components) -> list[str]:
    seeds, users = components.model_seeds, f"{components.users:,} users"
    if components.cases != components.users:
        users = f"{components.cases:,} cases of {users}"
    runs, method = f"{seeds} seeds", f"{LEVEL:.0%} intervals by chi squared"
    if components.tokenizer_seeds > 1:
        runs = f"{components.tokenizer_seeds} tokenizer seeds x {seeds} model seeds"
        method = (
            f"Two-way random-effects ANOVA (Searle et al. 1992), {LEVEL:.0%} intervals by Williams and Tukey, of the "
            "residual by chi squared"
        )
    return [
        f"Mean {components.mean:.{DIGITS}f} over {runs}, {users}. {method}; few seeds leave them wide.",
        f"Least difference (p ≤ {ALPHA}, power {POWER:.0%}): {_text(components.least_users)} by a paired test over the "
        f"users alone; {_text(components.least_seeds)} over seeds with one run a row, "
        f"{_text(components.least_rows)} with {seeds}; over both, with {seeds} runs a row, "
        f"{_text(components.least_both)}.",
    ]


def _text(value: float) -> str:
    return f"{value:.{PLACES}f}"
