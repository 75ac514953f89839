"""Which rows a board shows, what they are called, and which metrics at which K: the tables that a paper needs.

A metric that no record holds is measured from the stored lists, which reach down to `DEPTH` items. On one relevant item
a user, `hit@K` equals `recall@K` and `map@K` equals `mrr@K`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.errors import InputError, unknown_name
from harness.evaluation.metrics import FUNCTIONS
from harness.protocol.protocol import DEPTH, MAIN_METRIC, METRICS
from harness.reports.leaderboard import Board, Row
from harness.reports.per_user import measured

NAMES = ("recall", "ndcg")  # the metrics of `--k` alone


@dataclass(frozen=True)
class Selection:
    """Empty parts choose everything. `runs` are ids or their beginnings, `labels` map a model, a run id or its
    beginning to a row's name, `metrics` are names with their K."""

    models: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()


def selection(
    models: str | None, runs: str | None, labels: Iterable[str], metrics: str | None, ks: str | None
) -> Selection:
    """What `--models A,B`, `--runs ID,ID`, `--label ROW=NAME`, `--metrics hit@10,mrr` and `--k 5,10` say. Raises
    `InputError`."""
    told = {}
    for text in labels:
        row, equals, name = text.partition("=")
        if not (row.strip() and equals and name.strip()):
            raise InputError(
                f"{text!r} is not of the form ROW=NAME", where="--label", hint="write --label sasrec=SASRec"
            )
        told[row.strip()] = name.strip()
    return Selection(_parts(models), _parts(runs), told, _metrics(_parts(metrics), _parts(ks)))


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _metrics(names: Sequence[str], ks: Sequence[str], where: str = "--metrics") -> tuple[str, ...]:
    """Every name with its own K, or with each of `ks`."""
    depths = [_depth(k, "--k") for k in ks]
    found: list[str] = []
    for name in names or (NAMES if ks else ()):
        kind, at, k = name.partition("@")
        if kind not in FUNCTIONS:
            raise unknown_name("metric", name, [*METRICS, *FUNCTIONS], where=where)
        if not at and not depths:
            raise InputError(f"{name!r} says no K", where=where, hint=f"write {name}@10, or add --k 5,10")
        found += [f"{kind}@{depth}" for depth in ([_depth(k, where)] if at else depths)]
    return tuple(dict.fromkeys(found))


def check_metric(name: str) -> None:
    """Raises `InputError` for what is no metric with its K."""
    _metrics([name], (), "--metric")


def _depth(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= DEPTH):
        raise InputError(
            f"{text!r} is no K", where=where, hint=f"give a whole number from 1 to {DEPTH}, the stored depth"
        )
    return int(text)


def select_rows(
    boards: Sequence[Board], wanted: Selection, metric: str = MAIN_METRIC, where: str | None = None
) -> list[Board]:
    """The boards with the chosen rows, ranked anew by `metric`, with every metric that is asked for. Boards without a
    chosen row are left out. `where` is where the data lie, as for `measured`. Raises `InputError` for a model, a run or
    a label that no row has."""
    every = [row for board in boards for row in board.rows]
    _check(wanted, every)
    found = []
    for board in boards:
        rows = [row for one in board.rows if (row := _kept(one, wanted)) is not None]
        if not rows:
            continue
        rows = _with_metrics(rows, dict.fromkeys((*wanted.metrics, metric)), where)
        ranked = sorted((row for row in rows if row.rank is not None), key=lambda row: -(row.mean(metric) or 0.0))
        ranked = [replace(row, rank=number) for number, row in enumerate(ranked, start=1)]
        rows = [*ranked, *(row for row in rows if row.rank is None)]
        found.append(replace(board, rows=tuple(_labelled(row, wanted.labels) for row in rows)))
    return found


def _check(wanted: Selection, rows: Sequence[Row]) -> None:
    models = {row.model for row in rows}
    ids = [run_id for row in rows for run_id in row.run_ids]
    for name in wanted.models:
        if name not in models:
            raise unknown_name("model", name, models, where="--models")
    for where, names in (("--runs", wanted.runs), ("--label", [name for name in wanted.labels if name not in models])):
        for text in names:
            if not any(run_id.startswith(text) for run_id in ids):
                raise unknown_name("row" if where == "--label" else "run", text, {*models, *ids}, where=where)


def _kept(row: Row, wanted: Selection) -> Row | None:
    """The row, with the chosen runs alone; None where it is not chosen."""
    if wanted.models and row.model not in wanted.models:
        return None
    if not wanted.runs:
        return row
    kept = [n for n, run_id in enumerate(row.run_ids) if run_id.startswith(wanted.runs)]
    if not kept:
        return None
    if len(kept) == len(row.runs):
        return row
    metrics = {name: [values[n] for n in kept] for name, values in row.metrics.items()}
    return replace(row, runs=tuple(row.runs[n] for n in kept), seeds=tuple(row.seeds[n] for n in kept), metrics=metrics)


def _with_metrics(rows: Sequence[Row], names: Iterable[str], where: str | None) -> list[Row]:
    """The rows with these metrics too: from their records, else measured from their lists."""
    wanted = {name: _stored(name) for name in names}
    missing = [name for name, stored in wanted.items() if stored not in METRICS]
    runs = [run for row in rows for run in row.runs]
    data = measured(runs, where) if missing and runs else None
    made = []
    for row in rows:
        metrics = dict(row.metrics)
        for name, stored in wanted.items():
            if name not in metrics and stored in metrics:
                metrics[name] = metrics[stored]
        if data is not None and row.runs:
            values = data.values(row.runs, missing)
            metrics |= {name: values[name].mean(axis=1).tolist() for name in missing}
        made.append(replace(row, metrics=metrics))
    return made


def _stored(name: str) -> str:
    """The metric of a record that says the same, on one relevant item a user.

    >>> _stored("hit@10"), _stored("map@10"), _stored("ndcg@3")
    ('recall@10', 'mrr@10', 'ndcg@3')
    """
    kind, at, k = name.partition("@")
    return {"hit": "recall", "map": "mrr"}.get(kind, kind) + at + k


def _labelled(row: Row, labels: Mapping[str, str]) -> Row:
    """The row under the name that it is given, by a run of its own before its model."""
    for text, name in labels.items():
        if any(run_id.startswith(text) for run_id in row.run_ids):
            return replace(row, model=name)
    return replace(row, model=labels[row.model]) if row.model in labels else row
