"""Boards as reports: columns, headings and rounding; csv, json and data frames have all digits. `tables` renders the
result. `harness.leaderboard` and `harness.compare` are the functions of these names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.errors import InputError, unknown_name
from harness.protocol.protocol import MAIN_METRIC, METRICS
from harness.reports.comparison import METRICS_SHOWN
from harness.reports.comparison import compare as paired_comparison
from harness.reports.extra_columns import (
    card_notes,
    card_texts,
    comprehension_texts,
    memory_cells,
    memory_notes,
    memory_texts,
)
from harness.reports.lead_tests import DAGGER, FREE, lead_notes, shortcut_note, shortcut_score
from harness.reports.leaderboard import INTEGRITY, Board, Row, cells, select
from harness.reports.published import INCONSISTENT, INCONSISTENT_NOTE, published_boards
from harness.reports.selection import choose
from harness.reports.tables import WIDE, Report, ReportTable, ranking, text_table, to_rich
from harness.reports.values import DIGITS, LEAK, LESS, comma_separated, leak_notes, metric_text, under_tuned, unequal
from harness.store.record import Record
from harness.store.run_store import Store

if TYPE_CHECKING:
    import pandas as pd

# values of `--columns`
SETS = ("quality", "integrity", "cost", "effort", "comprehension", "memory", "card", "command")
NO_ROWS = ("dataset", "board", *cells(Row("", "", (), {}, {}, {})))  # columns of a csv file without rows
SHOWN = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr@10")
# columns that are dropped on a narrow terminal, in this order
DROPPED = ("parameters", "peak MB", "users/s", "family", "train s", "recall@5", "ndcg@5", "short", "mrr@10")
QUOTED = "§"
QUOTED_NOTE = (
    f"{QUOTED} published by others, not measured here: not ranked, not tested, and its protocol may differ; "
    "second-hand: seen in another work's table alone"
)


def leaderboard(
    dataset: str | None = None, *, metric: str = MAIN_METRIC, results: str | Path = "results", published: bool = False
) -> pd.DataFrame:
    """All stored runs (of one data set, by name or folder) as a DataFrame, best first within each board.

    Columns: dataset, board (fingerprint of the rules and data: rows of different boards are not comparable), rank,
    model, family, n (seeds), one a metric with its `_std`, short, invalid, duplicate, seen, collision_rate,
    code_level_delta_ndcg@10, code_level_delta_recall@10, train_s, users_per_s, peak_mb, parameters, trials, search_s
    (of `harness tune`), passes (over the training data), note, leaks; where a language model was measured also
    `comprehension.STAGE.FIGURE`. `published` adds the papers' rows, without a rank, with `published.hand`,
    `published.source` and the known fields of their protocol. Raises `InputError` for an unknown metric or data set.
    """
    import pandas as pd

    boards = (published_boards if published else select)(Store(Path(results)), dataset, metric)
    rows = report(boards, metric).rows()
    return pd.DataFrame(rows, columns=None if rows else list(NO_ROWS))


def compare(
    *runs: str, dataset: str | None = None, metrics: Sequence[str] = METRICS_SHOWN, results: str | Path = "results"
) -> pd.DataFrame:
    """Stored runs against each other, paired by user: a row for each pair and metric.

    `runs` are run ids or their beginnings, names of models (all their seeds), or ids of one configuration with commas.
    Columns: a, b, metric, the means and their difference with its interval, p, p_corrected (for the number of rows),
    significant, p_seeds. Raises `InputError` where runs are unknown or cannot be compared.
    """
    import pandas as pd

    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS, where="harness.compare")
    if len(runs) < 2:
        raise InputError("at least two runs are needed", where="harness.compare")
    location = dataset if dataset is not None and Path(dataset).is_dir() else None
    comparison = paired_comparison(choose(Store(Path(results)), list(runs), dataset), tuple(metrics), location)
    return pd.DataFrame(comparison.document()["comparisons"])


def report(boards: Sequence[Board], metric: str, columns: Sequence[str] = (), metrics: Sequence[str] = ()) -> Report:
    """The boards in every format; the CSV file has one line for each row of a board."""
    return Report(
        lambda: [sheet(board, metric, columns, metrics) for board in boards],
        lambda: _document(boards, metric),
        lambda: [
            {
                "dataset": board.dataset.name,
                "board": board.protocol.fingerprint,
                **cells(row),
                **_card(row),
                **memory_cells(row),
            }
            for board in boards
            for row in board.rows
        ],
        NO_ROWS,
    )


def _document(boards: Sequence[Board], metric: str) -> list[dict[str, Any]]:
    return [
        {
            "dataset": {"name": board.dataset.name} if board.published_only else board.dataset.model_dump(),
            "protocol": None if board.published_only else board.protocol.model_dump(),
            "metric": metric,
            "apart": board.incomparable_because,
            "shortcut_score": shortcut_score(board.rows, metric),
            "effort": unequal(board.efforts),
            "leads": [pair.document() for pair in board.leads],
            "untested": board.untested,
            **({"card": board.card} if board.card else {}),
            **({"ties": board.ties} if board.ties else {}),
            "rows": [
                {**cells(row), "leaks": list(row.leaks), "seeds": list(row.seeds), "run_ids": list(row.run_ids)}
                | ({"command": row.command} if row.command else {})
                | ({"card": row.card} if row.card else {})
                | ({"memory": row.memory} if row.memory else {})
                for row in board.rows
            ],
        }
        for board in boards
    ]


def _card(row: Row) -> dict[str, float | None]:
    """The means of the report card, if any."""
    if not row.card:
        return {}
    groups = {part["name"]: part["mean"] for part in row.card["groups"]}
    return {f"card.{name}": value for name, value in (groups | row.card["lists"]).items()}


def check_columns(text: str | None) -> tuple[str, ...]:
    """The column sets that `--columns a,b` names, in that order; empty for None. Raises `InputError`."""
    names = comma_separated(text)
    for name in names:
        if name not in SETS:
            raise unknown_name("column set", name, SETS, where="--columns")
    if text is not None and not names:
        hint = f"choose from {', '.join(SETS)}"
        raise InputError("names no column set", where="--columns", hint=hint, code="unknown-name")
    return names


def shown_metrics(metric: str, metrics: Sequence[str] = ()) -> tuple[str, ...]:
    """The metrics of a board that is ordered by `metric`: the requested ones, else the default ones."""
    if metrics:
        return tuple(dict.fromkeys((*metrics, metric)))
    return SHOWN if metric in SHOWN else (*SHOWN, metric)


def row_texts(
    row: Row,
    metric: str,
    columns: Sequence[str] = (),
    metrics: Sequence[str] = (),
    *,
    is_less: bool = False,
    free: bool = False,
) -> dict[str, str]:
    """One formatted row, by column; the column of `metric` is always included. Without `columns`: quality, one column
    of integrity, and cost. `is_less`: other models had more trials. `free`: it is marked as training-free."""
    quality = {name: metric_text(row.mean(name), row.std(name)) for name in shown_metrics(metric, metrics)}
    short = [str(row.integrity["short"])] if row.integrity else []
    broken = [f"{name} {count}" for name in ("invalid", "duplicate") if (count := row.integrity.get(name))]
    sets: dict[str, dict[str, str]] = {
        "quality": quality,
        "by": {metric: quality[metric]},
        "broken": {"short": ", ".join([*short, *broken])},
        "integrity": {
            **{name: _number(row.integrity.get(name), 0) for name in INTEGRITY},
            "collisions": "" if (rate := row.codes.get("collision_rate")) is None else f"{rate:.2%}",
            "code Δ ndcg@10": _number(row.codes.get("code_level_delta_ndcg@10"), DIGITS),
            "code Δ recall@10": _number(row.codes.get("code_level_delta_recall@10"), DIGITS),
        },
        "cost": {
            "train s": _number(row.cost.get("train_s"), 1),
            "users/s": _number(row.cost.get("users_per_s"), 0),
            "peak MB": _number(row.cost.get("peak_mb"), 0),
            "parameters": _count(row.cost.get("parameters")),
        },
        "effort": {
            "trials": _number(row.effort.trials, 0),
            "search s": _number(row.effort.seconds, 0),
            "passes": _number(row.passes, 1),
        },
        "comprehension": comprehension_texts(row.comprehension),
        "memory": memory_texts(row),
        "card": card_texts(row),
        "command": {"command": row.command},
    }
    selected = tuple(columns) or ("quality", "broken", "cost")
    selected = selected if "quality" in selected else ("by", *selected)
    inconsistent = row.quoted.get(INCONSISTENT)
    marks = ((LEAK, row.leaks), (LESS, is_less), (QUOTED, row.quoted), (INCONSISTENT, inconsistent), (FREE, free))
    return {
        "#": str(row.rank or ""),
        "model": " ".join([row.model, *(mark for mark, applies in marks if applies)]),
        "family": row.family,
        "n": str(len(row.seeds)) if row.seeds else "",
        **{name: text for part in selected for name, text in sets[part].items()},
        "note": row.note,
    }


def sheet(board: Board, metric: str, columns: Sequence[str] = (), metrics: Sequence[str] = ()) -> ReportTable:
    """A board, ready to print. The best of each metric is marked among the ranked rows that do not leak."""
    fewer = under_tuned(board.efforts)
    shortcut = shortcut_note(board.rows, metric)
    texts = [
        row_texts(
            row,
            metric,
            columns,
            metrics,
            is_less=row.model in fewer and row.rank is not None,
            free=bool(shortcut) and row.training_free and row.rank is not None,
        )
        for row in board.rows
    ]
    marks = {
        name: ranking([row.mean(name) if row.fair else None for row in board.rows])
        for name in texts[0]
        if name in {*METRICS, *metrics, metric}
    }
    for pair in board.leads:
        if pair.significant and pair.metric in marks:
            texts[marks[pair.metric].index("best")][pair.metric] += DAGGER
    messages = (
        board.incomparable_because,
        shortcut,
        *lead_notes(board),
        tie_note(board, metric),
        *leak_notes(text for row in board.rows for text in row.leaks),
        unequal(board.efforts),
        QUOTED_NOTE if any(row.quoted for row in board.rows) else "",
        INCONSISTENT_NOTE if any(row.quoted.get(INCONSISTENT) for row in board.rows) else "",
        *memory_notes(board),
        *card_notes(board),
    )
    return text_table(
        title(board, metric),
        texts,
        left=("model", "family"),
        wraps=("note", "command"),
        main=metric,
        drop=() if columns else [name for name in DROPPED if name not in (*metrics, metric)],
        notes=filter(None, messages),
        apart=[row.rank is None for row in board.rows],
        marks=marks,
    )


def tie_note(board: Board, metric: str) -> str:
    """Effect of other orders of equal times on the training-free rows; empty if `harness verify --tie-seeds` was not
    run."""
    models = board.ties.get("models", {})
    spreads = {model: values[metric] for model, values in models.items() if metric in values}
    if not spreads:
        return ""
    parts = [f"{model} sd {one['sd']:.4f} ({one['min']:.4f} to {one['max']:.4f})" for model, one in spreads.items()]
    orders = [order for order in board.ties["orders"] if order["tie_seed"] is not None]
    moved = sum(order["test_targets_moved"] for order in orders) / len(orders)
    return (
        f"Order of equal times: {len(orders)} other orders move {moved:.1%} of the test targets; "
        f"{metric} of {', '.join(parts)}"
    )


def place_text(board: Board, row: Row, metric: str) -> str:
    """A row's rank, as a sentence."""
    ranked = sum(other.rank is not None for other in board.rows)
    mean = metric_text(row.mean(metric), row.std(metric))
    leaks = "".join(f"; {text}" for text in leak_notes(row.leaks, "it leaks"))
    return f"{row.model} is number {row.rank} of {ranked} on {board.dataset.name}, {metric} {mean}{leaks}"


def title(board: Board, metric: str) -> str:
    """The title of a board."""
    data, rules = board.dataset, board.protocol
    if board.published_only:
        split = f" ({rules.name})" if rules.name else ""
        return f"{data.name}{split} · published rows alone, no such run is stored here · by {metric}"
    selected = ", history taken out of the lists" if rules.exclude_history else ""
    size = f"{data.users:,} users, {data.items:,} items"
    return f"{data.name} ({size}) · {rules.name}, history {rules.max_history}{selected} · by {metric}"


def metrics_table(record: Record) -> Table:
    """The metrics of one run, test and validation."""
    seed = "" if record.seed is None else f", seed {record.seed}"
    folds = (("test", record.metrics.test), ("valid", record.metrics.valid))
    rows = [{"": fold, **{name: metric_text(entries[name]) for name in METRICS}} for fold, entries in folds if entries]
    return to_rich(text_table(f"{record.model} on {record.dataset.name}{seed}", rows, left=("",)), WIDE)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _count(value: float | None) -> str:
    if value is None:
        return ""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{value:.0f}"
