"""A title that holds markup, TeX or a script stays text, wherever in a table it stands."""

from __future__ import annotations

import re

import pytest

from harness.reports.tables import Column, ReportTable, TableRow, html, latex, markdown, to_rich
from tests.reports.test_formats import Page

TITLES = (
    "<script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    "\"><a href='javascript:x'>",
    "&lt;script&gt;",
    r"\input{/etc/passwd}",
    r"\write18{ls}\end{document}",
    "$\\def\\x{\\x}\\x$ % _ ^^41 ~ # { }",
    "[link](http://x) ![i](x) <b> `code` *a* _b_ | c ~~d~~ $e$ &amp;",
    "[bold red]rich[/] [link=x]y[/link]",
    "\x1b[2J\x1b]0;title\x07\x00 steered",
)


def sheet(text: str) -> ReportTable:
    return ReportTable(
        text,
        (Column(text, left=True), Column("n")),
        (TableRow((text, "1")), TableRow((text, "2"), apart=True)),
        (text,),
    )


@pytest.mark.parametrize("text", TITLES)
def test_html(text: str) -> None:
    page = Page()
    result = html([sheet(text)], title=text)
    page.feed(result)
    expected = {"html", "head", "meta", "title", "style", "body", "div", "table", "caption", "thead", "tr", "th"}
    expected |= {"tbody", "td", "p", "button"}
    assert not page.open and page.seen <= expected and not re.search(r"<script|<img|<a ", result)
    assert "".join(text.split()) in "".join("".join(page.cells).replace("\ufffd", "\x00").split())


@pytest.mark.parametrize("text", TITLES)
def test_latex(text: str) -> None:
    local = latex([sheet("x")])
    result = latex([sheet(text)])
    commands = set(re.findall(r"\\([A-Za-z]+)", result))
    signs = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"}
    allowed = set(re.findall(r"\\([A-Za-z]+)", local)) | signs
    assert commands <= allowed, commands - allowed
    assert result.count("\\begin{") == local.count("\\begin{") and "\x1b" not in result
    bare = re.sub(r"\\[&%$#_{}]", "", result)
    assert bare.count("%") == local.count("%") and bare.count("$") == local.count("$")


@pytest.mark.parametrize("text", TITLES)
def test_markdown(text: str) -> None:
    lines = markdown([sheet(text)]).splitlines()
    for line in lines:
        inside = re.sub(r"\\.", "", line)
        assert not re.search(r"[<`\[$&~]", inside)
    rows = [re.sub(r"\\.", "", line).count("|") for line in lines if line.startswith("|")]
    assert set(rows) == {3}


@pytest.mark.parametrize("text", TITLES)
def test_terminal(text: str) -> None:
    from rich.console import Console

    console = Console(width=400, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(to_rich(sheet(text), 400))
    message = captured.get()
    assert "\x1b[2J" not in message and "\x1b]" not in message and "\x07" not in message


def test_latex_prints_options_and_signs_as_they_are_in_any_fonts() -> None:
    """Two hyphens would be a dash, and OT1 fonts have other signs in the places of these three."""
    result = latex([sheet("run --seed 1 ---x p < 0.05 > 0 a|b")])
    assert r"run -{}-seed 1 -{}-{}-x p \textless{} 0.05 \textgreater{} 0 a\textbar{}b" in result
