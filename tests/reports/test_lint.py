"""Published rows whose numbers cannot all be right: planted ones, the project's own, and a linear program as judge."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from harness.reports.html.build import report
from harness.reports.published import INCONSISTENT, INCONSISTENT_NOTE, inconsistencies, published_boards, read_published
from harness.reports.published_gap import gaps, sheets
from harness.reports.selection import choose
from harness.reports.tables import FORMATS, SHEETS
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put

HEAD = "dataset,release,method,metric,value,hand,source"
CUTS = (1, 3, 5, 10, 20)
PLANTED = f"""{HEAD}
toy,x,Good,recall@5,0.1000,first,s
toy,x,Good,recall@10,0.1400,first,s
toy,x,Good,ndcg@5,0.0700,first,s
toy,x,Good,ndcg@10,0.0830,first,s
toy,x,Bad,recall@5,0.1000,first,s
toy,x,Bad,recall@10,0.1400,first,s
toy,x,Bad,ndcg@5,0.0700,first,s
toy,x,Bad,ndcg@10,0.0900,first,s
"""
SAID = "ndcg@10 - ndcg@5 = 0.0200, recall allows at most 0.0143"


def row(text: str) -> dict[str, str]:
    """`r5=.1 n5=.08` as printed metrics."""
    names = {"r": "recall", "n": "ndcg", "m": "mrr"}
    cells = (cell.split("=") for cell in text.split())
    return {f"{names[name[0]]}@{name[1:]}": value for name, value in cells}


def feasible(printed: dict[str, str]) -> bool:
    """Whether any shares of cases by rank give these numbers, all within their rounding: a linear program."""
    ranks = np.arange(1, max(int(name.partition("@")[2]) for name in printed) + 1)
    gains = {"recall": np.ones(len(ranks)), "ndcg": 1 / np.log2(ranks + 1), "mrr": 1 / ranks}
    above, bounds = [np.ones(len(ranks))], [1.0]
    for name, text in printed.items():
        family, _, cut = name.partition("@")
        gain = np.where(ranks <= int(cut), gains[family], 0.0)
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        above += [gain, -gain]
        bounds += [float(text) + half, half - float(text)]
    result = linprog(np.zeros(len(ranks)), np.array(above), np.array(bounds), bounds=(0, None))
    return result.status == 0


def measured(ranks: np.ndarray, digits: int) -> dict[str, str]:
    """What a table would print for these ranks (0: not found)."""
    result = {}
    for cut in CUTS:
        hit = (ranks >= 1) & (ranks <= cut)
        safe = np.where(hit, ranks, 1)
        gains = {"recall": 1.0, "ndcg": 1 / np.log2(safe + 1), "mrr": 1 / safe}
        result |= {f"{name}@{cut}": f"{(hit * gain).mean():.{digits}f}" for name, gain in gains.items()}
    return result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r5=0.1000 r10=0.1400 n5=0.0700 n10=0.0830", []),
        ("r5=0.1000 r10=0.1400 n5=0.0700 n10=0.0900", [SAID]),
        ("r5=0.1000 r10=0.1400 n5=0.0700 n10=0.0800", ["ndcg@10 - ndcg@5 = 0.0100, recall allows at least 0.0115"]),
        ("r10=0.1000 n10=0.1002", ["ndcg@10 = 0.1002, recall allows at most 0.1001"]),  # 0.10015 and 0.10005
        ("r10=0.1000 n10=0.0280", ["ndcg@10 = 0.0280, recall allows at least 0.0289"]),
        ("r1=0.05 n1=0.04", []),  # 0.045 rounds to either
        ("r1=0.05 n1=0.03", ["ndcg@1 = 0.03, recall allows at least 0.04"]),
        ("r5=0.1 r10=0.09", []),  # 0.05 to 0.15, and 0.085 to 0.095: it need not fall
        ("r5=0.100 r10=0.098", ["recall@10 is below recall@5"]),
        ("n5=0.0500 n10=0.0498", ["ndcg@10 is below ndcg@5"]),
        ("r10=0.1000 m10=0.0090", ["mrr@10 = 0.0090, recall allows at least 0.0100"]),
        ("r10=0.1000 m10=0.1000", []),
        ("n10=0.0500 m10=0.0510", ["mrr@10 = 0.0510, ndcg allows at most 0.0500"]),
        ("n10=0.0500 m10=0.0160", ["mrr@10 = 0.0160, ndcg allows at least 0.0173"]),
        ("r5=0.1", []),
        ("r5=0.30 n10=0.05", ["ndcg@10 = 0.05 beside recall@5 = 0.30"]),
        ("r10=0.30 n5=0.31", []),  # 0.305 is either
        ("r10=0.30 n5=0.32", ["ndcg@5 = 0.32 beside recall@10 = 0.30"]),
        ("r5=0.0000 n5=0.0000 r10=0.0000 n10=0.0000", []),
        ("r5=0.0000 n5=0.0001", []),
        ("r5=0.0000 n5=0.0002", ["ndcg@5 = 0.0002, recall allows at most 0.0001"]),
        ("r1=1.0000 n1=1.0000 m1=1.0000", []),
        ("r5=1e-1 n5=1e-1", []),
        ("r3=0.1024 r5=0.1213 n3=0.0991 n5=0.0989", ["ndcg@5 - ndcg@3 = -0.0002, recall allows at least 0.0073"]),
        # the widest pair alone would pass; the narrow one is named
        ("r3=0.10 r5=0.12 r10=0.20 n3=0.08 n5=0.11 n10=0.12", ["ndcg@5 - ndcg@3 = 0.03, recall allows at most 0.01"]),
    ],
)
def test_planted_rows(text: str, message: list[str]) -> None:
    result = inconsistencies(row(text))
    assert result[: len(message)] == message and bool(result) == bool(message)
    assert feasible(row(text)) == (not message)


def test_the_edge_of_rounding() -> None:
    """Between two printed digits the bound itself decides: one unit more fails."""
    allowed = (0.04 + 0.0001) / math.log2(7) + 0.0001  # both rises half a unit twice
    last = math.floor((0.07 + allowed) * 1e4) / 1e4
    assert not inconsistencies(row(f"r5=0.1000 r10=0.1400 n5=0.0700 n10={last:.4f}"))
    assert inconsistencies(row(f"r5=0.1000 r10=0.1400 n5=0.0700 n10={last + 1e-4:.4f}"))
    assert not inconsistencies(row(f"r5=0.100 r10=0.140 n5=0.070 n10={last + 1e-4:.4f}"))  # fewer digits allow more


@pytest.mark.parametrize("digits", [2, 3, 4])
def test_true_numbers_always_pass(digits: int) -> None:
    draw = np.random.default_rng(digits)
    for _ in range(300):
        ranks = draw.geometric(draw.uniform(0.02, 0.9), draw.integers(1, 400))
        assert inconsistencies(measured(ranks, digits)) == []


@pytest.mark.parametrize("families", [("recall", "ndcg"), ("recall", "ndcg", "mrr")])
def test_a_linear_program_agrees(families: tuple[str, ...]) -> None:
    """No row is marked that some ranks explain; of recall and ndcg, no row that nothing explains is left unmarked."""
    draw = np.random.default_rng(7)
    marked = impossible = 0
    for _ in range(300):
        printed = measured(draw.geometric(draw.uniform(0.05, 0.5), 200), 3)
        printed = {name: text for name, text in printed.items() if name.partition("@")[0] in families}
        name = draw.choice(list(printed))
        printed[name] = f"{min(1.0, max(0.0, float(printed[name]) + draw.normal(0, 0.02))):.3f}"
        can, message = feasible(printed), inconsistencies(printed)
        assert not (can and message), (printed, message)
        marked, impossible = marked + bool(message), impossible + (not can)
    assert impossible > 100 and marked >= (impossible if len(families) == 2 else 0.8 * impossible)


def test_the_projects_own_rows() -> None:
    marked = {(row.dataset, row.method, row.run) for row in read_published(Path("nowhere")) if row.inconsistent}
    assert marked == {
        ("minionerec-industrial", "HSTU", "MiniOneRec's run"),
        ("minionerec-industrial", "D3", "MiniOneRec's run"),
        ("minionerec-office", "TIGER", "MiniOneRec's run"),
        ("minionerec-office", "S-DPO", "MiniOneRec's run"),
        ("instruments", "Align3GR", ""),
        ("beauty", "P5-CID", ""),
    }
    table = [row for row in read_published(Path("nowhere")) if row.source.startswith("MiniOneRec (")]
    assert len(table) == 20 and sum(bool(row.inconsistent) for row in table) == 4


def flat_text(text: str) -> str:
    """Without line breaks, and without the places where LaTeX may break a line."""
    return " ".join(text.replace(r"\allowbreak{}", "").split())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    store = Store(tmp_path / "results")
    put(store, model="a", value=0.2)
    (store.root / "published").mkdir()
    (store.root / "published" / "x.csv").write_text(PLANTED)
    return store


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_a_board_marks_it(store: Store, form: str) -> None:
    text = render(published_boards(store, "toy", "ndcg@10"), form, "ndcg@10")
    assert SAID in flat_text(text)
    if form in ("csv", "json"):
        rows = list(csv.DictReader(text.splitlines())) if form == "csv" else json.loads(text)[0]["rows"]
        assert [row.get(f"published.{INCONSISTENT}") or "" for row in rows] == ["", "", SAID]
    else:
        flat = flat_text(text)
        assert f"Bad § {INCONSISTENT}" in flat and f"Good § {INCONSISTENT}" not in flat
        assert INCONSISTENT_NOTE in flat


def test_compare_and_the_page_mark_it(store: Store) -> None:
    sides = choose(store, ["a"])
    result = gaps(store, sides, ["ndcg@10"])
    assert [gap.document()[INCONSISTENT] for gap in result] == ["", SAID]
    for form in SHEETS:
        flat = flat_text(SHEETS[form](sheets(sides, result, ["ndcg@10"])))
        assert f"Bad § {INCONSISTENT}" in flat and SAID in flat and INCONSISTENT_NOTE in flat
        assert f"Good § {INCONSISTENT}" not in flat
    page = report(store, "toy", "ndcg@10", published=True)
    assert f"Bad § {INCONSISTENT}" in page and SAID in page
