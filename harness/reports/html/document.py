"""The report page as one HTML file; the template escapes all values.

Its content security policy allows only its two scripts, by their hashes, and no external resources.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from markupsafe import Markup

from harness.reports.documents import cell_attributes, render_html
from harness.reports.html.figures import Figure
from harness.reports.tables import ReportTable


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
    from plotly.offline import get_plotlyjs

    library, script = _script(get_plotlyjs()), _script(_file("page.js"))
    text = render_html(
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
    """The views of a figure as JSON for the page's script."""
    views = [
        {"label": view.label, "said": view.said, **json.loads(str(view.plot.to_json(engine="json")))}
        for view in figure.views
    ]
    return Markup(data(views))


def data(value: object) -> str:
    """JSON for a script element: no character in it can end the element or begin a comment.

    >>> data("</script><!--&")
    '"\\\\u003c/script\\\\u003e\\\\u003c!--\\\\u0026"'
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(*scripts: str) -> str:
    """A content security policy that allows these scripts, the page's styles and its generated pictures only."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{text}'" for text in hashes)
    return f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _script(text: str) -> str:
    """A script with line breaks as the browser normalises them before hashing."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _file(name: str) -> str:
    return files("harness.reports.html").joinpath(name).read_text("utf-8")
