"""The papers' own rows, for the side of a leaderboard: quoted, marked, never ranked with what was measured here.

`RESULTS/published/*.csv` has the columns dataset, model, source, and any of the protocol's metrics; others are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.errors import InputError
from harness.protocol.protocol import METRICS
from harness.reports.leaderboard import Board, Row

FAMILY = "published"
NEEDED = ("dataset", "model", "source")


def with_published(found: Sequence[Board], results: Path) -> list[Board]:
    """The boards, each with the published rows of its data set below its own. Raises `InputError` for a bad file."""
    quoted = read_published(results)
    return [
        replace(board, rows=(*board.rows, *(row for name, row in quoted if name == board.dataset.name)))
        for board in found
    ]


def read_published(results: Path) -> list[tuple[str, Row]]:
    """All published rows, each with the name of its data set."""
    rows = []
    for path in sorted((results / FAMILY).glob("*.csv")):
        with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
                raise InputError(f"no column {missing[0]!r}", where=f"{path} line 1", mend=f"needs {', '.join(NEEDED)}")
            for line in reader:
                if None in line or None in line.values():
                    raise InputError("not as many cells as columns", where=f"{path} line {reader.line_num}")
                metrics = {name: [_number(line[name], path, reader.line_num)] for name in METRICS if line.get(name)}
                note = f"published: {line['source']}"
                rows.append((line["dataset"], Row(line["model"], FAMILY, (), metrics, {}, {}, note=note)))
    return rows


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"not a readable CSV file ({error})", where=str(path), mend="save it as UTF-8 CSV") from error


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f"{text!r} is not a number from 0 to 1", where=f"{path} line {line}")
    return value
