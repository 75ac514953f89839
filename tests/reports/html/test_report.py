"""The page of `harness report`: its parts, what it must never hold, and what becomes of a store with gaps."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.reports.html.build import report
from harness.reports.html.document import Part, Section, document
from harness.store.run_store import Store
from tests.reports import shop
from tests.reports.conftest import Make
from tests.store.made import put

PARTS = ["leaderboard", "cost", "curves", "groups", "card", "ablations", "tree", "runs", "commands"]
UNSEEN = ("said", "label", "ids", "parents")
PLOTS = ["cost", "validation", "loss", "history", "popularity", "ablation-1", "tree"]


class Page(html.parser.HTMLParser):
    """Elements in order, texts of scripts and styles, and the words that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.words = ""
        self._in: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in:
            self.raw.append((*self._in, data))
        else:
            self.words += data

    def plots(self) -> dict[str, list[dict[str, Any]]]:
        """The data of each plot, by its name."""
        return {str(more["data-plot"]): json.loads(text) for _, more, text in self.raw if "data-plot" in more}

    def ids(self) -> list[str]:
        return [str(more["id"]) for _, more in self.elements if "id" in more]


@pytest.fixture
def titles() -> list[str]:
    return shop.titles()


@pytest.fixture
def filled(store: Store, make_run: Make) -> Store:
    shop.fill(store, make_run)
    return store


def page(store: Store, **expected: Any) -> Page:
    return Page(report(store, "toy", "ndcg@10", **expected))


def test_every_part_is_there(filled: Store) -> None:
    result = page(filled)
    assert [name[3:] for name in result.ids() if name[3:] in PARTS] == PARTS
    assert [name.removeprefix("b1-plot-") for name in result.plots()] == PLOTS
    links = [more["href"] for tag, more in result.elements if tag == "a"]
    assert links == [f"#b1-{part}" for part in PARTS]
    assert len(set(result.ids())) == len(result.ids())
    for name, views in result.plots().items():
        assert name in result.ids() and views and all(view["data"] and view["said"] for view in views), name
    assert "alpha" in result.words and "0.5" in result.words and "leave-one-out/1" in result.words


def test_what_a_reader_needs_who_sees_no_plot(filled: Store) -> None:
    result = page(filled)
    tags = [tag for tag, _ in result.elements]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(updated - previous <= 1 for previous, updated in pairwise(levels))
    assert tags.count("caption") == tags.count("table") and tags.count("details") == tags.count("figure") == len(PLOTS)
    assert ("html", {"lang": "en"}) in result.elements and "title" in tags and "main" in tags and "nav" in tags
    for tag, more in result.elements:
        if tag == "figure":
            assert more["aria-labelledby"] in result.ids()
        if "plot" in (more.get("class") or "").split():
            assert more["role"] == "img" and more["aria-label"]
        if more.get("class") == "wide":
            assert more["tabindex"] == "0" and more["aria-label"]


def test_nothing_is_loaded_and_nothing_else_runs(filled: Store) -> None:
    result = page(filled)
    for tag, more in result.elements:
        assert not {"src", "srcset", "action", "background", "onclick", "onerror", "onload"} & set(more), tag
        assert tag not in ("img", "link", "iframe", "object", "embed", "base", "b", "i"), tag
        assert (more.get("href") or "#").startswith("#")
    (style,) = [text for tag, _, text in result.raw if tag == "style"]
    assert "url(" not in style and "@import" not in style
    (policy,) = [str(more["content"]) for _, more in result.elements if more.get("http-equiv")]
    scripts = [text for tag, more, text in result.raw if tag == "script" and "type" not in more]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(scripts) == 2 and policy.startswith("default-src 'none'; ")
    assert f"script-src '{'sha256-' + hashes[0]}' '{'sha256-' + hashes[1]}';" in policy


