"""HTML tables as one self-contained page, light and dark, without scripts or external resources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup

from harness.reports.tables import Column, Mark, ReportTable
from harness.reports.templating import render_html

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
