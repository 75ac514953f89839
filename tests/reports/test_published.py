"""The papers' own rows: the project's tables as they are, files of one's own, boards, and runs beside them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

import harness
from harness.data.raw.releases import resolve
from harness.errors import InputError
from harness.reports.formats import QUOTED, sheet
from harness.reports.published import COLUMNS, published_boards, read_published, shipped, with_published
from harness.reports.published_gap import Field, conditions, gaps
from harness.reports.selection import choose
from harness.reports.tables import FORMATS
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put

BEAUTY = {"name": "beauty", "users": 22363, "items": 12101, "interactions": 198502}
HGN = ["sports", "HGN", "ndcg@5"]
OWN = """dataset,release,method,metric,value,hand,source,beams
toy,Amazon 2014,TIGER,ndcg@10,0.99,second,"Table 2, left",20
toy,Amazon 2014,TIGER,recall@10,0.999,second,"Table 2, left",20
toy,not stated,TIGER,ndcg@10,0.5,first,its README,
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return Store(tmp_path / "results")


def write_published(store: Store, text: str, name: str = "x.csv") -> Path:
    folder = store.root / "published"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_projects_tables() -> None:
    lines = [line for path in shipped() for line in csv.DictReader(path.open(encoding="utf-8"))]
    counts = Counter(line["dataset"] for line in lines)
    assert {name: counts[name] for name in ("beauty", "minionerec-office", "amazon2023-Musical_Instruments")} == {
        "beauty": 172,
        "minionerec-office": 96,
        "amazon2023-Musical_Instruments": 45,
    }
    foreign = {line["dataset"] for line in lines if line["split"] not in ("", "leave-one-out")}
    assert foreign == {"minionerec-industrial", "minionerec-office", "amazon2023-Industrial_and_Scientific"}
    for name in counts:
        if name.startswith("minionerec-"):  # files of its own, which nothing here prepares
            with pytest.raises(InputError):
                resolve(name)
        else:
            assert resolve(name).name == name
    actual = {line["hand"] for line in lines if line["method"] == "EAGER-LLM"}
    assert actual == {"second"} and not any("yelp" in str(line.values()).lower() for line in lines)
    (result,) = (
        line for line in lines if (line["dataset"], line["method"], line["metric"]) == ("sports", "HGN", "ndcg@5")
    )
    assert result["value"] == "0.0120" and result["hand"] == "first" and result["release"] == "Amazon 2014"


def test_every_column_is_explained() -> None:
    text = (shipped()[0].parent / "README.md").read_text(encoding="utf-8")
    assert not [name for name in COLUMNS if f"`{name}`" not in text]


def test_the_tables_are_found_wherever_runs_are_stored(store: Store) -> None:
    assert {row.dataset for row in read_published(store.root)} >= {"beauty", "sports", "instruments"}
    write_published(store, OWN.replace("toy", "beauty"), "beauty.csv")  # takes the place of the project's own
    assert {row.method for row in read_published(store.root) if row.dataset == "beauty"} == {"TIGER"}


def test_lines_of_one_source_are_one_row_below_the_measured_ones(store: Store) -> None:
    put(store, model="a", value=0.2)
    write_published(store, OWN)
    (board,) = [b for b in published_boards(store, "toy", "ndcg@10") if not b.published_only]
    assert with_published([board], read_published(Path("nowhere"))) == [board]
    a, two, readme = board.rows
    assert (a.rank, two.rank, readme.rank, two.family) == (1, None, None, "published")
    assert two.metrics == {"ndcg@10": [0.99], "recall@10": [0.999]} and two.mean("mrr@10") is None
    assert two.note == "second-hand: Table 2, left; Amazon 2014" and two.quoted["beams"] == "20"
    assert readme.note == "first-hand: its README; release not stated" and "beams" not in readme.quoted
    table = sheet(board, "ndcg@10")
    names = [column.name for column in table.columns]
    assert [line.mark(names.index("ndcg@10")) for line in table.lines] == ["best", "", ""]
    assert [line.apart for line in table.lines] == [False, True, True]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_whose_number_it_is(store: Store, form: str) -> None:
    put(store, model="a", value=0.2)
    write_published(store, OWN)
    text = render(published_boards(store, "toy", "ndcg@10"), form, "ndcg@10")
    assert "second-hand: Table 2, left" in text and "first-hand: its README" in text
    if form in ("csv", "json"):
        rows = list(csv.DictReader(text.splitlines())) if form == "csv" else json.loads(text)[0]["rows"]
        assert [row.get("published.hand") or "" for row in rows] == ["", "second", "first"]
        assert not rows[1]["rank"] and rows[1]["published.release"] == "Amazon 2014"
    else:
        assert f"TIGER {QUOTED}" in text and f"a {QUOTED}" not in text and "not ranked, not tested" in text


