"""`harness leaderboard --protocols`: the ranks of the same models under each protocol.

Metrics under different protocols are not comparable (other users, other histories), so that only ranks are compared,
among the configurations with runs under every protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.leaderboard import Board, Row, boards
from harness.reports.selection import configuration_of
from harness.reports.tables import Column, Report, ReportTable, TableRow
from harness.reports.values import metric_text
from harness.store.record import ProtocolInfo
from harness.store.run_store import StoredRun

Key = tuple[str, str]  # model, configuration


@dataclass(frozen=True)
class RankRow:
    """One configuration. `ranks` and `rows` are aligned with `ProtocolComparison.protocols`; a rank is None if the
    configuration was not measured under every protocol, a row None if it was not measured under this one."""

    model: str
    note: str
    ranks: tuple[int | None, ...]
    rows: tuple[Row | None, ...]

    @property
    def moved(self) -> tuple[int | None, ...]:
        """Difference of ranks between the first protocol and each of the others; positive: better."""
        first = self.ranks[0]
        return tuple(None if rank is None or first is None else first - rank for rank in self.ranks[1:])


@dataclass(frozen=True)
class ProtocolComparison:
    """One data set under several protocols. `labels` name the protocols; `tau` is Kendall's rank correlation of the
    first order with each of the others, None for fewer than two configurations in common."""

    dataset: str
    metric: str
    protocols: tuple[ProtocolInfo, ...]
    labels: tuple[str, ...]
    standings: tuple[RankRow, ...]
    tau: tuple[float | None, ...]


def crossings(runs: Sequence[StoredRun], metric: str) -> list[ProtocolComparison]:
    """One comparison for each data set (by content) that was measured under more than one protocol."""
    settings = {run.record.run_id: configuration_of(run.record) for run in runs}
    grouped: dict[tuple[str, str], list[Board]] = {}
    for board in boards(runs, metric):
        grouped.setdefault((board.dataset.name, board.dataset.fingerprint), []).append(board)
    results = []
    for same in grouped.values():
        if len({board.protocol.name for board in same}) > 1:
            results.append(_crossing(sorted(same, key=_place), metric, settings))
    return results


def sheet(crossing: ProtocolComparison) -> ReportTable:
    """The table of a comparison, in the order of the first protocol; rows of one protocol only come last."""
    columns = [Column("model", left=True)]
    for number, label in enumerate(crossing.labels):
        columns += [Column(f"# {label}", main=True), Column(crossing.metric)]
        columns += [Column("moved")] if number else []
    columns.append(Column("note", left=True, wraps=True, drop=0))
    lines = tuple(_line(standing, crossing.metric) for standing in crossing.standings)
    return ReportTable(
        f"{crossing.dataset} under {len(crossing.labels)} protocols", tuple(columns), lines, _notes(crossing)
    )


def report(protocol_comparisons: Sequence[ProtocolComparison]) -> Report:
    """The comparisons in every format."""
    return Report(
        lambda: [sheet(crossing) for crossing in protocol_comparisons],
        lambda: [_document(crossing) for crossing in protocol_comparisons],
        lambda: [row for crossing in protocol_comparisons for row in _cells(crossing)],
        ("dataset", "model", "note", "protocol", "rank", "metric", "value"),
    )


def _cells(crossing: ProtocolComparison) -> list[dict[str, Any]]:
    """One line for each configuration under each protocol, unrounded."""
    return [
        {
            "dataset": crossing.dataset,
            "model": standing.model,
            "note": standing.note,
            "protocol": label,
            "rank": rank,
            "metric": crossing.metric,
            "value": None if row is None else row.mean(crossing.metric),
        }
        for standing in crossing.standings
        for label, rank, row in zip(crossing.labels, standing.ranks, standing.rows, strict=True)
    ]


def _place(board: Board) -> tuple[bool, str, int]:
    """Sort key of a protocol: leave-one-out comes first."""
    return not board.protocol.name.startswith("leave-one-out"), board.protocol.name, -len(board.rows)


def _crossing(same: Sequence[Board], metric: str, settings: Mapping[str, str]) -> ProtocolComparison:
    rows: list[dict[Key, Row]] = [
        {(row.model, settings[row.run_ids[0]]): row for row in board.rows if row.run_ids} for board in same
    ]
    keys = list(dict.fromkeys(key for board in rows for key in board))
    common = [key for key in keys if all(key in board for board in rows)]
    ranks = [_ranks({key: board[key] for key in common}, metric) for board in rows]
    standings = [
        RankRow(
            model=key[0],
            note=next(board[key].note for board in rows if key in board),
            ranks=tuple(ranked.get(key) for ranked in ranks),
            rows=tuple(board.get(key) for board in rows),
        )
        for key in sorted(keys, key=lambda key: (key not in common, ranks[0].get(key, 0), key))
    ]
    tau = tuple(_tau([ranks[0][key] for key in common], [ranked[key] for key in common]) for ranked in ranks[1:])
    marks = tuple(board.protocol for board in same)
    return ProtocolComparison(same[0].dataset.name, metric, marks, _labels(marks), tuple(standings), tau)


def _ranks(rows: Mapping[Key, Row], metric: str) -> dict[Key, int]:
    ordered = sorted(rows, key=lambda key: (-(rows[key].mean(metric) or 0.0), key))
    return {key: number for number, key in enumerate(ordered, start=1)}


def _tau(one: Sequence[int], other: Sequence[int]) -> float | None:
    """(agreeing pairs - disagreeing pairs) / pairs; ranks have no ties.

    >>> _tau([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    pairs = [(i, j) for j in range(len(one)) for i in range(j)]
    if not pairs:
        return None
    return sum(1 if (one[i] < one[j]) == (other[i] < other[j]) else -1 for i, j in pairs) / len(pairs)


def _labels(marks: Sequence[ProtocolInfo]) -> tuple[str, ...]:
    """The protocol's name, with the fields that distinguish protocols of one name."""
    labels = []
    for mark in marks:
        lines = [mark.name]
        protocol_infos = [other for other in marks if other.name == mark.name]
        for field in ("cut", "max_history", "exclude_history"):
            if len({getattr(other, field) for other in protocol_infos}) > 1:
                lines.append(f"{field}={getattr(mark, field)}")
        labels.append(" ".join(lines))
    return tuple(labels)


def _line(standing: RankRow, metric: str) -> TableRow:
    texts = [standing.model]
    for number, (rank, row) in enumerate(zip(standing.ranks, standing.rows, strict=True)):
        texts += ["" if rank is None else str(rank), metric_text(row and row.mean(metric), row and row.std(metric))]
        if number:
            changed = standing.moved[number - 1]
            texts.append("" if changed is None else f"{changed:+d}" if changed else "=")
    return TableRow((*texts, standing.note), apart=None in standing.ranks)


def _notes(crossing: ProtocolComparison) -> tuple[str, ...]:
    payload = []
    for label, tau, number in zip(crossing.labels[1:], crossing.tau, range(len(crossing.tau)), strict=True):
        if tau is None:
            payload.append(
                f"{label}: fewer than two configurations in common with {crossing.labels[0]}, no order to compare"
            )
            continue
        changed = sum(bool(standing.moved[number]) for standing in crossing.standings)
        ranked = sum(rank.ranks[0] is not None for rank in crossing.standings)
        payload.append(
            f"{label}: {changed} of {ranked} configurations change their place against {crossing.labels[0]}, "
            f"Kendall's tau {tau:.2f}"
        )
    return tuple(payload)


def _document(crossing: ProtocolComparison) -> dict[str, Any]:
    return {
        "dataset": crossing.dataset,
        "metric": crossing.metric,
        "protocols": [mark.model_dump() for mark in crossing.protocols],
        "tau": list(crossing.tau),
        "rows": [
            {
                "model": standing.model,
                "note": standing.note,
                "ranks": list(standing.ranks),
                "moved": list(standing.moved),
                "values": [None if row is None else row.mean(crossing.metric) for row in standing.rows],
                "run_ids": [[] if row is None else list(row.run_ids) for row in standing.rows],
            }
            for standing in crossing.standings
        ],
    }
