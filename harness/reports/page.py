"""HTML: the tables as one page that opens from disk, light and dark, with nothing to load and no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from harness.reports.sheet import Line, Sheet

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


def html(sheets: Sequence[Sheet], title: str = "Leaderboard") -> str:
    """One table a sheet; the best is bold, the second underlined, rows that stand apart are in italics."""
    return HEAD.format(title=escape(title)) + "".join(map(_table, sheets)) + FOOT


def _table(sheet: Sheet) -> str:
    heads = "".join(
        f'<th scope="col"{_classes("left" if column.left else "")}>{escape(column.name)}</th>'
        for column in sheet.columns
    )
    rows = "\n".join(_row(sheet, line) for line in sheet.lines)
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in sheet.notes)
    return (
        f'<div class="wide" tabindex="0">\n<table>\n<caption>{escape(sheet.title)}</caption>\n<thead><tr>{heads}</tr>'
        f"</thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n{notes}</div>\n"
    )


def _row(sheet: Sheet, line: Line) -> str:
    cells = []
    for place, (column, text) in enumerate(zip(sheet.columns, line.texts, strict=True)):
        names = ("left" if column.left else "", "wraps" if column.wraps else "", line.mark(place))
        cells.append(f"<td{_classes(*names)}>{escape(text)}</td>")
    return f"<tr{_classes('apart' if line.apart else '')}>{''.join(cells)}</tr>"


def _classes(*names: str) -> str:
    kept = " ".join(filter(None, names))
    return f' class="{kept}"' if kept else ""
