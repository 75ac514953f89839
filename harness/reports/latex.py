"""LaTeX booktabs tables in a complete document; the best is bold, the second underlined."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from markupsafe import Markup

from harness.reports.tables import Column, ReportTable, TableRow
from harness.reports.templating import render_latex

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
