"""How a leaderboard looks: table, markdown, csv, json. The only place that rounds; csv and json keep every digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, unknown_name
from harness.protocol.protocol import METRICS
from harness.reports.leaderboard import Board, Row, cells, place
from harness.store.records import Record

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

FORMATS = ("table", "markdown", "latex", "csv", "json", "html")
LATER = ("latex", "html")
SHOWN = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr@10")
LEFT = {"model", "family", "note"}
# columns that a narrow terminal goes without, the first of these first
DROPPED = ("parameters", "peak MB", "users/s", "family", "train s", "recall@5", "ndcg@5", "short", "mrr@10")
NOTE_WIDTH = 20  # a longer note is wrapped
DIGITS = 4
WIDE = 240  # columns of text of a table in a file


def check_format(name: str) -> str:
    """A format that can be rendered; `InputError` for others, before anything is computed."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS, where="--format")
    if name in LATER:
        ready = ", ".join(entry for entry in FORMATS if entry not in LATER)
        raise InputError(f"format {name!r} is not there yet", where="--format", mend=f"choose {ready}")
    return name


def render(boards: Sequence[Board], form: str, metric: str) -> str:
    """The boards as text that ends with a line break. Raises `InputError` as `check_format` does."""
    writers = {"table": _table_text, "markdown": _markdown, "csv": _csv, "json": _json}
    return writers[check_format(form)](boards, metric)


def metric_text(mean: float | None, std: float | None = None) -> str:
    """A metric as it is shown: four digits, `±` where there are several seeds, a dash where there is nothing."""
    if mean is None:
        return "-"
    return f"{mean:.{DIGITS}f}" if std is None else f"{mean:.{DIGITS}f} ± {std:.{DIGITS}f}"


def row_texts(row: Row, metric: str) -> dict[str, str]:
    """One row as it is shown, by column; the column of `metric` is always among them."""
    shown = SHOWN if metric in SHOWN else (*SHOWN, metric)
    return {
        "#": str(row.rank or ""),
        "model": row.model,
        "family": row.family,
        "n": str(len(row.seeds)) if row.seeds else "",
        **{name: metric_text(row.mean(name), row.std(name)) for name in shown},
        "short": _integrity(row),
        "train s": _number(row.cost.get("train_s"), 1),
        "users/s": _number(row.cost.get("users_per_s"), 0),
        "peak MB": _number(row.cost.get("peak_mb"), 0),
        "parameters": _count(row.cost.get("parameters")),
        "note": row.note,
    }


def place_text(board: Board, row: Row, metric: str) -> str:
    """Where a row stands, in words."""
    ranked = sum(other.rank is not None for other in board.rows)
    mean = metric_text(row.mean(metric), row.std(metric))
    return f"{row.model} is number {row.rank} of {ranked} on {board.dataset.name}, {metric} {mean}"


def title(board: Board, metric: str) -> str:
    """What a board is of."""
    data, rules = board.dataset, board.protocol
    taken = ", history taken out of the lists" if rules.exclude_history else ""
    size = f"{data.users:,} users, {data.items:,} items"
    return f"{data.name} ({size}) · {rules.name}, history {rules.max_history}{taken} · by {metric}"


def table(boards: Sequence[Board], metric: str, width: int) -> Group:
    """The boards as rich tables of at most `width` columns of text, where the fewest columns allow it."""
    from rich.console import Group
    from rich.markup import escape
    from rich.text import Text

    parts: list[Any] = []
    for board in boards:
        rows = [row_texts(row, metric) for row in board.rows]
        drawn = _frame(title(board, metric))
        columns = _fitting(rows, metric, width)
        for name in columns:
            style = "bold" if name == metric else None
            drawn.add_column(
                name, justify="left" if name in LEFT else "right", style=style, no_wrap=name != "note", overflow="fold"
            )
        for row, texts in zip(board.rows, rows, strict=True):
            drawn.add_row(*(escape(texts[name]) for name in columns), style=None if row.rank else "dim")
        parts += [drawn, *([Text(board.apart, style="yellow")] if board.apart else [])]
    return Group(*parts)


def metrics_table(record: Record) -> Table:
    """The metrics of one run, test and validation."""
    seed = "" if record.seed is None else f", seed {record.seed}"
    drawn = _frame(f"{record.model} on {record.dataset.name}{seed}")
    drawn.add_column("")
    for name in METRICS:
        drawn.add_column(name, justify="right")
    for fold, metrics in (("test", record.metrics.test), ("valid", record.metrics.valid)):
        if metrics:
            drawn.add_row(fold, *(metric_text(metrics[name]) for name in METRICS))
    return drawn


def _frame(heading: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    return Table(title=escape(heading), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _fitting(rows: Sequence[Mapping[str, str]], metric: str, width: int) -> list[str]:
    columns = list(rows[0])
    for dropped in ("", *DROPPED):
        if dropped in columns and dropped != metric:
            columns.remove(dropped)
        widths = [max(len(name), *(len(row[name]) for row in rows)) for name in columns]
        needed = sum(
            min(size, NOTE_WIDTH) if name == "note" else size for name, size in zip(columns, widths, strict=True)
        )
        if needed + 3 * len(columns) <= width:
            break
    return columns


def _table_text(boards: Sequence[Board], metric: str) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDE, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(table(boards, metric, WIDE))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _markdown(boards: Sequence[Board], metric: str) -> str:
    lines = []
    for board in boards:
        rows = [row_texts(row, metric) for row in board.rows]
        lines += [f"**{title(board, metric)}**", ""]
        lines.append("| " + " | ".join(rows[0]) + " |")
        lines.append("| " + " | ".join("---" if name in LEFT else "---:" for name in rows[0]) + " |")
        lines += ["| " + " | ".join(text.replace("|", "\\|") for text in row.values()) + " |" for row in rows]
        lines += ["", *([board.apart, ""] if board.apart else [])]
    return "\n".join(lines).rstrip("\n") + "\n"


def _csv(boards: Sequence[Board], metric: str) -> str:
    out = io.StringIO()
    rows = [{**place(board), **cells(row)} for board in boards for row in board.rows]
    empty = {"dataset": "", "board": "", **cells(Row("", "", (), {}, {}, {}))}
    writer = csv.DictWriter(out, list(empty), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _json(boards: Sequence[Board], metric: str) -> str:
    document = [
        {
            "dataset": board.dataset.model_dump(),
            "protocol": board.protocol.model_dump(),
            "metric": metric,
            "apart": board.apart,
            "rows": [{**cells(row), "seeds": list(row.seeds), "run_ids": list(row.run_ids)} for row in board.rows],
        }
        for board in boards
    ]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _integrity(row: Row) -> str:
    broken = [f"{name} {row.integrity[name]}" for name in ("invalid", "duplicate") if row.integrity.get(name)]
    short = row.integrity.get("short")
    return ", ".join([*([str(short)] if short is not None else []), *broken])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _count(value: float | None) -> str:
    if value is None:
        return ""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{value:.0f}"
