"""The table of an ablation: each row over its seeds, and its difference to the base, paired by user; and the table of
`harness ablate --factor`: components of variance, and the least detectable differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.errors import InputError
from harness.evaluation.significance import ALPHA, LEVEL, POWER, Components
from harness.reports.comparison import Pair, difference_text, family_note, tested
from harness.reports.per_user import Measured
from harness.reports.selection import RunGroup, check_comparable
from harness.reports.tables import Report, ReportTable, text_table
from harness.reports.values import DIGITS, LEAK, bounds, chance, marked, mean_and_std, metric_text

# entries of a row's document that are null without a test
TESTED = ("difference", "low", "high", "p", "p_corrected", "significant", "p_seeds", "effect", "wins", "losses", "ties")
WORDS = {
    "tokenizer": "seed of the tokenizer",
    "model": "seed of the model",
    "residual": "residual (interaction of both)",
    "users": "draw of the users",
}


@dataclass(frozen=True)
class Variant(RunGroup):
    """One row: its complete runs, how many were planned, and why others failed."""

    changes: str = ""
    planned: int = 0
    failures: tuple[str, ...] = ()

    def seconds(self) -> float | None:
        """Mean seconds of training."""
        values = (run.record.cost.train_seconds for run in self.runs)
        return mean_and_std([seconds for seconds in values if seconds is not None])[0]


@dataclass(frozen=True)
class AblationTable:
    """`variants[0]` is the base; `metrics[0]` is the one that differences are tested in. `pairs`: each row against the
    base, by its label, but for rows without runs and rows with the base's runs."""

    title: str
    variants: tuple[Variant, ...]
    metrics: tuple[str, ...]
    pairs: dict[str, Pair]


def ablation_table(title: str, variants: Sequence[Variant], metrics: Sequence[str], base: Measured) -> AblationTable:
    """Compares every row with the base, as one family of tests. Raises `InputError` if no run is complete."""
    if not any(variant.runs for variant in variants):
        reason = next((reason for variant in variants for reason in variant.failures), "none was asked for")
        raise InputError(f"no run of this grid could be made: {reason}", code="no-runs")
    first = variants[0]
    sides = [first, *(v for v in variants[1:] if v.runs and set(v.run_ids) != set(first.run_ids))]
    pairs: tuple[Pair, ...] = ()
    if first.runs and len(sides) > 1:
        check_comparable(sides)
        values = [base.values(side.runs, metrics[:1]) for side in sides]
        pairs = tested(sides, values, [(number, 0, metrics[0]) for number in range(1, len(sides))], base)
    return AblationTable(title, tuple(variants), tuple(metrics), {pair.a: pair for pair in pairs})


def sheet(table: AblationTable) -> ReportTable:
    """The table, ready to print."""
    main, *rest = table.metrics
    notes = [family_note(list(table.pairs.values()))] if table.pairs else []
    if leaks := dict.fromkeys(text for variant in table.variants for text in variant.leaks):
        notes.append(f"{LEAK} leaks: this configuration sees held-out rows: {'; '.join(leaks)}")
    return text_table(
        table.title,
        [_texts(table, variant) for variant in table.variants],
        left=("variant",),
        wraps=("note",),
        main=main,
        drop=("note", "train s", *rest, "p Holm", "interval"),
        notes=notes,
        apart=[not variant.runs for variant in table.variants],
    )


def _texts(table: AblationTable, variant: Variant) -> dict[str, str]:
    pair, seconds, completed = table.pairs.get(variant.label), variant.seconds(), len(variant.runs)
    main, *rest = table.metrics
    base = table.variants[0]
    equal = variant is not base and variant.runs and set(variant.run_ids) == set(base.run_ids)
    notes = [f"the same runs as {base.label}" if equal else variant.changes]
    notes += [f"failed: {reason}" for reason in dict.fromkeys(variant.failures)]
    return {
        "variant": marked(variant.label, variant.leaks),
        "n": str(completed) if completed == variant.planned else f"{completed} of {variant.planned}",
        main: metric_text(*mean_and_std(variant.values(main))),
        f"{main} - base": "" if pair is None else difference_text(pair),
        "interval": "" if pair is None else bounds(pair.found.low, pair.found.high),
        "p Holm": "" if pair is None else chance(pair.p_corrected),
        **{name: metric_text(*mean_and_std(variant.values(name))) for name in rest},
        "train s": "" if seconds is None else f"{seconds:,.1f}",
        "note": "; ".join(filter(None, notes)),
    }


def report(table: AblationTable) -> Report:
    """The table in every format; lists are joined in the CSV file."""
    return Report(
        lambda: [sheet(table)],
        lambda: document(table),
        lambda: [
            {key: "; ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}
            for row in document(table)["rows"]
        ],
    )


def document(table: AblationTable) -> dict[str, Any]:
    """The JSON document, unrounded. `difference` and what follows is against the base, in `metric`."""
    rows = []
    for variant in table.variants:
        pair = table.pairs.get(variant.label)
        difference = {} if pair is None else pair.document()
        row: dict[str, Any] = {"name": variant.label, "changes": variant.changes, "n": len(variant.runs)}
        row["seeds"] = list(variant.seeds)
        for name in table.metrics:
            row[name], row[f"{name}_std"] = mean_and_std(variant.values(name))
        row |= {name: difference.get(name) for name in TESTED}
        row["train_seconds"] = variant.seconds()
        row |= {name: list(getattr(variant, name)) for name in ("leaks", "failures", "run_ids")}
        rows.append(row)
    users = next((pair.found.users for pair in table.pairs.values()), None)
    return {"title": table.title, "metric": table.metrics[0], "users": users, "rows": rows}


def variance_report(title: str, metric: str, components: Components) -> Report:
    """The components of variance in every format."""
    parts = [{**asdict(one), "deviation": one.deviation} for one in components.components]
    rest = {name: value for name, value in asdict(components).items() if name != "components"}
    document = {"title": title, "metric": metric, **rest, "alpha": ALPHA, "power": POWER, "components": parts}
    return Report(lambda: [_variance_sheet(title, components)], lambda: document, lambda: parts)


def _variance_sheet(title: str, components: Components) -> ReportTable:
    """The table, ready to print: standard deviations of the mean metric with their intervals, and the notes."""
    seeds = sum(one.variance for one in components.components if one.source != "users")
    rows = [
        {
            "source": WORDS[one.source],
            "df": f"{one.freedom:,}",
            "deviation of the mean": _text(one.deviation),
            "interval": " to ".join(_text(end**0.5) for end in (one.low, one.high) if end is not None),
            "share of the seeds' variance": "" if one.source == "users" or not seeds else f"{one.variance / seeds:.0%}",
        }
        for one in components.components
    ]
    separate = [one.source == "users" for one in components.components]
    main = "deviation of the mean"
    return text_table(title, rows, left=("source",), main=main, notes=_notes(components), apart=separate)


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
    """One digit more than for means, since deviations are smaller."""
    return f"{value:.{DIGITS + 1}f}"
