"""`ReportTable`: a table of formatted text with marks (best, second). Each output format renders the same table.

Numbers are rounded before; each format escapes the text and renders the marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.errors import escape_control

if TYPE_CHECKING:
    from rich.table import Table

Mark = Literal["", "best", "second"]
DIGITS = 4  # digits of a formatted metric
NOTE_WIDTH = 20  # a longer note is wrapped
WIDE = 240  # characters of a table's line in a file
MANY = 200  # longer tables are written as plain columns, since drawing takes a millisecond a row


@dataclass(frozen=True)
class Column:
    """`left`: left-aligned. `wraps`: long text that may take several lines. `main`: the column that rows are ordered
    by. `drop`: order in which columns are dropped on a narrow terminal, the lowest number first; None: never."""

    name: str
    left: bool = False
    wraps: bool = False
    main: bool = False
    drop: int | None = None


@dataclass(frozen=True)
class TableRow:
    """One row: a text and a mark for each column. `apart`: it is shown below the others and not compared with them."""

    texts: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    apart: bool = False

    def mark(self, column: int) -> Mark:
        return self.marks[column] if self.marks else ""


@dataclass(frozen=True)
class ReportTable:
    """A table with a title and notes."""

    title: str
    columns: tuple[Column, ...]
    lines: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()


def ranking(values: Sequence[float | None]) -> list[Mark]:
    """Marks the highest and the second highest of the rounded values; equal values share a mark.

    >>> ranking([0.1, None, 0.3, 0.3, 0.2])
    ['', '', 'best', 'best', 'second']
    """
    order = sorted({value for value in values if value is not None}, reverse=True)[:2]
    names: dict[float, Mark] = dict(zip(order, ("best", "second"), strict=False))
    return [names.get(value, "") if value is not None else "" for value in values]


def to_rich(sheet: ReportTable, width: int) -> Table:
    """The sheet as a rich table of at most `width` characters, if the columns that cannot be dropped fit."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(title=escape(escape_control(sheet.title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    values = fitting(sheet, width)
    for place in values:
        column = sheet.columns[place]
        table.add_column(
            escape(escape_control(column.name)),
            justify="left" if column.left else "right",
            style="bold" if column.main else None,
            no_wrap=not column.wraps,
            overflow="fold",
        )
    for line in sheet.lines:
        table.add_row(
            *(Text(escape_control(line.texts[place])) for place in values), style="dim" if line.apart else None
        )
    return table


def fitting(sheet: ReportTable, width: int) -> list[int]:
    """The columns that are shown: empty ones and droppable ones are removed until the rest fits."""

    def needed(place: int) -> int:
        column = sheet.columns[place]
        size = max([len(column.name), *(len(line.texts[place]) for line in sheet.lines)])
        return min(size, NOTE_WIDTH) if column.wraps else size

    values = list(range(len(sheet.columns)))
    for place in sorted(values, key=lambda place: (sheet.columns[place].drop is None, sheet.columns[place].drop or 0)):
        if sum(map(needed, values)) + 3 * len(values) <= width or sheet.columns[place].drop is None:
            break
        values.remove(place)
    return values


def table_text(sheets: Sequence[ReportTable]) -> str:
    """The sheets as plain columns, for files and for long tables."""
    return "\n".join("\n".join([plain(sheet, WIDE), *sheet.notes, ""]) for sheet in sheets)


def plain(sheet: ReportTable, width: int) -> str:
    """The sheet in columns of text, without its notes; nothing is wrapped."""
    values = fitting(sheet, width)
    heads = [sheet.columns[place] for place in values]
    rows = [[head.name for head in heads], *([line.texts[place] for place in values] for line in sheet.lines)]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def laid(row: Sequence[str]) -> str:
        cells = zip(row, sizes, heads, strict=True)
        return "   ".join(text.ljust(size) if head.left else text.rjust(size) for text, size, head in cells).rstrip()

    rule = "─" * min(width, sum(sizes) + 3 * (len(sizes) - 1))
    return "\n".join(map(escape_control, [sheet.title, laid(rows[0]), rule, *map(laid, rows[1:])]))


def markdown(sheets: Sequence[ReportTable]) -> str:
    """GitHub's tables. The best of a column is bold, rows that are not compared are in italics."""
    out: list[str] = []
    for sheet in sheets:
        out += [f"**{markdown_text(sheet.title)}**", ""]
        out.append("| " + " | ".join(markdown_text(column.name) for column in sheet.columns) + " |")
        out.append("| " + " | ".join("---" if column.left else "---:" for column in sheet.columns) + " |")
        out += ["| " + " | ".join(_marked(line, _markdown_cell)) + " |" for line in sheet.lines]
        out.append("")
        for note in sheet.notes:
            out += [markdown_text(note), ""]
    return "\n".join(out).rstrip("\n") + "\n"


def markdown_text(text: str) -> str:
    r"""Escapes text for Markdown.

    >>> print(markdown_text("a_b | <c>"))
    a\_b \| \<c>
    """
    return re.sub(r"([\\|*_`<\[&~$])", r"\\\1", escape_control(" ".join(text.split())))


def _markdown_cell(text: str, mark: Mark, is_apart: bool) -> str:
    escaped = markdown_text(text)
    if not escaped:
        return ""
    if is_apart:
        return f"*{escaped}*"
    return f"**{escaped}**" if mark == "best" else escaped


def _marked(line: TableRow, write: Callable[[str, Mark, bool], str]) -> list[str]:
    return [write(text, line.mark(place), line.apart) for place, text in enumerate(line.texts)]