def test_titles_stay_text(filled: Store) -> None:
    text = report(filled, "toy", "ndcg@10")
    for title in (*shop.HOSTILE[:5], shop.LEAK, "<i>worse</i>"):
        assert title not in text, title
    result = Page(text)
    tree = result.plots()["b1-plot-tree"][0]["data"][0]
    assert any("&lt;img src=x" in one for one in tree["text"]) and not any("<img" in one for one in tree["text"])
    assert set(markup(result.plots())) <= {"<br>", "<b>", "</b>", "<extra>", "</extra>"}
    assert "<img src=x onerror=" in result.words and shop.LEAK in result.words and "<i>worse</i>" in result.words


def markup(value: Any) -> list[str]:
    """What a plot would take for a tag, in all of its texts but names that it does not show."""
    if isinstance(value, dict):
        return [tag for key, part in value.items() if key not in UNSEEN for tag in markup(part)]
    if isinstance(value, list):
        return [tag for part in value for tag in markup(part)]
    return re.findall(r"<[^>]*>", value) if isinstance(value, str) else []


def test_the_same_store_gives_the_same_bytes(filled: Store) -> None:
    texts = [report(filled, "toy", "ndcg@10") for _ in range(2)]
    assert texts[0].encode() == texts[1].encode()


def test_letters_that_utf8_has_not() -> None:
    part = Part("runs", "a\ud800b", notes=["c\udfffd"])
    assert "a?b" in document("t", "", [Section("s", {}, [part])], []).encode().decode()


def test_lists_that_are_missing_are_said_and_the_rest_is_shown(filled: Store) -> None:
    result = page(filled)
    assert "gamma is not in the figures by history length and item popularity" in result.words
    names = {trace["name"] for trace in result.plots()["b1-plot-history"][0]["data"]}
    assert names == {"alpha", "beta ‡"}
    assert "gamma" in json.dumps(result.plots()["b1-plot-cost"])


def test_data_that_is_not_at_hand(filled: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "toy")
    result = page(filled)
    assert "The data set is not at hand" in result.words
    assert [name.removeprefix("b1-plot-") for name in result.plots()] == ["cost", "validation", "loss", "tree"]
    assert page(filled).plots()["b1-plot-tree"][0]["data"][0]["text"][1] == ""  # codes, and no titles


def test_a_corrupt_record_is_named_and_skipped(filled: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = filled.runs / "alpha" / "toy" / "seed3-broken"
    folder.mkdir()
    (folder / "result.json").write_text("{")
    result = page(filled)
    assert "skipped" in result.words and "seed3-broken" in result.words
    assert "seed3-broken" in capsys.readouterr().err


def test_boards_are_never_mixed(filled: Store) -> None:
    put(filled, model="other", protocol={"fingerprint": "p9", "exclude_history": True})
    text = report(filled, "toy", "ndcg@10")
    result = Page(text)
    assert Counter(name[:2] for name in result.ids() if name[3:] in PARTS) == {"b1": 9, "b2": 6}
    first, second = text[text.index('<section id="b1"') :].split('<section id="b2"')
    assert ">other<" not in first and ">other<" in second and ">alpha<" not in second
    assert "not comparable with the other boards" in first and "protocol.exclude_history=True" in second
    assert "They fall into 2 sections that may not be compared" in result.words


def test_published_rows_stand_apart_and_in_no_plot(filled: Store) -> None:
    (filled.root / "published").mkdir()
    (filled.root / "published" / "x.csv").write_text(
        "dataset,release,method,metric,value,hand,source\ntoy,not stated,quoted,ndcg@10,0.99,first,A 2020\n"
    )
    assert "quoted" not in page(filled).words
    result = page(filled, published=True)
    assert "A 2020" in result.words and "quoted" not in json.dumps(result.plots())


def test_the_metric(filled: Store) -> None:
    result = Page(report(filled, "toy", "mrr@10"))
    assert [view["label"] for view in result.plots()["b1-plot-history"]] == ["mrr@10", "ndcg@10"]
    with pytest.raises(InputError, match="unknown metric"):
        report(filled, "toy", "mrr")


def test_no_runs(store: Store, make_run: Make) -> None:
    with pytest.raises(InputError, match="no runs on 'ml-100k' are stored here"):
        report(store, "ml-100k", "ndcg@10")
    with pytest.raises(InputError, match="unknown data set 'nothing'"):
        report(store, "nothing", "ndcg@10")
