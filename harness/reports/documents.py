"""Tables as documents: one self-contained HTML page (light and dark, without scripts or external resources), and LaTeX
booktabs tables. The jinja2 templates escape every value unless it is `Markup`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from harness.reports.tables import Column, Mark, ReportTable, TableRow


def render_html(template: str, **values: Any) -> str:
    """The HTML template with values; text is escaped for HTML."""
    return _environment(autoescape=True).get_template(template).render(**values)


def render_latex(template: str, escape: Callable[[str], str], **values: Any) -> str:
    """The LaTeX template with values; text is escaped by `escape`. Delimiters: `<% %>`, `<< >>`, `<# #>`."""
    return (
        _environment(
            block_start_string="<%",
            block_end_string="%>",
            variable_start_string="<<",
            variable_end_string=">>",
            comment_start_string="<#",
            comment_end_string="#>",
            finalize=_finalizer(escape),
        )
        .get_template(template)
        .render(**values)
    )


@cache
def _finalizer(escape: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: value if isinstance(value, Markup) else escape(str(value))


@cache
def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("harness.reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


def html(sheets: Sequence[ReportTable], title: str = "Leaderboard") -> str:
    """One page; the best value is bold, the second underlined, rows that are not compared are in italics."""
    return render_html("tables.html", sheets=sheets, title=title, cell_attributes=cell_attributes)


def cell_attributes(column: Column, mark: Mark, text: str, sorts: bool) -> Markup:
    """The attributes of a `td`: its classes, and with `sorts` its sort key."""
    classes = _classes(column.left, column.wraps, mark)
    if not sorts or (key := sort_key(text)) is None:
        return classes
    return Markup(f'{classes} data-key="{key:.10g}"')


@lru_cache
def _classes(left: bool, wraps: bool, mark: Mark) -> Markup:
    names = [name for name, applies in (("left", left), ("wraps", wraps), (mark, mark)) if applies]
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup()


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


def escaped(text: str) -> str:
    r"""Escapes text for LaTeX; characters that its fonts lack become their plain form, or a question mark.

    >>> print(escaped("a_b & 5% ± 1"), escaped("run --seed 1"))
    a\_b \& 5\% $\pm$ 1 run -{}-seed 1
    """
    separate = re.sub("-(?=-)", "-\u2060", " ".join(text.split()))  # two hyphens in a row would print as a dash
    return "".join(SPECIAL.get(character) or _letter(character) for character in separate)


def latex(sheets: Sequence[ReportTable]) -> str:
    """One `table` environment a sheet, with its notes below."""
    return render_latex(
        "tables.tex", escaped, sheets=sheets, width=_width, column_types=_column_types, cell=_cell, separator=_separator
    )


def _width(sheet: ReportTable) -> int:
    """Characters of a row of the widest cells; a wrapping column has a fixed width."""
    columns = enumerate(sheet.columns)
    return sum(
        WRAPPED if column.wraps else max([len(column.name), *(len(line.texts[place]) for line in sheet.lines)])
        for place, column in columns
    )


def _column_types(sheet: ReportTable) -> Markup:
    wrapped = r">{\raggedright\arraybackslash}p{4cm}"
    return Markup("".join(wrapped if column.wraps else "l" if column.left else "r" for column in sheet.columns))


def _separator(is_last: bool) -> Markup:
    return Markup(r" \\" if is_last else " & ")


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
