"""The leaderboard: all stored runs of a data set, best first, mean ± standard deviation over seeds.

Runs on different data or protocols are never on one board: each pair of fingerprints has its own, with a description of
the difference. Values are not rounded here (`formats`).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, unknown_name
from harness.protocol.protocol import MAIN_METRIC, METRICS
from harness.reports.selection import config_differences, configuration_of, differing_fields, leaves, stored_name
from harness.reports.values import UNKNOWN, Budget, by_model, grouped, spent
from harness.store.record import DatasetInfo, ProtocolInfo, Record
from harness.store.run_store import Store, StoredRun, with_longest_lists

if TYPE_CHECKING:
    from harness.reports.comparison import Pair


INTEGRITY = ("short", "invalid", "duplicate", "seen")
CODES = {
    "collision_rate": "collision_rate",
    "code_level_delta_ndcg@10": "code_level_delta.ndcg@10",
    "code_level_delta_recall@10": "code_level_delta.recall@10",
}
COST = {
    "train_s": "train_seconds",
    "users_per_s": "eval_users_per_second",
    "peak_mb": "peak_memory_mb",
    "parameters": "parameters",
}


@dataclass(frozen=True)
class Row:
    """One model with one configuration. `metrics`: values of each metric, one a seed; `rank`: None for rows that were
    not measured here; `leaks`: held-out rows that the configuration shows to the model; `codes`: means of `CODES`,
    empty for models without item codes; `effort`: tuning effort; `passes`: passes over the training data, mean over
    seeds, None if not recorded; `command`: command of its runs, `card`: report card, `memory`: stored probe of its
    language model, if requested. `quoted`: source and protocol of a published row; empty for rows measured here."""

    model: str
    family: str
    seeds: tuple[int | None, ...]
    metrics: dict[str, list[float]]
    integrity: dict[str, int]
    cost: dict[str, float]
    runs: tuple[StoredRun, ...] = field(default=(), repr=False)
    rank: int | None = None
    note: str = ""
    comprehension: dict[str, list[float]] = field(default_factory=dict)
    leaks: tuple[str, ...] = ()
    codes: dict[str, float] = field(default_factory=dict)
    effort: Budget = UNKNOWN
    command: str = ""
    quoted: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    passes: float | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(run.record.run_id for run in self.runs)

    @property
    def fair(self) -> bool:
        """Whether it may be the best: measured here, and without leaks."""
        return self.rank is not None and not self.leaks

    @property
    def training_free(self) -> bool:
        return bool(self.runs) and all(run.record.training_free for run in self.runs)

    def mean(self, metric: str) -> float | None:
        """Mean over seeds; None if the row has no value."""
        values = self.metrics.get(metric)
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        values = self.metrics.get(metric) or []
        if len(values) < 2:
            return None
        mean = math.fsum(values) / len(values)  # `statistics.stdev` is thirty times slower (fractions)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


@dataclass(frozen=True)
class Board:
    """Rows that are comparable. `apart`: what distinguishes it from other boards of the data set, if any. `leads`:
    tests of the best row against the second, one a metric; `untested`: why there are none, if requested
    (`harness.reports.lead_tests`). `card`: that of the data set, if requested; `ties`: the stored report of `harness
    verify --tie-seeds`, if any."""

    dataset: DatasetInfo
    protocol: ProtocolInfo
    rows: tuple[Row, ...]
    incomparable_because: str = ""
    leads: tuple[Pair, ...] = ()
    untested: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    ties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def published_only(self) -> bool:
        """Whether all of its rows are published ones; such a board has no data and no protocol of its own."""
        return all(row.quoted for row in self.rows)

    @property
    def efforts(self) -> dict[str, Budget]:
        """The tuning effort of each model that was measured here and has settings."""
        return by_model((row.model, row.effort) for row in self.rows if row.rank is not None)


def boards(runs: Sequence[StoredRun], metric: str = MAIN_METRIC) -> list[Board]:
    """One board for each data set under each protocol, by data set name; the board with most runs of a name first."""
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS, where="--metric")
    fingerprints = grouped(
        runs, lambda run: (run.record.dataset.name, run.record.dataset.fingerprint, run.record.protocol.fingerprint)
    )
    ordered = sorted(fingerprints.items(), key=lambda pair: (pair[0][0], -len(pair[1]), pair[0]))
    result = [_board(group, metric) for _, group in ordered]
    return [replace(board, incomparable_because=_apart(board, result)) for board in result]


def select(store: Store, dataset: str | None, metric: str = MAIN_METRIC, *, every: bool = False) -> list[Board]:
    """The boards of one data set, or of all. A folder means the data set in it. Of runs that differ only in the length
    of their lists the longest is used, unless `every` is set. Raises `InputError` for a data set that is neither stored
    nor known."""
    name = None if dataset is None else stored_name(store, dataset)
    runs = store.query(name)
    return boards(runs if every else with_longest_lists(runs), metric)


def cells(row: Row) -> dict[str, Any]:
    """One row as plain columns, unrounded; None for missing values."""
    numbers: dict[str, Any] = {}
    for metric in dict.fromkeys((*METRICS, *(row.metrics if row.runs else ()))):
        numbers[metric], numbers[f"{metric}_std"] = row.mean(metric), row.std(metric)
    return {
        "rank": row.rank,
        "model": row.model,
        "family": row.family,
        "n": len(row.seeds) or None,
        **numbers,
        **{name: row.integrity.get(name) for name in INTEGRITY},
        **{name: row.codes.get(name) for name in CODES},
        **{name: row.cost.get(name) for name in COST},
        "trials": row.effort.trials,
        "search_s": row.effort.seconds,
        "passes": row.passes,
        "note": row.note,
        "leaks": "; ".join(row.leaks),
        **{f"comprehension.{name}": statistics.fmean(values) for name, values in row.comprehension.items()},
        **{f"published.{name}": text for name, text in row.quoted.items()},
    }


def _board(runs: list[StoredRun], metric: str) -> Board:
    groups: dict[tuple[str, str, int], list[StoredRun]] = {}
    repeats: Counter[tuple[str, str, int | None]] = Counter()
    for run in runs:
        record = run.record
        configuration = configuration_of(record)
        seed = (record.model, configuration, record.seed)
        groups.setdefault((record.model, configuration, repeats[seed]), []).append(run)
        repeats[seed] += record.seed is not None  # the same seed on other files or another order of lines: another row
    messages = config_differences(list(groups.values()))
    rows = [_row(group, note) for group, note in zip(groups.values(), messages, strict=True)]
    rows.sort(key=lambda row: (-(row.mean(metric) or 0.0), row.model, row.run_ids))
    ranked = tuple(replace(row, rank=number) for number, row in enumerate(rows, start=1))
    return Board(runs[0].record.dataset, runs[0].record.protocol, ranked)


def _row(runs: list[StoredRun], note: str) -> Row:
    runs = sorted(runs, key=lambda run: run.record.seed or 0)
    records = [run.record for run in runs]
    costs = {
        name: [value for record in records if (value := getattr(record.cost, key)) is not None]
        for name, key in COST.items()
    }
    first = records[0]
    return Row(
        model=first.model,
        family=first.family,
        seeds=tuple(record.seed for record in records),
        metrics={metric: [record.metrics.test[metric] for record in records] for metric in METRICS},
        integrity={name: max(getattr(record.integrity, name) for record in records) for name in INTEGRITY},
        cost={name: max(v) if name == "peak_mb" else statistics.fmean(v) for name, v in costs.items() if v},
        runs=tuple(runs),
        note="; ".join(filter(None, (_seeds(records), note))),
        comprehension=_comprehension(records),
        leaks=tuple(dict.fromkeys(sentence for record in records for sentence in record.leaks)),
        codes=_codes(records),
        effort=spent(records),
        passes=_passes(records),
    )


def _comprehension(records: Sequence[Record]) -> dict[str, list[float]]:
    """Maps `stage.figure[.part]` to its values, one for every record that has it; only finite numbers."""
    entries: dict[str, list[float]] = {}
    for record in records:
        for name, value in leaves(record.comprehension or {}):
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                entries.setdefault(name, []).append(float(value))
    return entries


def _seeds(records: Sequence[Record]) -> str:
    """The note on a row without a spread over seeds."""
    if len(records) > 1:
        return ""
    members = records[0].details.get("members") if records[0].family == "ensemble" else None
    return f"{len(members)} runs fused" if members else "single seed"


def _passes(records: Sequence[Record]) -> float | None:
    """Mean over seeds of the passes over the training data, summed over stages; None if a record lacks it."""
    counts = []
    for record in records:
        trained = record.details.get("model") or {}
        reports = [trained.get("training"), *(trained.get("stages") or {}).values()]
        parts = [report["passes"] for report in reports if isinstance(report, dict) and "passes" in report]
        counts.append(sum(parts) if parts else trained.get("epochs"))
    return statistics.fmean(counts) if all(isinstance(count, int | float) for count in counts) else None


def _codes(records: Sequence[Record]) -> dict[str, float]:
    """Means over seeds of the records' figures of codes; empty if one record has none."""
    figures = [dict(leaves(record.codes or {})) for record in records]
    values = {name: [v for one in figures if isinstance(v := one.get(key), float)] for name, key in CODES.items()}
    return {name: statistics.fmean(numbers) for name, numbers in values.items() if len(numbers) == len(records)}


def _apart(board: Board, every: Sequence[Board]) -> str:
    """The fields that distinguish this board from the others of the same name; empty if there are none."""
    fields = differing_fields([other for other in every if other.dataset.name == board.dataset.name])
    values = [f"{part}.{name}={getattr(getattr(board, part), name)}" for part, name in fields]
    return "not comparable with the other boards of this data set: " + ", ".join(values) if values else ""


def standing(selected_boards: Sequence[Board], run_id: str) -> tuple[Board, Row]:
    """The board and the row of a run. Raises `InputError` if there is none."""
    for board in selected_boards:
        for row in board.rows:
            if run_id in row.run_ids:
                return board, row
    raise InputError(f"no stored run {run_id}", code="no-runs")
