"""LaTeX: booktabs tables in a document that compiles as it stands; the best is bold, the second underlined."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from harness.reports.tables import Column, Mark, ReportTable, TableRow

HEAD = r"""% Compiles as it stands. In a paper: copy a table, with \usepackage{array,booktabs}.
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{array,booktabs}
\usepackage[landscape,margin=1cm]{geometry}
\begin{document}
"""
FOOT = "\\end{document}\n"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # behind \\ a bracket would begin an option
    "]": "{]}",
    "<": r"\textless{}",  # in a paper without T1 fonts these three are other signs
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
BROAD, WRAPPED = 140, 25  # letters that a landscape page holds in `footnotesize`, and those of a column of 4 cm
LAST_LATIN = "\u017f"  # T1 fonts know the letters up to here


def escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is; a letter that its fonts lack becomes its plain form, or a question mark.

    >>> print(escaped("a_b & 5% ± 1"), escaped("run --seed 1"))
    a\_b \& 5\% $\pm$ 1 run -{}-seed 1
    """
    separate = re.sub("-(?=-)", "-\u2060", " ".join(text.split()))  # two hyphens in a row would print as a dash
    return "".join(SPECIAL.get(character) or _letter(character) for character in separate)


def latex(sheets: Sequence[ReportTable]) -> str:
    """One `table` a sheet; notes stand below it."""
    return HEAD + "".join(map(_table, sheets)) + FOOT


def _table(sheet: ReportTable) -> str:
    kinds = [
        r">{\raggedright\arraybackslash}p{4cm}" if column.wraps else "l" if column.left else "r"
        for column in sheet.columns
    ]
    size, gap = ("footnotesize", 4) if _letters(sheet) <= BROAD else ("scriptsize", 3)
    lines = [
        r"\begin{table}[!ht]",
        rf"\centering\{size}\setlength{{\tabcolsep}}{{{gap}pt}}",
        rf"\caption{{{escaped(sheet.title)}}}",
        rf"\begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}",
        r"\toprule",
        " & ".join(escaped(column.name) for column in sheet.columns) + r" \\",
        r"\midrule",
    ]
    for before, line in zip((None, *sheet.lines), sheet.lines, strict=False):
        if line.apart and before is not None and not before.apart:
            lines.append(r"\midrule")
        lines.append(" & ".join(_cells(line, sheet.columns)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip {escaped(note)}" for note in sheet.notes]
    return "\n".join([*lines, r"\end{table}", "", ""])


def _letters(sheet: ReportTable) -> int:
    """The letters of a row of the widest cells; a column that wraps has its own width."""
    columns = enumerate(sheet.columns)
    return sum(
        WRAPPED if column.wraps else max([len(column.name), *(len(line.texts[place]) for line in sheet.lines)])
        for place, column in columns
    )


def _cells(line: TableRow, columns: Sequence[Column]) -> list[str]:
    cells = [_cell(text, line.mark(place), line.apart) for place, text in enumerate(line.texts)]
    return [_breaking(cell) if column.wraps else cell for cell, column in zip(cells, columns, strict=True)]


def _breaking(text: str) -> str:
    """LaTeX that may break behind the signs that join a setting's name and value."""
    for sign in (".", "=", r"\_"):
        text = text.replace(sign, sign + r"\allowbreak{}")
    return text


def _cell(text: str, mark: Mark, is_apart: bool) -> str:
    text_value = escaped(text)
    if not text_value:
        return ""
    if is_apart:
        return rf"\textit{{{text_value}}}"
    return {"best": rf"\textbf{{{text_value}}}", "second": rf"\underline{{{text_value}}}"}.get(mark, text_value)


def _letter(character: str) -> str:
    if character <= LAST_LATIN and character.isprintable():
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else "?"
