"""`harness leaderboard --protocols`: the ranks of the same models under each protocol.

Metrics under different protocols are not comparable (other users, other histories), so that only ranks are compared,
among the configurations with runs under every protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from harness.reports.leaderboard import Board, Row, boards
from harness.reports.selection import configuration_of
from harness.reports.tables import Column, Report, ReportTable, TableRow
from harness.reports.values import grouped, metric_text
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
    data_sets = grouped(boards(runs, metric), lambda board: (board.dataset.name, board.dataset.fingerprint))
    several = [boards for boards in data_sets.values() if len({board.protocol.name for board in boards}) > 1]
    return [_crossing(sorted(boards, key=_place), metric) for boards in several]


def sheet(crossing: ProtocolComparison) -> ReportTable:
    """The table of a comparison, in the order of the first protocol; rows of one protocol only come last."""
    columns = [Column("model", left=True)]
    for number, label in enumerate(crossing.labels):
        columns += [Column(f"# {label}", main=True), Column(crossing.metric)]
        columns += [Column("moved")] if number else []
    columns.append(Column("note", left=True, wraps=True, drop=0))
    lines = tuple(_line(standing, crossing.metric) for standing in crossing.standings)
    title = f"{crossing.dataset} under {len(crossing.labels)} protocols"
    return ReportTable(title, tuple(columns), lines, _notes(crossing))


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


def _crossing(boards: Sequence[Board], metric: str) -> ProtocolComparison:
    rows: list[dict[Key, Row]] = [
        {(row.model, configuration_of(row.runs[0].record)): row for row in board.rows} for board in boards
    ]
    keys = list(dict.fromkeys(key for board in rows for key in board))
    common = [key for key in keys if all(key in board for board in rows)]
    ranks: list[dict[Key, int]] = []
    for board in rows:
        ordered = sorted(common, key=lambda key: (-(board[key].mean(metric) or 0.0), key))
        ranks.append({key: number for number, key in enumerate(ordered, start=1)})
    standings = [
        RankRow(
            model=key[0],
            note=next(board[key].note for board in rows if key in board),
            ranks=tuple(ranked.get(key) for ranked in ranks),
            rows=tuple(board.get(key) for board in rows),
        )
        for key in sorted(keys, key=lambda key: (key not in common, ranks[0].get(key, 0), key))
    ]
    tau = tuple(_tau([(ranks[0][key], ranked[key]) for key in common]) for ranked in ranks[1:])
    protocols = tuple(board.protocol for board in boards)
    return ProtocolComparison(boards[0].dataset.name, metric, protocols, _labels(protocols), tuple(standings), tau)


def _tau(ranks: Sequence[tuple[int, int]]) -> float | None:
    """Of the two ranks of each row, without ties: (agreeing pairs - disagreeing pairs) / pairs.

    >>> _tau([(1, 1), (2, 3), (3, 2)])
    0.3333333333333333
    """
    signs = [1 if (a < b) == (c < d) else -1 for (a, c), (b, d) in combinations(ranks, 2)]
    return sum(signs) / len(signs) if signs else None


def _labels(protocols: Sequence[ProtocolInfo]) -> tuple[str, ...]:
    """The protocol's name, with the fields that distinguish protocols of one name."""
    labels = []
    for protocol in protocols:
        named_alike = [other for other in protocols if other.name == protocol.name]
        fields = [
            f"{field}={getattr(protocol, field)}"
            for field in ("cut", "max_history", "exclude_history")
            if len({getattr(other, field) for other in named_alike}) > 1
        ]
        labels.append(" ".join([protocol.name, *fields]))
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
    first, *rest = crossing.labels
    ranked = sum(standing.ranks[0] is not None for standing in crossing.standings)
    notes = []
    for number, (label, tau) in enumerate(zip(rest, crossing.tau, strict=True)):
        if tau is None:
            notes.append(f"{label}: fewer than two configurations in common with {first}, no order to compare")
            continue
        changed = sum(bool(standing.moved[number]) for standing in crossing.standings)
        notes.append(
            f"{label}: {changed} of {ranked} configurations change their place against {first}, Kendall's tau {tau:.2f}"
        )
    return tuple(notes)


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