def test_data_sets_without_a_run_have_a_board_of_quoted_rows(store: Store) -> None:
    (board,) = published_boards(store, "beauty", "ndcg@10")
    assert (
        board.published_only
        and len(board.rows) == 46
        and "no such run is stored" in render([board], "table", "ndcg@10")
    )
    (document,) = json.loads(render([board], "json", "ndcg@10"))
    assert document["dataset"] == {"name": "beauty"} and document["protocol"] is None
    (rare,) = published_boards(store, "amazon2023-Musical_Instruments", "ndcg@10")
    assert rare.rows[0].mean("recall@10") == 0.0574
    put(store, model="a")
    names = [board.dataset.name for board in published_boards(store, None, "ndcg@10")]
    assert names[0] == "toy" and names[1:] == sorted(names[1:]) and len(names) == 11  # Industrial 2023 has two splits
    with pytest.raises(InputError, match="unknown data set 'beuty'"):
        published_boards(store, "beuty", "ndcg@10")
    frame = harness.leaderboard("sports", results=store.root, published=True)
    assert frame["rank"].isna().all() and set(frame["published.hand"]) == {"first", "second"}


def test_rows_of_another_split_never_stand_beside_runs(store: Store) -> None:
    put(store, model="a", value=0.2)
    split = "each purchase of the last tenth"
    lines = [f"toy,x,B,recall@3,0.4,first,s,{split}", "toy,x,A,ndcg@10,0.5,first,s,leave-one-out"]
    write_published(store, "\n".join(["dataset,release,method,metric,value,hand,source,split", *lines, ""]))
    actual, reference = published_boards(store, "toy", "ndcg@10")
    assert [row.model for row in actual.rows] == ["a", "A"] and [row.model for row in reference.rows] == ["B"]
    assert reference.published_only and f"toy ({split}) · published rows alone" in render(
        [reference], "table", "ndcg@10"
    )
    (gap,) = gaps(store, choose(store, ["a"]), ["ndcg@10"])
    assert gap.quoted.method == "A" and {field.name: field.verdict for field in gap.fields}["split"] == "same"
    write_published(store, "\n".join(["dataset,release,method,metric,value,hand,source,split", lines[0], ""]))
    with pytest.raises(InputError, match="no published rows on 'toy'"):
        gaps(store, choose(store, ["a"]), ["ndcg@10"])


def test_other_protocols_have_no_quoted_rows(store: Store) -> None:
    put(store, model="a", protocol={"name": "global-time/1", "fingerprint": "g"})
    write_published(store, OWN)
    timed, alone = published_boards(store, "toy", "ndcg@10")
    assert len(timed.rows) == 1 and alone.published_only and len(alone.rows) == 2


