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
from harness.reports.values import comma_separated
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
        row, _, name = map(str.strip, text.partition("="))
        if not (row and name):
            message, hint = f"{text!r} is not of the form ROW=NAME", "write --label sasrec=SASRec"
            raise InputError(message, where="--label", hint=hint, code="bad-setting")
        fields[row] = name
    names = _metrics(comma_separated(metrics), comma_separated(ks))
    return Selection(comma_separated(models), comma_separated(runs), fields, names)


def _metrics(names: Sequence[str], ks: Sequence[str], location: str = "--metrics") -> tuple[str, ...]:
    """Every name with its own K, or with each of `ks`."""
    depths = [_depth(k, "--k") for k in ks]
    metrics: list[str] = []
    for name in names or (NAMES if ks else ()):
        kind, at, k = name.lower().partition("@")
        kind = "hit" if kind == "hr" else kind
        if kind not in FUNCTIONS:
            raise unknown_name("metric", name, [*METRICS, *FUNCTIONS], where=location)
        if not at and not depths:
            hint = f"write {name}@10, or add --k 5,10"
            raise InputError(f"{name!r} says no K", where=location, hint=hint, code="bad-setting")
        metrics += [f"{kind}@{depth}" for depth in ([_depth(k, location)] if at else depths)]
    return tuple(dict.fromkeys(metrics))


def check_metric(name: str) -> str:
    """The metric's name, in small letters. Raises `InputError` for text that is no metric with its K.

    >>> check_metric("NDCG@10"), check_metric("HR@5")
    ('ndcg@10', 'hit@5')
    """
    return _metrics([name], (), "--metric")[0]


def _depth(text: str, location: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= DEEPEST):
        hint = f"give a whole number from 1 to {DEEPEST}"
        raise InputError(f"{text!r} is no K", where=location, hint=hint, code="bad-setting")
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
    _check(selected, [row for board in boards for row in board.rows])
    results = []
    for board in boards:
        rows = [row for one in board.rows if (row := _kept(one, selected)) is not None]
        if not rows:
            continue
        rows = _with_metrics(rows, (*selected.metrics, metric), location, deeper)
        ranked = sorted((row for row in rows if row.rank is not None), key=lambda row: -(row.mean(metric) or 0.0))
        ranked = [replace(row, rank=number) for number, row in enumerate(ranked, start=1)]
        rows = [*ranked, *(row for row in rows if row.rank is None)]
        results.append(replace(board, rows=tuple(_labelled(row, selected.labels) for row in rows)))
    return results


def _check(selected: Selection, rows: Sequence[Row]) -> None:
    models = {row.model for row in rows}
    ids = {run_id for row in rows for run_id in row.run_ids}
    for name in selected.models:
        if name not in models:
            raise unknown_name("model", name, models, where="--models")
    labelled = [name for name in selected.labels if name not in models]
    for kind, option, names in (("run", "--runs", selected.runs), ("row", "--label", labelled)):
        for text in names:
            if not any(run_id.startswith(text) for run_id in ids):
                raise unknown_name(kind, text, models | ids, where=option)


def _kept(row: Row, selected: Selection) -> Row | None:
    """The row with the selected runs only; None if it is not selected."""
    if selected.models and row.model not in selected.models:
        return None
    if not selected.runs:
        return row
    index = [n for n, run_id in enumerate(row.run_ids) if run_id.startswith(selected.runs)]
    if not index:
        return None
    metrics = {name: [values[n] for n in index] for name, values in row.metrics.items()}
    return replace(
        row, runs=tuple(row.runs[n] for n in index), seeds=tuple(row.seeds[n] for n in index), metrics=metrics
    )


def _with_metrics(rows: Sequence[Row], names: Iterable[str], location: str | None, deeper: Deeper | None) -> list[Row]:
    """Adds these metrics to the rows, from their records or else from their lists."""
    stored = {name: name.replace("hit@", "recall@").replace("map@", "mrr@") for name in names}
    missing = [name for name, equal in stored.items() if equal not in METRICS]
    runs = [run for row in rows for run in row.runs]
    data = measured(runs, location) if missing and runs else None
    results = []
    for row in rows:
        metrics = {name: row.metrics[equal] for name, equal in stored.items() if equal in row.metrics} | row.metrics
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
        message = f"K = {needed} is more than the {depth} items that are stored of a list"
        hint = f"make the run with --set protocol.depth={needed}"
        raise InputError(message, where=run.record.run_id, hint=hint, code="bad-setting")
    return per_user(deeper(run, needed), data.split.test.targets, names)


def _labelled(row: Row, labels: Mapping[str, str]) -> Row:
    """The row with its label; labels of its runs come before labels of its model."""
    of_runs = (name for text, name in labels.items() if any(run_id.startswith(text) for run_id in row.run_ids))
    return replace(row, model=next(of_runs, labels.get(row.model, row.model)))
