"""Selection of rows, labels and metrics of a board, for the tables of a paper.

A metric that records lack is computed from the stored lists, which have `protocol.depth` items; for a larger K the
caller can rank again with the stored model. With one relevant item a user, `hit@K` equals `recall@K` and `map@K` equals
`mrr@K`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.errors import InputError, unknown_name
from harness.evaluation.metrics import FUNCTIONS, per_user
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEEPEST, MAIN_METRIC, METRICS
from harness.reports.leaderboard import Board, Row
from harness.reports.per_user import Measured, measured
from harness.store.run_store import StoredRun

NAMES = ("recall", "ndcg")  # the metrics of `--k` without `--metrics`
Deeper = Callable[[StoredRun, int], Predictions]  # gives a run's test lists with this many items


@dataclass(frozen=True)
class Selection:
    """Empty parts select everything. `runs`: ids or their prefixes, `labels`: a model, run id or prefix to a row's
    name, `metrics`: names with their K."""

    models: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()


def selection(
    models: str | None, runs: str | None, labels: Iterable[str], metrics: str | None, ks: str | None
) -> Selection:
    """Parses `--models A,B`, `--runs ID,ID`, `--label ROW=NAME`, `--metrics hit@10,mrr` and `--k 5,10`. Raises
    `InputError`."""
    fields = {}
    for text in labels:
        row, equals, name = text.partition("=")
        if not (row.strip() and equals and name.strip()):
            raise InputError(
                f"{text!r} is not of the form ROW=NAME",
                where="--label",
                hint="write --label sasrec=SASRec",
                code="bad-setting",
            )
        fields[row.strip()] = name.strip()
    return Selection(_parts(models), _parts(runs), fields, _metrics(_parts(metrics), _parts(ks)))


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _metrics(names: Sequence[str], ks: Sequence[str], location: str = "--metrics") -> tuple[str, ...]:
    """Every name with its own K, or with each of `ks`."""
    depths = [_depth(k, "--k") for k in ks]
    problems: list[str] = []
    for name in names or (NAMES if ks else ()):
        kind, at, k = name.lower().partition("@")
        kind = "hit" if kind == "hr" else kind
        if kind not in FUNCTIONS:
            raise unknown_name("metric", name, [*METRICS, *FUNCTIONS], where=location)
        if not at and not depths:
            raise InputError(
                f"{name!r} says no K", where=location, hint=f"write {name}@10, or add --k 5,10", code="bad-setting"
            )
        problems += [f"{kind}@{depth}" for depth in ([_depth(k, location)] if at else depths)]
    return tuple(dict.fromkeys(problems))


def check_metric(name: str) -> str:
    """The metric's name, in small letters. Raises `InputError` for text that is no metric with its K.

    >>> check_metric("NDCG@10"), check_metric("HR@5")
    ('ndcg@10', 'hit@5')
    """
    return _metrics([name], (), "--metric")[0]


def _depth(text: str, location: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= DEEPEST):
        raise InputError(
            f"{text!r} is no K",
            where=location,
            hint=f"give a whole number from 1 to {DEEPEST}",
            code="bad-setting",
        )
    return int(text)


def select_rows(
    boards: Sequence[Board],
    selected: Selection,
    metric: str = MAIN_METRIC,
    location: str | None = None,
    deeper: Deeper | None = None,
) -> list[Board]:
    """The boards with the selected rows, ranked by `metric`, with all requested metrics. Boards without a selected row
    are left out. `location` is as for `measured`; `deeper` gives lists that are longer than the stored ones. Raises
    `InputError` for an unknown model, run or label, and without `deeper` for a K beyond the stored lists."""
    every = [row for board in boards for row in board.rows]
    _check(selected, every)
    results = []
    for board in boards:
        rows = [row for one in board.rows if (row := _kept(one, selected)) is not None]
        if not rows:
            continue
        rows = _with_metrics(rows, dict.fromkeys((*selected.metrics, metric)), location, deeper)
        ranked = sorted((row for row in rows if row.rank is not None), key=lambda row: -(row.mean(metric) or 0.0))
        ranked = [replace(row, rank=number) for number, row in enumerate(ranked, start=1)]
        rows = [*ranked, *(row for row in rows if row.rank is None)]
        results.append(replace(board, rows=tuple(_labelled(row, selected.labels) for row in rows)))
    return results


def _check(selected: Selection, rows: Sequence[Row]) -> None:
    models = {row.model for row in rows}
    ids = [run_id for row in rows for run_id in row.run_ids]
    for name in selected.models:
        if name not in models:
            raise unknown_name("model", name, models, where="--models")
    for location, names in (
        ("--runs", selected.runs),
        ("--label", [name for name in selected.labels if name not in models]),
    ):
        for text in names:
            if not any(run_id.startswith(text) for run_id in ids):
                raise unknown_name("row" if location == "--label" else "run", text, {*models, *ids}, where=location)


def _kept(row: Row, selected: Selection) -> Row | None:
    """The row with the selected runs only; None if it is not selected."""
    if selected.models and row.model not in selected.models:
        return None
    if not selected.runs:
        return row
    items = [n for n, run_id in enumerate(row.run_ids) if run_id.startswith(selected.runs)]
    if not items:
        return None
    if len(items) == len(row.runs):
        return row
    metrics = {name: [values[n] for n in items] for name, values in row.metrics.items()}
    return replace(
        row, runs=tuple(row.runs[n] for n in items), seeds=tuple(row.seeds[n] for n in items), metrics=metrics
    )


def _with_metrics(rows: Sequence[Row], names: Iterable[str], location: str | None, deeper: Deeper | None) -> list[Row]:
    """Adds these metrics to the rows, from their records or else from their lists."""
    expected = {name: _stored(name) for name in names}
    missing = [name for name, stored in expected.items() if stored not in METRICS]
    runs = [run for row in rows for run in row.runs]
    data = measured(runs, location) if missing and runs else None
    results = []
    for row in rows:
        metrics = dict(row.metrics)
        for name, stored in expected.items():
            if name not in metrics and stored in metrics:
                metrics[name] = metrics[stored]
        if data is not None and row.runs:
            values = [_values(data, run, missing, deeper) for run in row.runs]
            metrics |= {name: [float(one[name].mean()) for one in values] for name in missing}
        results.append(replace(row, metrics=metrics))
    return results


def _values(data: Measured, run: StoredRun, names: Sequence[str], deeper: Deeper | None) -> Mapping[str, np.ndarray]:
    """Each metric of each test user, from the stored lists if these are long enough or contain the whole catalogue.
    Raises `InputError` for a K beyond them without `deeper`."""
    depth, items = run.record.protocol.depth, run.record.dataset.items
    needed = min(items, max(int(name.partition("@")[2]) for name in names))
    if needed <= depth:
        return {name: values[0] for name, values in data.values([run], names).items()}
    if deeper is None:
        raise InputError(
            f"K = {needed} is more than the {depth} items that are stored of a list",
            where=run.record.run_id,
            hint=f"make the run with --set protocol.depth={needed}",
            code="bad-setting",
        )
    return per_user(deeper(run, needed), data.split.test.targets, names)


def _stored(name: str) -> str:
    """The equal metric of a record, for one relevant item a user.

    >>> _stored("hit@10"), _stored("map@10"), _stored("ndcg@3")
    ('recall@10', 'mrr@10', 'ndcg@3')
    """
    kind, at, k = name.partition("@")
    return {"hit": "recall", "map": "mrr"}.get(kind, kind) + at + k


def _labelled(row: Row, labels: Mapping[str, str]) -> Row:
    """The row with its label; labels of its runs come before labels of its model."""
    for text, name in labels.items():
        if any(run_id.startswith(text) for run_id in row.run_ids):
            return replace(row, model=name)
    return replace(row, model=labels[row.model]) if row.model in labels else row
