"""Output: results on stdout, everything else on stderr; with `--json`, stdout is exactly one document.

`print_summary` prints the metrics of runs and their place in the leaderboard.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import files
from harness.errors import InputError, escape_control

if TYPE_CHECKING:
    from rich.console import Console

    from harness.runs.run import Finished
    from harness.store.run_store import Store


WIDE = 240  # width of a table outside a terminal


def replace_unencodable() -> None:
    """Makes stdout and stderr print `?` for characters outside their encoding (ASCII, Windows code pages)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def log(line: str) -> None:
    """Prints one line on stderr, with control characters escaped."""
    print(escape_control(line), file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Prints the document; as ASCII if stdout cannot encode Unicode."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().replace("-", "").startswith("utf")
    print(json.dumps(document, indent=2, ensure_ascii=not is_unicode, allow_nan=False))


def console(*, as_json: bool = False) -> Console:
    """Console for tables: stdout, or stderr next to a JSON document."""
    from rich.console import Console

    terminal = (sys.stderr if as_json else sys.stdout).isatty()
    return Console(stderr=as_json, width=None if terminal else WIDE, highlight=False)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows of plain values under `columns` (key to heading), on stdout."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for key, heading in columns.items():
        numeric = all(isinstance(row[key], (int, float)) and not isinstance(row[key], bool) for row in rows)
        table.add_column(heading, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_text(row[key])) for key in columns))
    print_plain(table)


def print_plain(sample: Any, *, as_json: bool = False) -> None:
    """Prints a renderable, outside a terminal without trailing blanks."""
    target = console(as_json=as_json)
    if target.is_terminal:
        target.print(sample)
        return
    with target.capture() as captured:
        target.print(sample)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(lines), file=sys.stderr if as_json else sys.stdout)


def check_new_folder(path: Path) -> None:
    """Raises `InputError` unless `path` is free or an empty folder; called before any computation."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError("not an empty folder", where=str(path), hint="name a new one", code="already-exists")


def check_output(path: Path | None) -> None:
    """Raises `InputError` if the path of `-o` is a folder; called before any computation."""
    if path is not None and path.is_dir():
        raise InputError("the path is a folder", where=str(path), hint="name a file in it", code="cannot-write")


def write_output(path: Path, text: str) -> None:
    """Writes the file of `-o`; creates its folders. Raises `InputError` if it cannot be written."""
    files.write_text(path, text, "choose another place with -o")
    log(f"written to {path}")


@contextmanager
def stdout_kept() -> Iterator[None]:
    """For the block, output of libraries and child processes to stdout goes to stderr."""
    sys.stdout.flush()
    original, saved = sys.stdout, os.dup(1)
    try:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        yield
    finally:
        sys.stdout = original
        os.dup2(saved, 1)
        os.close(saved)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else escape_control(str(value))


def print_summary(done: Sequence[Finished], store: Store, *, as_json: bool) -> None:
    """Tables on stdout, or on stderr next to the JSON document (a list for several runs)."""
    from harness.protocol.protocol import MAIN_METRIC
    from harness.reports import formats
    from harness.reports.leaderboard import boards, standing

    for finished in done:
        if finished.reused:
            log(f"{finished.record.run_id} is complete already, from {finished.record.finished:%Y-%m-%d %H:%M} UTC")
        print_plain(formats.metrics_table(finished.record), as_json=as_json)
    record = done[-1].record
    selected_boards = boards(store.query(record.dataset.name), MAIN_METRIC)
    board, row = standing(selected_boards, record.run_id)
    width = console(as_json=as_json).width
    print_plain(formats.table([board], MAIN_METRIC, width), as_json=as_json)
    print_plain(formats.place_text(board, row, MAIN_METRIC), as_json=as_json)
    for finished in done:
        log(f"stored in {finished.path}")
    if as_json:
        documents = [finished.document() for finished in done]
        print_json(documents if len(documents) > 1 else documents[0])
