"""Tables as strangers have them: other names of columns, separators, endings, ratings, and a few wrong lines."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.data.columns import ALIASES
from harness.data.dataset import Dataset, ItemText
from harness.data.loading import load_dataset
from harness.data.readers.folder import folder_dataset
from harness.data.reading import Reading, parse_columns
from harness.errors import InputError
from harness.runs.ranking_files import ALIASES as RANKING_ALIASES

ROWS = [(f"u{u}", f"i{(u + n) % 9}", 1_500_000_000 + 60 * n, 1 + (u + n) % 5) for u in range(12) for n in range(6)]


def csv(header: str, separator: str = ",") -> str:
    names = header.split(",")
    return "\n".join(separator.join(map(str, row[: len(names)])) for row in [names, *ROWS]) + "\n"


def plain(tmp_path: Path) -> Dataset:
    """The same data in the form that needs nothing."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/interactions.csv").write_text(csv("user,item,timestamp"))
    return load_dataset(str(tmp_path / "plain"))


def json_lines() -> str:
    return "".join(json.dumps({"user_id": u, "parent_asin": i, "timestamp": t * 1000}) + "\n" for u, i, t, _ in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("interactions.csv", csv("user_id,item_id,timestamp")),
        ("interactions.csv", csv("userId,movieId,timestamp,rating")),
        ("interactions.csv", csv("Customer ID,Product,Time,Stars")),
        ("interactions.tsv", csv("user,item,time", "\t")),
        ("interactions.csv", csv("user;item;timestamp".replace(";", ","), ";")),
        ("interactions.csv.gz", csv("reviewerID,asin,unixReviewTime")),
        ("interactions.jsonl", json_lines()),
        ("interactions.jsonl.gz", json_lines()),
        ("log of the shop.csv", csv("visitorid,itemid,event_time")),
    ],
)
def test_one_content_in_many_forms(name: str, content: str, tmp_path: Path) -> None:
    whole = plain(tmp_path)
    (tmp_path / "shop").mkdir()
    raw = content.encode()
    (tmp_path / "shop" / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    of_folder, of_file = load_dataset(str(tmp_path / "shop")), load_dataset(str(tmp_path / "shop" / name))
    assert of_folder.fingerprint == of_file.fingerprint == whole.fingerprint
    assert of_folder.name == "shop" == folder_dataset(tmp_path / "shop")
    assert of_file.name == folder_dataset(tmp_path / "shop" / name)
    assert of_folder.timestamps is not None and of_folder.timestamps[0] == 1_500_000_000


def test_columns_by_name_and_by_number(tmp_path: Path) -> None:
    whole = plain(tmp_path)
    (tmp_path / "a.csv").write_text(csv("who,what,when,liked"))
    with pytest.raises(InputError, match=r"lacks user, item, timestamp.*it has who,what,when,liked.*--columns"):
        load_dataset(str(tmp_path / "a.csv"))
    named = Reading(columns=parse_columns("user=who,item=what,timestamp=when,rating=liked"))
    data = load_dataset(str(tmp_path / "a.csv"), reading=named)
    assert data.fingerprint == whole.fingerprint
    assert any("user=who, item=what, timestamp=when" in note for note in data.notes)
    (tmp_path / "b.csv").write_text(csv("who,what,when").partition("\n")[2])
    numbered = Reading(columns=parse_columns("user=1,item=2,timestamp=3"))
    assert load_dataset(str(tmp_path / "b.csv"), reading=numbered).fingerprint == whole.fingerprint
    with pytest.raises(InputError, match=r"no column 'buyer', which --columns gives for user; it has who"):
        load_dataset(str(tmp_path / "a.csv"), reading=Reading(columns=parse_columns("user=buyer")))


@pytest.mark.parametrize(
    ("text", "what"),
    [("user", "names no columns"), ("user=a,user=b", "names a column twice"), ("usr=a", "unknown column 'usr'")],
)
def test_columns_that_say_nothing(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        Reading(columns=parse_columns(text))


def test_columns_that_are_not_used_are_named_once(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp,colour"))
    (tmp_path / "items.csv").write_text("sku,name,price,store,genre\ni0,Pen,3,Acme,Office|Ink\ni1,Cap,4,,Head\n")
    data = load_dataset(str(tmp_path))
    assert [note for note in data.notes if "not used: " in note] == [
        "interactions.csv: columns not used: colour",
        "items.csv: columns not used: price",
    ]
    assert data.text is not None
    assert data.text[data.items.index("i0")] == ItemText("Pen", "", "Acme", ("Office", "Ink"))


def test_ratings_are_said_not_to_count_unless_they_filter(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp,rating"))
    assert any("ratings are not used" in note for note in load_dataset(str(tmp_path)).notes)
    high = load_dataset(str(tmp_path), reading=Reading(min_rating=4))
    assert high.interactions == sum(rating >= 4 for *_, rating in ROWS) < len(ROWS)
    assert dict(high.lost)["interactions rated below 4"] == len(ROWS) - high.interactions
    with pytest.raises(InputError, match="no interaction is rated 9 or more"):
        load_dataset(str(tmp_path), reading=Reading(min_rating=9))


BROKEN: dict[str, Callable[[str], str]] = {
    "too few fields": lambda line: line.rpartition(",")[0],
    "no user": lambda line: "," + line.partition(",")[2],
    "no time": lambda line: line.rpartition(",")[0] + ",soon",
    "before 1970": lambda line: line.rpartition(",")[0] + ",-62135596800",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_wrong_line_is_left_out_counted_and_shown(kind: str, tmp_path: Path) -> None:
    lines = csv("user,item,timestamp").splitlines()
    lines.insert(40, BROKEN[kind](lines[40]))
    (tmp_path / "interactions.csv").write_text("\n".join(lines) + "\n")
    data = load_dataset(str(tmp_path))
    assert data.interactions == len(ROWS) and data.fingerprint == plain(tmp_path).fingerprint
    (warning,) = data.warnings
    assert warning.startswith(f"interactions.csv: 1 of {len(ROWS) + 1} lines are wrong") and "line 41" in warning
    assert ("lines of the interactions file that are wrong", 1) in data.lost
    with pytest.raises(InputError, match="line 41"):
        load_dataset(str(tmp_path), reading=Reading(bad_lines=0))


def test_more_wrong_lines_than_may_be_are_an_error_that_names_the_option(tmp_path: Path) -> None:
    lines = csv("user,item,timestamp").splitlines()
    lines[10:20] = [BROKEN["no time"](line) for line in lines[10:20]]
    (tmp_path / "interactions.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"line 11 .*'soon'.*10 of 72 lines are wrong, 3 may be.*--bad-lines 0\.14"):
        load_dataset(str(tmp_path))
    assert load_dataset(str(tmp_path), reading=Reading(bad_lines=0.14)).interactions == len(ROWS) - 10


def test_an_item_twice_with_one_text_is_one_item(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp"))
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"i{n},T{n}\n" for n in (*range(9), 3, 3)))
    data = load_dataset(str(tmp_path))
    assert data.text is not None and not data.warnings
    assert [text.title for text in data.text] == [f"T{item[1:]}" for item in data.items]


ABOUT = [
    {"parent_asin": f"i{n}", "title": f"T{n}", "features": ["soft", "light"], "details": {"Color": "red", "Size": n}}
    for n in range(9)
]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "parquet-text"])
def test_features_and_details_are_text(kind: str, tmp_path: Path) -> None:
    """As Amazon 2023 has them: lists and pairs, or the same as JSON text; in Parquet the description may be a list."""
    if kind.startswith("parquet"):
        frame = pd.DataFrame(
            [{**row, "details": json.dumps(row["details"]), "description": ["A", "B"]} for row in ABOUT]
        )
        if kind == "parquet-text":
            frame["features"] = frame["features"].map(json.dumps)
            frame["description"] = "A B"
        frame.to_parquet(tmp_path / "items.parquet")
        rows = pd.read_csv(io.StringIO(csv("user,item,timestamp")))
        rows.to_parquet(tmp_path / "interactions.parquet")
    else:
        (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp"))
        if kind == "jsonl":
            (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ABOUT))
        else:
            cells = [{key: v if isinstance(v, str) else json.dumps(v) for key, v in row.items()} for row in ABOUT]
            pd.DataFrame(cells).to_csv(tmp_path / "items.csv", index=False)
    data = load_dataset(str(tmp_path))
    assert data.text is not None
    described = "A B " if kind.startswith("parquet") else ""
    for item, text in zip(data.items, data.text, strict=True):
        assert text.description == f"{described}soft light Color: red. Size: {item[1:]}."
    assert any("read as part of the description: features, details" in note for note in data.notes)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_list_of_objects(indent: int | None, tmp_path: Path) -> None:
    """As pandas writes it with `orient="records"`."""
    frame = pd.read_csv(io.StringIO(csv("user,item,timestamp")))
    frame.to_json(tmp_path / "log.json", orient="records", indent=indent)
    (tmp_path / "log.csv").write_text(csv("user,item,timestamp"))
    assert load_dataset(str(tmp_path / "log.json")).fingerprint == load_dataset(str(tmp_path / "log.csv")).fingerprint
    (tmp_path / "log.json").write_text(json.dumps([1, 2, 3]))
    with pytest.raises(InputError, match="the header lacks user, item, timestamp"):
        load_dataset(str(tmp_path / "log.json"))


def test_the_page_of_formats_has_the_names_of_columns_of_rankings() -> None:
    page = (Path(__file__).parents[2] / "docs/data-formats.md").read_text(encoding="utf-8")
    rows = page[page.index("## Rankings") :].splitlines()
    for ours, names in RANKING_ALIASES.items():
        row = next(line for line in rows if line.startswith(f"| `{ours}`")).replace("`", "").replace(",", " ").split()
        assert {name.replace("_", "") for name in names} <= {name.replace("_", "") for name in row}, ours


def test_the_page_of_formats_has_every_name_of_a_column() -> None:
    page = (Path(__file__).parents[2] / "docs/data-formats.md").read_text(encoding="utf-8")
    for ours, names in ALIASES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{ours}` | "))
        assert set(names) <= set(row.replace("`", "").replace(",", " ").split()), ours


@pytest.mark.parametrize(
    ("folder", "name"), [("my shop é", "my-shop-e"), ("a,b & c", "a-b-c"), ("商店", "data-"), ("shop-", "shop-")]
)
def test_names_with_blanks_and_accents(folder: str, name: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "interactions.csv").write_text(csv("user,item,timestamp"))
    data = load_dataset(str(tmp_path / folder))
    assert data.name.startswith(name) and data.name == folder_dataset(tmp_path / folder)
    assert (data.name == folder) or any(f"called {data.name} in results" in note for note in data.notes)
