"""Stored runs against published figures: both values, their difference, and differences between the protocols.

A published figure has no per-user values and other conditions. Nothing is tested; the possible causes of a gap are
listed. Fields that are not stated, or not known of a run, are `unknown`, never equal.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.data.catalog import catalogue_entries
from harness.data.raw.releases import named_sets
from harness.errors import InputError
from harness.protocol.protocol import METRICS
from harness.reports.formats import QUOTED, QUOTED_NOTE
from harness.reports.published import (
    INCONSISTENT,
    INCONSISTENT_NOTE,
    PROTOCOL,
    RULES,
    UNSTATED,
    PublishedRow,
    read_published,
)
from harness.reports.selection import RunGroup, flattened
from harness.reports.tables import Column, ReportTable, TableRow, text_table
from harness.reports.values import leak_notes, marked, mean_and_std, metric_text, signed
from harness.store.record import DatasetInfo
from harness.store.run_store import Store

Verdict = Literal["same", "differs", "unknown"]


# Column of the published tables → ends of the configuration keys with the same meaning.
SETTINGS = {
    "beams": ".decode.beams",
    "text_fields": ".semantic.fields",
    "encoder": ".semantic.encoder",
    "backbone": ".backbone.name",
}
SHORTER = "what is not known of one of the two is unknown, never the same"


@dataclass(frozen=True)
class Field:
    """One condition of a measurement; empty if unknown."""

    name: str
    ours: str
    theirs: str
    verdict: Verdict


@dataclass(frozen=True)
class PublishedGap:
    """One side against one published row. `numbers`: metric → (ours, published), for the requested metrics that both
    have; ours is the mean over `seeds` runs."""

    label: str
    seeds: int
    quoted: PublishedRow
    same_method: bool
    numbers: Mapping[str, tuple[float, float]]
    fields: tuple[Field, ...]

    def document(self) -> dict[str, Any]:
        """As plain values, unrounded."""
        quoted = self.quoted
        return {
            "run": self.label,
            "seeds": self.seeds,
            "method": quoted.method,
            "same_method": self.same_method,
            "hand": quoted.hand,
            "source": quoted.source,
            "whose_run": quoted.run,
            "note": quoted.note,
            INCONSISTENT: quoted.inconsistent,
            "metrics": {
                name: {"ours": local, "published": published, "difference": local - published}
                for name, (local, published) in self.numbers.items()
            },
            "protocol": [asdict(field) for field in self.fields],
        }


def gaps(store: Store, sides: Sequence[RunGroup], metrics: Sequence[str]) -> list[PublishedGap]:
    """Each side against every published row of its data set, the rows of its own method first. Raises `InputError` if
    there is none with one of `metrics`."""
    quoted = [row for row in read_published(store.root) if row.beside]
    results = []
    for side in sides:
        name, rules = side.first.dataset.name, side.first.protocol.name
        if not rules.startswith(RULES):
            message, hint = f"the published rows are not of {rules}", f"take a run of {RULES}1"
            raise InputError(message, where=side.label, hint=hint, code="incompatible")
        rows = [row for row in quoted if row.dataset == name]
        if not rows:
            hint = f"there are some on {', '.join(sorted({row.dataset for row in quoted}))}"
            raise InputError(f"no published rows on {name!r}", where="--published", hint=hint, code="unknown-name")
        printed = {metric for row in rows for metric in row.metrics}
        if not printed & set(metrics):
            message = f"no published row on {name!r} has {' or '.join(metrics)}"
            hint = f"they have {', '.join(metric for metric in METRICS if metric in printed)}"
            raise InputError(message, where="--metric", hint=hint, code="unknown-name")
        local = conditions(side)
        gaps = [_gap(side, row, metrics, local) for row in rows if set(row.metrics) & set(metrics)]
        results += sorted(gaps, key=lambda gap: not gap.same_method)
    return results


def conditions(side: RunGroup) -> dict[str, str]:
    """The known conditions of a side, by the columns of the published tables."""
    record = side.first
    data, rules = record.dataset, record.protocol
    public = named_sets().get(data.name) if _is_public(data) else None
    stated = {
        "release": "" if public is None else public.release.title.replace("Reviews ", ""),
        "split": rules.name.partition("/")[0],
        "hits": "items",
        "ranking": "full",
        "users": str(data.users),
        "items": str(data.items),
        "interactions": str(data.interactions),
        "history": str(rules.max_history),
        "exclude_history": str(rules.exclude_history).lower(),
        "repeats": "" if public is None else "dropped" if public.release.dedupe else "kept",
    }
    settings = flattened(side.runs[0].settings)
    for name, end in SETTINGS.items():
        messages = [value for key, value in settings.items() if key.endswith(end) and value != "null"]
        stated[name] = messages[0].strip("[]") if messages else ""
    if stated["beams"]:
        stated["constraint"] = "trie"  # the only kind of decoding here
    if any(key.endswith(".tasks.templates") for key in settings):
        stated["prompts"] = "1"  # ranking uses the first template only
    return stated


def _is_public(data: DatasetInfo) -> bool:
    """Whether a data set with a public name is the public one, by the hash of its prepared copy or by its published
    counts."""
    entry = catalogue_entries().get(data.name)
    if entry is not None and entry.fingerprint:
        return entry.fingerprint == data.fingerprint
    return entry is not None and (entry.users, entry.items) == (data.users, data.items)


def _gap(side: RunGroup, row: PublishedRow, metrics: Sequence[str], local: Mapping[str, str]) -> PublishedGap:
    shared = [name for name in metrics if name in row.metrics]
    numbers = {name: (statistics.fmean(side.values(name)), row.metrics[name]) for name in shared}
    published = {"release": "" if row.release == UNSTATED else row.release, **row.known}
    fields = tuple(
        Field(name, measured, stated, _verdict(measured, stated))
        for name in ("release", *PROTOCOL)
        for measured, stated in [(local.get(name, ""), published.get(name, ""))]
        if measured or stated
    )
    is_alike = _bare(row.method) == _bare(side.first.model.rpartition(":")[2])
    return PublishedGap(side.label, len(side.runs), row, is_alike, numbers, fields)


def _verdict(local: str, published: str) -> Verdict:
    """Compares lists without order, and everything without case.

    >>> _verdict("20", "20"), _verdict("title, brand", "Brand, title"), _verdict("full", ""), _verdict("20", "50")
    ('same', 'same', 'unknown', 'differs')
    """
    if not local or not published:
        return "unknown"
    one, other = ({part.strip().casefold() for part in text.split(",")} for text in (local, published))
    return "same" if one == other else "differs"


def _bare(name: str) -> str:
    """A method's name, normalised for comparison.

    >>> _bare("EAGER-LLM") == _bare("eager-llm"), _bare("LC-Rec")
    (True, 'lcrec')
    """
    return "".join(character for character in name.casefold() if character.isalnum())


def mismatches(gap: PublishedGap, verdict: Verdict) -> str:
    """The fields of one verdict as text; differing ones with both values, ours first."""
    fields = [field for field in gap.fields if field.verdict == verdict]
    if verdict != "differs":
        return ", ".join(field.name for field in fields)
    return "; ".join(f"{field.name} {field.ours} / {field.theirs}" for field in fields)


def sheets(
    sides: Sequence[RunGroup], published_gaps: Sequence[PublishedGap], metrics: Sequence[str]
) -> list[ReportTable]:
    """Two sheets a side."""
    pairs = [(side, [gap for gap in published_gaps if gap.label == side.label]) for side in sides]
    return [sheet for side, gaps in pairs for sheet in (_numbers(side, gaps, metrics), _protocols(gaps))]


def _numbers(side: RunGroup, gaps: Sequence[PublishedGap], metrics: Sequence[str]) -> ReportTable:
    local_texts = [text for metric in metrics for text in (metric_text(*mean_and_std(side.values(metric))), "")]
    message = f"measured here, {len(side.runs)} {'seed' if len(side.runs) == 1 else 'seeds'}"
    lines = [TableRow((marked(side.label, side.leaks), *local_texts, message))]
    for gap in gaps:
        cells = []
        for metric in metrics:
            values = gap.numbers.get(metric)
            cells += ["-", ""] if values is None else [metric_text(values[1]), signed(values[0] - values[1])]
        lines.append(TableRow((_method(gap.quoted), *cells, gap.quoted.told), apart=True))
    first = side.first
    title = (
        f"{side.label} on {first.dataset.name} ({first.dataset.users:,} users, {first.dataset.items:,} items) "
        "against published rows"
    )
    heads = [Column("method", left=True, wraps=True)]
    for metric in metrics:
        heads += [Column(metric), Column("ours - theirs", main=metric == metrics[0])]
    doubts = [INCONSISTENT_NOTE] if any(gap.quoted.inconsistent for gap in gaps) else []
    notes = [QUOTED_NOTE, *doubts, *leak_notes(side.leaks, "leaks: sees held-out rows")]
    return ReportTable(title, (*heads, Column("where", left=True, wraps=True, drop=0)), tuple(lines), tuple(notes))


def _protocols(gaps: Sequence[PublishedGap]) -> ReportTable:
    differs = "differs (ours / theirs)"
    rows = [
        {
            "method": _method(gap.quoted),
            "source": gap.quoted.source,
            differs: mismatches(gap, "differs"),
            "unknown": mismatches(gap, "unknown"),
            "same": mismatches(gap, "same"),
            "note": "; ".join(filter(None, [gap.quoted.doubt, gap.quoted.note])),
        }
        for gap in gaps
    ]
    drop = ("source", "same", "unknown", "note")
    title = "Protocol: what may explain a difference"
    return text_table(title, rows, wraps=rows[0], main=differs, drop=drop, notes=[SHORTER], apart=[True] * len(rows))


def _method(quoted: PublishedRow) -> str:
    """The method with the marks of a published row."""
    return f"{quoted.method} {QUOTED} {INCONSISTENT if quoted.inconsistent else ''}".rstrip()
