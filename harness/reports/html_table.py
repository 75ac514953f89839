"""HTML: the tables as one page that opens from disk, light and dark, with nothing to load and no script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from harness.reports.tables import Column, ReportTable, TableRow

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }}
body {{ margin: 1rem auto; padding: 0 1rem; max-width: 90rem; }}
.wide {{ overflow-x: auto; margin-bottom: 2rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-weight: 600; padding: .4rem 0; }}
th, td {{ padding: .25rem .6rem; text-align: right; white-space: nowrap; }}
thead th {{ border-bottom: 2px solid; }}
tbody tr:last-child td {{ border-bottom: 1px solid; }}
.left {{ text-align: left; }}
.wraps {{ white-space: normal; min-width: 12rem; }}
.best {{ font-weight: 700; }}
.second {{ text-decoration: underline; }}
.apart {{ font-style: italic; opacity: .75; }}
</style>
</head>
<body>
"""
FOOT = "</body>\n</html>\n"
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


def html(sheets: Sequence[ReportTable], title: str = "Leaderboard") -> str:
    """One table a sheet; the best is bold, the second underlined, rows that stand apart are in italics."""
    return HEAD.format(title=escape(title)) + "".join(map(table, sheets)) + FOOT


def table(sheet: ReportTable, *, sorts: bool = False) -> str:
    """One sheet, in a box that scrolls where it is too wide. With `sorts`, each head is a button, and each cell tells
    what it sorts by; the script that does so is the page's."""
    heads = "".join(_head(column, place, sorts=sorts) for place, column in enumerate(sheet.columns))
    rows = "\n".join(_row(sheet, line, sorts=sorts) for line in sheet.lines)
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in sheet.notes)
    return (
        f'<div class="wide" role="region" aria-label="{escape(sheet.title)}" tabindex="0">\n'
        f"<table{_classes('sorts' if sorts else '')}>\n<caption>{escape(sheet.title)}</caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n{notes}"
    )


def sort_key(text: str) -> float | None:
    """The number that a cell sorts by: its first, or the first behind an arrow; None for words.

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


def _head(column: Column, place: int, *, sorts: bool) -> str:
    name, text = escape(column.name), _classes("left" if column.left else "")
    if not sorts:
        return f'<th scope="col"{text}>{name}</th>'
    now = ' aria-sort="ascending"' if place == 0 else ""
    return f'<th scope="col"{text}{now}><button type="button">{name}</button></th>'


def _row(sheet: ReportTable, line: TableRow, *, sorts: bool) -> str:
    cells = []
    for place, (column, text) in enumerate(zip(sheet.columns, line.texts, strict=True)):
        names = ("left" if column.left else "", "wraps" if column.wraps else "", line.mark(place))
        key = sort_key(text) if sorts else None
        saved = "" if key is None else f' data-key="{key:.10g}"'
        cells.append(f"<td{_classes(*names)}{saved}>{escape(text)}</td>")
    return f"<tr{_classes('apart' if line.apart else '')}>{''.join(cells)}</tr>"


def _classes(*names: str) -> str:
    text = " ".join(filter(None, names))
    return f' class="{text}"' if text else ""
