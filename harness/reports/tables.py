"""`ReportTable`: a table of formatted text with marks (best, second). Each output format renders the same table.

Numbers are rounded before; each format escapes the text and renders the marks. Documents are one self-contained HTML
page (light and dark, without scripts or external resources) or LaTeX booktabs tables, by jinja2 templates that escape
every value unless it is `Markup`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.errors import escape_control, unknown_name
from harness.reports.values import DIGITS

Mark = Literal["", "best", "second"]
NOTE_WIDTH = 20  # a longer note is wrapped
FORMATS = ("table", "markdown", "latex", "csv", "json", "html")
WIDE = 240  # characters of a table's line in a file
MANY = 200  # so many rows are written as plain columns, since drawing takes a millisecond a row
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # behind \\ a bracket would begin an option
    "]": "{]}",
    "<": r"\textless{}",  # these three are other characters without T1 fonts
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2060": "{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "Δ": r"$\Delta$",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "‡": r"$\ddagger$",
    "†": r"$^{\dagger}$",
    "\u2013": "--",
    "…": r"\ldots{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
WRAPPED = 25  # characters in a column of 4 cm; the template uses a smaller size for tables of more than 140 characters
LAST_LATIN = "\u017f"  # last character of T1 fonts


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

    def width(self, place: int) -> int:
        """Characters of the widest cell of a column, its heading included."""
        return max([len(self.columns[place].name), *(len(line.texts[place]) for line in self.lines)])


def text_table(
    title: str,
    rows: Sequence[Mapping[str, str]],
    *,
    left: Collection[str] = (),
    wraps: Collection[str] = (),
    main: str = "",
    drop: Sequence[str] = (),
    notes: Iterable[str] = (),
    apart: Sequence[bool] = (),
    marks: Mapping[str, Sequence[Mark]] | None = None,
) -> ReportTable:
    """The table of `rows`, at least one, which map column names to texts. `wraps`: left-aligned columns of long text;
    `drop`: columns that a narrow terminal drops, in this order; `apart`: of each row, if any is shown apart; `marks`:
    of each row, by column, where it has marks."""
    columns = [
        Column(
            name,
            left=name in left or name in wraps,
            wraps=name in wraps,
            main=name == main,
            drop=drop.index(name) if name in drop else None,
        )
        for name in rows[0]
    ]
    marked = marks or {}
    lines = [
        TableRow(
            tuple(row.values()),
            tuple(marked[name][number] if name in marked else "" for name in row),
            apart=bool(apart) and apart[number],
        )
        for number, row in enumerate(rows)
    ]
    return ReportTable(title, tuple(columns), tuple(lines), tuple(notes))


def ranking(values: Sequence[float | None]) -> list[Mark]:
    """Marks the highest and the second highest value; values that are printed alike share a mark.

    >>> ranking([0.1, None, 0.3, 0.30001, 0.2])
    ['', '', 'best', 'best', 'second']
    """
    rounded = [None if value is None else round(value, DIGITS) for value in values]
    order = sorted({value for value in rounded if value is not None}, reverse=True)[:2]
    names: dict[float | None, Mark] = dict(zip(order, ("best", "second"), strict=False))
    return [names.get(value, "") for value in rounded]


def to_rich(sheet: ReportTable, width: int) -> Table:
    """The sheet as a rich table of at most `width` characters, if the columns that cannot be dropped fit."""
    table = Table(title=escape(escape_control(sheet.title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    places = fitting(sheet, width)
    for column in (sheet.columns[place] for place in places):
        table.add_column(
            escape(escape_control(column.name)),
            justify="left" if column.left else "right",
            style="bold" if column.main else None,
            no_wrap=not column.wraps,
            overflow="fold",
        )
    for line in sheet.lines:
        cells = [Text(escape_control(line.texts[place])) for place in places]
        table.add_row(*cells, style="dim" if line.apart else None)
    return table


def sheets_drawn(sheets: Sequence[ReportTable], width: int) -> Group:
    """Sheets for a terminal, their notes below them."""
    parts: list[Any] = []
    for sheet in sheets:
        long = len(sheet.lines) >= MANY
        parts.append(Text(plain(sheet, width), overflow="fold") if long else to_rich(sheet, width))
        parts += [Text(note, style="yellow") for note in sheet.notes]
    return Group(*parts)


def fitting(sheet: ReportTable, width: int) -> list[int]:
    """Places of the columns that are shown: droppable ones are removed until the rest fits."""
    widths = {
        place: min(sheet.width(place), NOTE_WIDTH) if column.wraps else sheet.width(place)
        for place, column in enumerate(sheet.columns)
    }
    droppable = [(column.drop, place) for place, column in enumerate(sheet.columns) if column.drop is not None]
    for _, place in sorted(droppable):
        if sum(widths.values()) + 3 * len(widths) <= width:
            break
        del widths[place]
    return list(widths)


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
        heads = [markdown_text(column.name) for column in sheet.columns]
        rules = ["---" if column.left else "---:" for column in sheet.columns]
        rows = [heads, rules, *map(_markdown_cells, sheet.lines)]
        out += [f"**{markdown_text(sheet.title)}**", "", *(f"| {' | '.join(cells)} |" for cells in rows), ""]
        for note in sheet.notes:
            out += [markdown_text(note), ""]
    return "\n".join(out).rstrip("\n") + "\n"


def markdown_text(text: str) -> str:
    r"""Escapes text for Markdown.

    >>> print(markdown_text("a_b | <c>"))
    a\_b \| \<c>
    """
    return re.sub(r"([\\|*_`<\[&~$])", r"\\\1", escape_control(" ".join(text.split())))


def _markdown_cells(line: TableRow) -> list[str]:
    texts = [markdown_text(text) for text in line.texts]
    marks = ["*" if line.apart else "**" if line.mark(place) == "best" else "" for place in range(len(texts))]
    return [f"{mark}{text}{mark}" if text else "" for text, mark in zip(texts, marks, strict=True)]


def render(template: str, **values: Any) -> str:
    """The template with values, which are escaped in a template of HTML."""
    return _templates().get_template(template).render(**values)


@cache
def _templates(**options: Any) -> Environment:
    return Environment(
        loader=PackageLoader("harness.reports"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


def html(sheets: Sequence[ReportTable], title: str = "Leaderboard") -> str:
    """One page; the best value is bold, the second underlined, rows that are not compared are in italics."""
    return render("tables.html", sheets=sheets, title=title, cell_attributes=cell_attributes)


def cell_attributes(column: Column, mark: Mark, text: str, sorts: bool) -> Markup:
    """The attributes of a `td`: its classes, and with `sorts` its sort key."""
    names = [*(["left"] if column.left else []), *(["wraps"] if column.wraps else []), *([mark] if mark else [])]
    key = sort_key(text) if sorts else None
    classes = f' class="{" ".join(names)}"' if names else ""
    return Markup(classes if key is None else f'{classes} data-key="{key:.10g}"')


def sort_key(text: str) -> float | None:
    """The number by which a cell is sorted: its first, or the first behind an arrow; None for text.

    >>> sort_key("0.0729 ± 0.0003"), sort_key("1,234.5"), sort_key("135.7M"), sort_key("40 → 30"), sort_key("0.12%")
    (0.0729, 1234.5, 135700000.0, 30.0, 0.12)
    >>> sort_key("-"), sort_key("2 models"), sort_key("+0.0100*")
    (None, None, 0.01)
    """
    match = re.fullmatch(
        r"([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)([kMB]?)[%*†]?(?:(?: ±|,| of ).*)?", text.rpartition("→ ")[2]
    )
    if match is None:
        return None
    return float(match.group(1).replace(",", "")) * UNITS[match.group(2)]


def escaped(text: str) -> str:
    r"""Escapes text for LaTeX; characters that its fonts lack become their plain form, or a question mark.

    >>> print(escaped("a_b & 5% ± 1"), escaped("run --seed 1"))
    a\_b \& 5\% $\pm$ 1 run -{}-seed 1
    """
    separate = re.sub("-(?=-)", "-\u2060", " ".join(text.split()))  # two hyphens in a row would print as a dash
    return "".join(SPECIAL.get(character) or _letter(character) for character in separate)


def latex(sheets: Sequence[ReportTable]) -> str:
    """One `table` environment a sheet, with its notes below. Delimiters of the template: `<% %>`, `<< >>`, `<# #>`."""
    templates = _templates(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        finalize=_latex_value,
    )
    helpers = {"width": _width, "column_types": _column_types, "cell": _cell}
    return templates.get_template("tables.tex").render(sheets=sheets, **helpers)


def _latex_value(value: Any) -> str:
    return value if isinstance(value, Markup) else escaped(str(value))


def _width(sheet: ReportTable) -> int:
    """Characters of a row of the widest cells; a wrapping column has a fixed width."""
    return sum(WRAPPED if column.wraps else sheet.width(place) for place, column in enumerate(sheet.columns))


def _column_types(sheet: ReportTable) -> Markup:
    wrapped = r">{\raggedright\arraybackslash}p{4cm}"
    return Markup("".join(wrapped if column.wraps else "l" if column.left else "r" for column in sheet.columns))


def _cell(column: Column, line: TableRow, place: int) -> Markup:
    """A cell in LaTeX: marked as best or second, in italics where the row is not compared."""
    text = escaped(line.texts[place])
    if not text:
        return Markup()
    styles = {"best": r"\textbf{%s}", "second": r"\underline{%s}"}
    text = (r"\textit{%s}" if line.apart else styles.get(line.mark(place), "%s")) % text
    if column.wraps:  # a line may break after the characters that join a setting's name and value
        for sign in (".", "=", r"\_"):
            text = text.replace(sign, sign + r"\allowbreak{}")
    return Markup(text)


def _letter(character: str) -> str:
    if character <= LAST_LATIN and character.isprintable():
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else "?"


SHEETS: dict[str, Callable[[Sequence[ReportTable]], str]] = {
    "table": table_text,
    "markdown": markdown,
    "latex": latex,
    "html": html,
}


def check_format(name: str) -> str:
    """Checks a format's name. Raises `InputError`; called before anything is computed."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS, where="--format")
    return name


@dataclass(frozen=True)
class Report:
    """One result for every format: its tables, the JSON document, and the rows of the CSV file under `columns` and all
    others that they have; what a row lacks is empty. Each is a function, called only if its format is asked for."""

    sheets: Callable[[], Sequence[ReportTable]]
    document: Callable[[], Any]
    rows: Callable[[], Sequence[Mapping[str, Any]]]
    columns: tuple[str, ...] = ()

    def text(self, form: str) -> str:
        """The result in a format, with a final line break. Raises `InputError` as `check_format` does."""
        check_format(form)
        if form == "json":
            return json.dumps(self.document(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return self._csv() if form == "csv" else SHEETS[form](self.sheets())

    def _csv(self) -> str:
        out, rows = io.StringIO(), self.rows()
        names = dict.fromkeys([*self.columns, *(name for row in rows for name in row)])
        writer = csv.DictWriter(out, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