@pytest.mark.parametrize(
    ("previous", "updated", "message"),
    [
        ("ndcg@10,0.99", "ndgc@5,0.99", r"x\.csv line 2: unknown metric 'ndgc@5'; did you mean ndcg@5"),
        ("0.99,", "much,", r"line 2: 'much' is not a number; write a share"),
        ("0.99,", "9.9,", r"line 2: 9.9 is not between 0 and 1; write a share, not a percentage"),
        ("0.99,", "nan,", r"line 2: nan is not between 0 and 1"),
        ("0.5,first", "0.5,frist", r"line 4: unknown hand 'frist'; did you mean first"),
        ("metric,value,", "metric,score,", r"line 1: no column 'value'; needs dataset, release"),
        (",beams", ",beam", r"line 1: unknown column 'beam'; did you mean beams"),
        ('"Table 2, left",20\ntoy', "Table 2, left,20\ntoy", r"line 2: it has not as many cells as the 8 columns"),
        ("toy,not stated,", "toy,,", r"line 4: release is empty; write 'not stated'"),
        ("its README", '"', r"x\.csv: not a readable CSV file"),
        ("recall@10,0.999", "ndcg@10,0.999", r"line 3: TIGER has ndcg@10 twice"),
    ],
)
def test_a_bad_file_is_refused_by_line(store: Store, previous: str, updated: str, message: str) -> None:
    assert previous in OWN
    write_published(store, OWN.replace(previous, updated, 1))
    with pytest.raises(InputError, match=message):
        read_published(store.root)


def test_a_run_beside_the_papers_rows(store: Store) -> None:
    for seed, value in ((1, 0.02), (2, 0.04)):
        put(store, model="recbole:SASRec", seed=seed, value=value, dataset=BEAUTY, details={"configuration": "s"})
    (side,) = choose(store, ["recbole:SASRec"])
    result = gaps(store, [side], ["ndcg@10", "recall@5"])
    assert [gap.same_method for gap in result[:5]] == [True, True, True, True, False]
    first = result[0]
    assert first.numbers == {"ndcg@10": (pytest.approx(0.03), 0.0318), "recall@5": (pytest.approx(0.03), 0.0387)}
    (gram,) = (gap for gap in result if gap.quoted.method == "LC-Rec" and gap.quoted.source == "GRAM's table")
    assert list(gram.numbers) == ["recall@5"]
    assert {field.verdict for field in first.fields} == {"same", "differs", "unknown"}
    messages = {field.name: field for field in first.fields}
    assert messages["users"] == Field("users", "22363", "22363", "same")
    assert messages["repeats"] == Field("repeats", "dropped", "kept", "differs")
    assert messages["history"] == Field("history", "20", "", "unknown") and "beams" not in messages
    document = first.document()
    assert document["metrics"]["ndcg@10"]["difference"] == pytest.approx(-0.0018) and document["seeds"] == 2
    with pytest.raises(InputError, match=r"no published row on 'beauty' has mrr@10; they have recall@5, recall@10"):
        gaps(store, [side], ["mrr@10"])


def test_what_is_known_of_a_run(store: Store) -> None:
    settings = {
        "semantic": {"fields": ["title", "brand"], "encoder": "some", "vectors": None},
        "backbone": {"name": "big"},
        "tasks": {"templates": 1},
        "decode": {"beams": 20},
    }
    record = put(store, model="eager-llm", dataset=BEAUTY | {"users": 5}, settings={"eager": settings})
    (side,) = choose(store, [record.run_id])
    expected = conditions(side)
    assert expected["release"] == expected["repeats"] == ""  # five users are not the public Beauty
    assert (expected["text_fields"], expected["encoder"], expected["backbone"]) == ("title, brand", "some", "big")
    assert (expected["beams"], expected["constraint"], expected["prompts"]) == ("20", "trie", "1")
    (gap,) = (gap for gap in gaps(store, [side], ["ndcg@10"]) if gap.same_method)
    differing = {field.name for field in gap.fields if field.verdict == "differs"}
    assert differing == {"constraint", "text_fields", "encoder", "backbone"}  # it is of the papers' own code
    unknown = {field.name for field in gap.fields if field.verdict == "unknown"}
    assert unknown == {"hits", "release", "users", "items", "interactions", "repeats"}


def test_runs_that_no_paper_has_a_row_for(store: Store) -> None:
    put(store, model="a")
    put(store, model="b", dataset=BEAUTY, protocol={"name": "global-time/1"})
    with pytest.raises(InputError, match=r"no published rows on 'toy'; there are some on .*beauty"):
        gaps(store, choose(store, ["a"]), ["ndcg@10"])
    with pytest.raises(InputError, match=r"published rows are not of global-time/1"):
        gaps(store, choose(store, ["b"]), ["ndcg@10"])
