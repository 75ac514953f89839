"""What every format keeps: marks of the best, rows apart, leaks, comprehension, and names with special characters."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.protocol.protocol import METRICS
from harness.reports.formats import SETS, check_columns, place_text, row_texts, sheet
from harness.reports.leaderboard import Board, boards
from harness.reports.published import read_published, with_published
from harness.reports.tables import FORMATS, check_format, escaped
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put

LEAK = "validation items are labels of the behaviour encoder"
UNDERSTOOD = {
    "before": {"title_to_code": {"exact": 0.0, "token_f1": 0.01}, "item_text_perplexity": 40.0},
    "aligned": {"title_to_code": {"exact": 0.25, "token_f1": 0.5}, "item_text_perplexity": 30.0},
    "annealed": {"title_to_code": {"exact": 0.125, "token_f1": None}, "plain_text_perplexity": 12345.6, "words": "no"},
}
HOSTILE = "50%_of{it}&<b>|$x^2~\\#[1]*y*`"


@pytest.fixture
def toy_boards(tmp_path: Path) -> list[Board]:
    """Best first: a leaking run, `good` over two seeds, `fair`, and a quoted row that would be the best of all."""
    store = Store(tmp_path / "results")
    put(store, model="leaky", value=0.9, leaks=[LEAK], comprehension=UNDERSTOOD)
    put(store, model="good", seed=1, value=0.5)
    put(store, model="good", seed=2, value=0.7)
    put(store, model="fair", value=0.4, metrics={"test": dict.fromkeys(METRICS, 0.4) | {"mrr@10": 0.8}})
    folder = store.root / "published"
    folder.mkdir()
    heads = "dataset,release,method,metric,value,hand,source"
    (folder / "x.csv").write_text(f'{heads}\ntoy,not stated,"{HOSTILE}",ndcg@10,0.99,first,A & B\n')
    return with_published(boards(store.query()), read_published(store.root))


def test_the_best_is_marked_among_clean_rows_measured_here(toy_boards: list[Board]) -> None:
    table = sheet(toy_boards[0], "ndcg@10")
    names = [column.name for column in table.columns]
    assert [line.mark(names.index("ndcg@10")) for line in table.lines] == ["", "best", "second", ""]
    assert [line.mark(names.index("mrr@10")) for line in table.lines] == ["", "second", "best", ""]
    assert [line.mark(names.index("train s")) for line in table.lines] == [""] * 4
    assert [line.apart for line in table.lines] == [False, False, False, True]


@pytest.mark.parametrize("form", FORMATS)
def test_a_leak_shows_in_every_format(toy_boards: list[Board], form: str) -> None:
    text = render(toy_boards, form, "ndcg@10")
    assert LEAK in text and text.endswith("\n")
    if form not in ("csv", "json"):
        mark = r"$\ddagger$" if form == "latex" else "‡"
        assert f"leaky {mark}" in text and f"good {mark}" not in text and f"{mark} leaks" in text
    assert "it leaks" in place_text(toy_boards[0], toy_boards[0].rows[0], "ndcg@10")
    assert "leaks" not in place_text(toy_boards[0], toy_boards[0].rows[1], "ndcg@10")


def test_leaks_and_comprehension_as_data(toy_boards: list[Board]) -> None:
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(render(toy_boards, "csv", "ndcg@10")))}
    assert rows["leaky"]["leaks"] == LEAK and rows["good"]["leaks"] == ""
    assert float(rows["leaky"]["comprehension.annealed.title_to_code.exact"]) == 0.125
    assert rows["good"]["comprehension.annealed.title_to_code.exact"] == ""
    assert not [name for name in rows["good"] if "words" in name or "annealed.title_to_code.token_f1" in name]
    (board,) = json.loads(render(toy_boards, "json", "ndcg@10"))
    assert board["rows"][0]["leaks"] == [LEAK] and board["rows"][1]["leaks"] == []
    assert board["rows"][0]["comprehension.before.item_text_perplexity"] == 40.0


def test_columns(toy_boards: list[Board]) -> None:
    texts = row_texts(toy_boards[0].rows[0], "ndcg@10", check_columns("comprehension, cost"))
    assert texts["title→code"] == "0.125" and texts["title→code F1"] == "0.5"  # of the last stage that has one
    assert texts["item text ppl"] == "40 → 30" and texts["plain text ppl"] == "12,346" and texts["code→title"] == ""
    assert "train s" in texts and "short" not in texts and "ndcg@10" in texts and "recall@10" not in texts
    assert row_texts(toy_boards[0].rows[1], "ndcg@10", ("comprehension",))["title→code"] == ""
    audit = row_texts(toy_boards[0].rows[1], "ndcg@10", ("quality", "integrity"))
    assert (audit["short"], audit["invalid"], audit["seen"]) == ("5", "0", "1") and "train s" not in audit
    for form in FORMATS:
        assert "0.125" in render(toy_boards, form, "ndcg@10", ("comprehension",))
    with pytest.raises(InputError, match="did you mean cost"):
        check_columns("quality,costs")
    with pytest.raises(InputError, match="names no column set"):
        check_columns(",")
    with pytest.raises(InputError, match="did you mean latex"):
        check_format("latx")


def test_latex(toy_boards: list[Board]) -> None:
    text = render(toy_boards, "latex", "ndcg@10")
    assert r"\textbf{0.6000 $\pm$ 0.1414}" in text and r"\underline{0.4000}" in text and r"\textbf{0.8000}" in text
    assert text.startswith("%") and text.rstrip().endswith(r"\end{document}") and r"\usepackage{array,booktabs}" in text
    for name in ("document", "table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    plain = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert plain.count("{") == plain.count("}") and plain.count("$") % 2 == 0
    rows = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    counts = {line.replace(r"\&", "").count("&") for line in rows.splitlines() if line.endswith(r"\\")}
    (declared,) = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", text)
    assert counts == {len(re.sub(r">\{.*?\}p\{.*?\}", "p", declared)) - 1}
    quoted = next(line for line in rows.splitlines() if "0.9900" in line)
    assert r"\textit{0.9900}" in quoted and r"\textbf" not in quoted and rows.count(r"\midrule") == 2
    assert (
        r"50\%\_of\{it\}\&\textless{}b\textgreater{}\textbar{}\$x\textasciicircum{}2\textasciitilde{}\textbackslash{}\#{[}1{]}"
        in text
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX on this machine")
def test_latex_compiles_as_it_stands(toy_boards: list[Board], tmp_path: Path) -> None:
    (tmp_path / "board.tex").write_text(render(toy_boards, "latex", "ndcg@10", SETS), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0 and (tmp_path / "board.pdf").stat().st_size > 10_000, done.stdout[-2000:]


def test_latex_has_a_letter_for_everything() -> None:
    assert escaped("Żółć é ﬁ 漢\n\x07z") == "Żółć é fi ? ?z"


class Page(html.parser.HTMLParser):
    """Collects the text of each cell, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_html(toy_boards: list[Board]) -> None:
    text = render(toy_boards, "html", "ndcg@10")
    page = Page()
    page.feed(text)
    assert not page.open and f"{HOSTILE} §" in page.cells and "b" not in page.seen and "script" not in page.seen
    assert '<td class="best">0.6000 ± 0.1414</td>' in text and '<td class="second">0.4000</td>' in text
    assert '<tr class="apart">' in text and not re.search(r"(src|href)=", text)


def test_markdown(toy_boards: list[Board]) -> None:
    text = render(toy_boards, "markdown", "ndcg@10")
    assert "| **0.6000 ± 0.1414** |" in text and "| *0.9900* |" in text and "**0.9900**" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1 and r"\<b>\|" in text
