"""The page: parts to HTML, with scripts and styles inside it. Whatever comes from data is escaped here, once.

Nothing is loaded: the page's own policy forbids it, and lets no script run but the two that are named by their hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template

from harness.reports.html.figures import Figure
from harness.reports.html_table import table
from harness.reports.tables import ReportTable


@dataclass
class Part:
    """One heading of a section with what stands under it."""

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
    """One board: what all of it shares, and its parts."""

    title: str
    facts: Mapping[str, str]
    parts: Sequence[Part]
    notes: Sequence[str] = ()


def document(title: str, description: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """The whole page, as text that UTF-8 can write."""
    from plotly.offline import get_plotlyjs

    library, script = _script(get_plotlyjs()), _script(_file("page.js"))
    several = len(sections) > 1
    links, body = [], []
    for number, section in enumerate(sections, start=1):
        links.append(_links(number, section, several=several))
        body.append(_section(number, section))
    text = Template(_file("page.html")).substitute(
        policy=_policy(library, script),
        title=escape(title),
        about=escape(description),
        notes="".join(f'<p class="note">{escape(note)}</p>\n' for note in notes),
        contents="".join(links),
        body="".join(body),
        style=_file("page.css"),
        library=library,
        script=script,
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def data(value: object) -> str:
    """JSON for a script element: no letter in it can end the element or begin a comment.

    >>> data("</script><!--&")
    '"\\\\u003c/script\\\\u003e\\\\u003c!--\\\\u0026"'
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _links(number: int, section: Section, *, several: bool) -> str:
    items = "".join(f'<li><a href="#b{number}-{part.name}">{escape(part.title)}</a></li>' for part in section.parts)
    if not several:
        return f"<ul>{items}</ul>"
    return f'<ul><li><a href="#b{number}">{escape(section.title)}</a><ul>{items}</ul></li></ul>'


def _section(number: int, section: Section) -> str:
    facts = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(text)}</dd></div>" for key, text in section.facts.items())
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in section.notes)
    parts = "".join(_part(number, part) for part in section.parts)
    return (
        f'<section id="b{number}" aria-labelledby="b{number}-title">\n<h2 id="b{number}-title">{escape(section.title)}'
        f'</h2>\n{notes}<dl class="facts">{facts}</dl>\n{parts}</section>\n'
    )


def _part(number: int, part: Part) -> str:
    description = f"<p>{escape(part.about)}</p>\n" if part.about else ""
    figures = "".join(
        _figure(f"b{number}-plot-{figure.name}", figure, f"b{number}-{part.name}", part.title)
        for figure in part.figures
    )
    sheets = "".join(table(sheet, sorts=part.sorts) for sheet in part.sheets)
    lines = "\n".join(map(escape, part.commands))
    commands = f'<pre class="wide" tabindex="0" role="region" aria-label="Commands">{lines}</pre>\n' if lines else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in part.notes)
    head = f'<h3 id="b{number}-{part.name}">{escape(part.title)}</h3>\n'
    return f"{head}{description}{sheets}{commands}{figures}{notes}"


def _figure(name: str, figure: Figure, above: str, heading: str) -> str:
    """The plot's place, its data, a choice where there are several views, and all of its numbers as tables. It has no
    heading of its own where that would repeat the one above it, whose id is `above`."""
    title = "" if figure.title == heading else f'<h4 id="{name}-title">{escape(figure.title)}</h4>\n'
    name_value = f"{name}-title" if title else above
    content = [
        {"label": view.label, "said": view.said, **json.loads(str(view.plot.to_json(engine="json")))}
        for view in figure.views
    ]
    choice = ""
    if len(content) > 1:
        options = "".join(f"<option>{escape(view.label)}</option>" for view in figure.views)
        choice = (
            f'<label class="choice">{escape(figure.choice)} <select data-for="{name}" autocomplete="off">{options}'
            "</select></label>\n"
        )
    sheets = "".join(table(sheet) for sheet in {view.sheet.title: view.sheet for view in figure.views}.values())
    notes = "".join(f"<p>{escape(note)}</p>" for note in figure.notes)
    height = max(view.plot.layout.height for view in figure.views)
    return (
        f'<figure aria-labelledby="{name_value}">\n{title}{choice}'
        f'<div class="plot" id="{name}" role="img" aria-label="{escape(figure.views[0].said)}" '
        f'style="min-height:{height}px"></div>\n'
        f"<figcaption>{escape(figure.about)}{notes}</figcaption>\n"
        f"<details><summary>Numbers of “{escape(figure.title)}”</summary>\n{sheets}</details>\n"
        f'<script type="application/json" data-plot="{name}">{data(content)}</script>\n</figure>\n'
    )


def _policy(*scripts: str) -> str:
    """A content security policy: these scripts, styles of the page, pictures that it makes itself, and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{text}'" for text in hashes)
    return f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _script(text: str) -> str:
    """As a browser reads it, which is what it hashes."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _file(name: str) -> str:
    return files("harness.reports.html").joinpath(name).read_text("utf-8")
