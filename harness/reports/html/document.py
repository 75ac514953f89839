"""The report page as one HTML file; the template escapes all values. `Figure`: a plot with one or more views, each with
its values as a table; styles of lines, markers and texts.

Its content security policy allows only its two scripts, by their hashes, and no external resources. Page colours (ink,
grid, background) are CSS variables, for light and dark; colours of models are chosen here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.reports.tables import ReportTable, cell_attributes, render

# Hues for colour-blind readers (after Okabe and Ito 2008), visible on a white and on a dark background.
# Marks and dashes differ too, so that lines differ in more than colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#C0629A", "#8A7000", "#7D62C9", "#7A7A7A")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "x", "pentagon", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot")
HEIGHT = 440  # pixels of a plot
MANY = 3  # from this many powers of ten on, only powers have ticks
WIDTH = 28  # characters of a name before it is broken
LONGEST = 160  # characters of a name that are shown


@dataclass
class Part:
    """A heading of a section with its content."""

    name: str
    title: str
    about: str = ""
    sheets: list[ReportTable] = field(default_factory=list)
    sorts: bool = False
    figures: list[Figure] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.sheets or self.figures or self.commands or self.notes)


@dataclass(frozen=True)
class Section:
    """One board: facts that its runs share, and its parts."""

    title: str
    facts: Mapping[str, str]
    parts: Sequence[Part]
    notes: Sequence[str] = ()


def document(title: str, description: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """The whole page, as text that can be encoded in UTF-8."""
    # line breaks as the browser normalises them before hashing
    library, script = (re.sub("\r\n?", "\n", text) for text in (get_plotlyjs(), _file("page.js")))
    text = render(
        "page.html",
        policy=_policy(library, script),
        title=title,
        description=description,
        notes=notes,
        sections=sections,
        style=_file("page.css"),
        library=library,
        script=script,
        plot_data=plot_data,
        cell_attributes=cell_attributes,
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def plot_data(figure: Figure) -> Markup:
    """The views of a figure as JSON for the page's script; no character can end its element or begin a comment."""
    views = [
        {"label": view.label, "said": view.said, **json.loads(str(view.plot.to_json(engine="json")))}
        for view in figure.views
    ]
    text = json.dumps(views, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _policy(*scripts: str) -> str:
    """A content security policy that allows these scripts, the page's styles and its generated pictures only."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{text}'" for text in hashes)
    return f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _file(name: str) -> str:
    return files("harness.reports.html").joinpath(name).read_text("utf-8")


@dataclass(frozen=True)
class View:
    """One view of a figure. `said` is its text for screen readers."""

    label: str
    plot: go.Figure
    said: str
    sheet: ReportTable


@dataclass(frozen=True)
class Figure:
    """`name` is unique in its section; `about` explains it; `choice` names the difference between its views."""

    name: str
    title: str
    about: str
    choice: str
    views: tuple[View, ...]
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Pixels of the highest view."""
        return max(view.plot.layout.height for view in self.views)

    @property
    def sheets(self) -> list[ReportTable]:
        """The tables of the views, each title once."""
        return list({view.sheet.title: view.sheet for view in self.views}.values())


@dataclass(frozen=True)
class Style:
    """How one model is drawn in every figure."""

    colour: str
    symbol: str
    dash: str


def styles(models: Iterable[str]) -> dict[str, Style]:
    """A style a model, the same for the same set of models."""
    return {
        name: Style(COLOURS[n % len(COLOURS)], SYMBOLS[n % len(SYMBOLS)], DASHES[n % len(DASHES)])
        for n, name in enumerate(sorted(set(models)))
    }


def plot(traces: Sequence[Any], x: dict[str, Any], y: dict[str, Any], **layout: Any) -> go.Figure:
    """Traces between two axes, without the colours of the page."""
    return go.Figure(
        data=list(traces),
        layout=go.Layout(
            **{
                "template": "none",
                "height": HEIGHT,
                "autosize": True,
                "margin": {"l": 60, "r": 16, "t": 16, "b": 56},
                "xaxis": {"automargin": True, "zeroline": False, **x},
                "yaxis": {"automargin": True, "zeroline": False, **y},
                "legend": {"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
                "hovermode": "closest",
                **layout,
            }
        ),
    )


def marker(style: Style, *, leaks: bool, **more: Any) -> dict[str, Any]:
    """The marker of a model's points, open for rows that leak."""
    return {"color": style.colour, "symbol": style.symbol + ("-open" if leaks else ""), **more}


def error_bars(bounds: Sequence[tuple[float, float, float]], *, width: int, thickness: float) -> dict[str, Any]:
    """Asymmetric error bars of a trace, from (value, low, high) of each point; sizes in pixels."""
    return {
        "type": "data",
        "array": [high - value for value, _, high in bounds],
        "arrayminus": [value - low for value, low, _ in bounds],
        "width": width,
        "thickness": thickness,
    }


def log_axis(low: float, high: float, title: str) -> dict[str, Any]:
    """An axis of powers from `low` to `high`, both above 0, with whole numbers at its ticks: 1, 2 and 5 of each power,
    or powers alone where there are many.

    >>> log_axis(90, 600, "seconds")["ticktext"], log_axis(0.001, 1000, "seconds")["ticktext"]
    (['100', '200', '500'], ['0.001', '0.01', '0.1', '1', '10', '100', '1,000'])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    parts = (1, 2, 5) if math.log10(high / low) < MANY else (1,)
    ticks = [value for power in powers for part in parts if low <= (value := float(f"{part}e{power}")) <= high]
    words = [f"{tick:,.0f}" if tick >= 1 else f"{tick:.10f}".rstrip("0") for tick in ticks]
    return {"type": "log", "tickvals": ticks, "ticktext": words, "title": {"text": title}}


def shown(text: str) -> str:
    """Escapes text for a plot, where some tags and entities are markup.

    >>> shown("<b>A & B</b>")
    '&lt;b&gt;A &amp; B&lt;/b&gt;'
    """
    flat = " ".join(text.split())
    return escape(flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…", quote=False)


def broken(text: str, width: int = WIDTH) -> str:
    """Text for a plot, in lines of about `width` letters.

    >>> broken("backbone: small random Llama, equal time")
    'backbone: small random<br>Llama, equal time'
    """
    flat = " ".join(text.split())[:LONGEST]
    lines = re.findall(rf".{{1,{width}}}(?:\s|$)|.{{1,{width}}}", flat)
    return "<br>".join(escape(line.strip(), quote=False) for line in lines)


def thinned(count: int, limit: int) -> list[int]:
    """Positions of at most `limit` of `count` points, evenly spread, the first and the last among them.

    >>> thinned(3, 5), thinned(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    if count <= limit:
        return list(range(count))
    return [round(place * (count - 1) / (limit - 1)) for place in range(limit)]
