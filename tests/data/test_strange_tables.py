"""Tables as strangers have them: other names of columns, separators, endings, ratings, and a few wrong lines."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.data.dataset import Dataset, ItemText
from harness.data.loading import folder_dataset, load_dataset
from harness.data.reading import ALIASES, Reading, parse_columns
from harness.errors import InputError
from harness.runs.ranking_files import ALIASES as RANKING_ALIASES

ROWS = [(f"u{u}", f"i{(u + n) % 9}", 1_500_000_000 + 60 * n, 1 + (u + n) % 5) for u in range(12) for n in range(6)]


ATOMIC = "user_id:token,item_id:token,timestamp:float"


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
        ("Shop.CSV", csv("user,item,timestamp")),
        ("interactions.tsv", csv("user,item,timestamp", "\t").encode("utf-16")),
        ("interactions.csv", gzip.compress(csv("user,item,timestamp").encode())),
        ("interactions.csv", "sep=;\n" + csv("user,item,timestamp", ";")),
        ("interactions.csv", "# made by us\n% 72 lines\n" + csv("user,item,timestamp")),
        ("interactions.csv", csv("user,item,timestamp", ", ")),
        ("interactions.csv", csv("user,item,timestamp").replace("\n", ",,\n")),
        ("interactions.csv", csv("user_id:token,item_id:token,timestamp:float")),
        ("interactions.tsv", csv("user,item,time", "\t").replace("\n", '\t"Heroes" live\n')),
        ("interactions.csv", csv("user,item,time", ";").replace("\n", ';"say \\"ho\\"; ho"\n')),
        ("interactions.csv", csv("user,item,timestamp").replace("\n", "\r")),
        ("interactions.csv", csv("user,item,timestamp").replace("\n", ",\n").replace(",\n", "\n", 1)),
        ("interactions.csv", csv("user,item,timestamp") + ",,\n" * 50),
        ("interactions.csv", csv("user,item,timestamp").encode("utf-16-le")),
        ("interactions.csv", csv("user,item,timestamp").encode("utf-32")),
        ("Interactions.CSV", csv("user,item,timestamp")),
        (
            "shop.inter",
            csv("user_id:token,item_id:token,timestamp:float", "\t").replace("\n", "\t\n").replace("\t\n", "\n", 1),
        ),
        ("shop.inter.gz", csv("user_id:token,item_id:token,timestamp:float", "\t")),
    ],
)
def test_one_content_in_many_forms(name: str, content: str | bytes, tmp_path: Path) -> None:
    whole = plain(tmp_path)
    (tmp_path / "shop").mkdir()
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "shop" / f"._{name}").write_bytes(b"\0\5\x16\7")  # as macOS puts beside a copied file
    (tmp_path / "shop" / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    of_folder, of_file = load_dataset(str(tmp_path / "shop")), load_dataset(str(tmp_path / "shop" / name))
    assert of_folder.fingerprint == of_file.fingerprint == whole.fingerprint
    assert of_folder.name == "shop" == folder_dataset(tmp_path / "shop")
    assert of_file.name == folder_dataset(tmp_path / "shop" / name)
    assert of_folder.timestamps is not None and of_folder.timestamps[0] == 1_500_000_000


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("log.dat", csv("user,item,timestamp", "::"), ""),
        ("user_artists.dat", csv("userID,artistID,timestamp", "\t"), "item=artistID"),
        ("clicks.dat", csv("user,item,timestamp").partition("\n")[2], "user=1,item=2,timestamp=3"),
        ("checkins.txt", csv("user,item,timestamp", "\t").partition("\n")[2], "user=1,item=2,timestamp=3"),
        ("links.txt", csv("user,item,timestamp", "  ").partition("\n")[2], "user=1,item=2,timestamp=3"),
        ("log.txt", csv("user_id,item_id,timestamp", "\t"), ""),
        ("log.txt.gz", csv("user_id,item_id,timestamp"), ""),
    ],
)
def test_text_files_that_are_tables(name: str, content: str, columns: str, tmp_path: Path) -> None:
    whole = plain(tmp_path)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    reading = Reading(columns=parse_columns(columns)) if columns else Reading()
    assert load_dataset(str(path), reading=reading).fingerprint == whole.fingerprint


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "names",
    [
        ("Baby.train", "Baby.valid", "Baby.test"),
        ("train", "val", "test"),
        ("part-00000", "part-00001-c000.snappy", "part-00002"),
        ("train-00000-of-00003", "train-00001-of-00003", "train-00002-of-00003"),
    ],
)
def test_a_table_in_parts_is_one(ending: str, names: tuple[str, ...], tmp_path: Path) -> None:
    whole = plain(tmp_path)
    (tmp_path / "shop").mkdir()
    frame = pd.read_csv(io.StringIO(csv("user,item,timestamp")))
    for name, rows in zip(names, (slice(None, 40), slice(40, 60), slice(60, None)), strict=True):
        path = tmp_path / "shop" / f"{name}{ending}"
        if ending == ".csv":
            frame[rows].to_csv(path, index=False)
        elif ending == ".jsonl":
            frame[rows].to_json(path, orient="records", lines=True)
        else:
            frame[rows].to_parquet(path)
    data = load_dataset(str(tmp_path / "shop"))
    assert data.fingerprint == whole.fingerprint
    assert any("are joined; the protocol splits them again" in note for note in data.notes)
    if "test" in names[-1]:
        assert load_dataset(str(tmp_path / "shop" / f"{names[0]}{ending}")).fingerprint == whole.fingerprint


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_lists_of_items_are_rows(ending: str, tmp_path: Path) -> None:
    whole = plain(tmp_path)
    frame = pd.read_csv(io.StringIO(csv("user_id,item_list,timestamps")))
    lists = frame.groupby("user_id", sort=False).agg(list).reset_index()
    path = tmp_path / f"log{ending}"
    if ending == ".csv":
        lists.to_csv(path, index=False)
    elif ending == ".jsonl":
        lists.to_json(path, orient="records", lines=True)
    else:
        lists.to_parquet(path)
    assert load_dataset(str(path)).fingerprint == whole.fingerprint


@pytest.mark.parametrize("mark", ["NA", "nan", "NULL", "\\N", "None", " "])
def test_a_mark_for_a_missing_id_is_no_id(mark: str, tmp_path: Path) -> None:
    lines = csv("user,item,timestamp").splitlines()
    (tmp_path / "interactions.csv").write_text("\n".join([*lines, f"{mark},i1,1500000000"]) + "\n")
    data = load_dataset(str(tmp_path))
    assert data.fingerprint == plain(tmp_path).fingerprint and "empty user id" in data.warnings[0]
    (tmp_path / "interactions.csv").write_text("\n".join([lines[0], *(f"{mark},i{n},{n}" for n in range(9))]))
    with pytest.raises(InputError, match="9 of 9 lines are wrong"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("part", [slice(1, None), slice(20, 40)], ids=["all", "some"])
@pytest.mark.parametrize("layout", ["csv", "recbole"])
def test_whole_ids_that_pandas_made_floats_fit_the_item_file(layout: str, part: slice, tmp_path: Path) -> None:
    header, separator = ("user,sku,timestamp", ",") if layout == "csv" else (ATOMIC, "\t")
    lines = [line.replace(f"{separator}i", separator) for line in csv(header, separator).splitlines()]
    lines[0] = header.replace(",", separator)
    lines[part] = [line.replace(f"{separator}15", f".0 {separator}15") for line in lines[part]]
    name = "interactions.csv" if layout == "csv" else "x.inter"
    (tmp_path / name).write_text("\n".join(lines))
    header, name = ("item,title", "items.csv") if layout == "csv" else ("item_id:token\ttitle:token_seq", "x.item")
    (tmp_path / name).write_text(header + "".join(f"\n{n} {separator}T{n}" for n in range(9)))
    data = load_dataset(str(tmp_path))
    assert data.text is not None and [text.title for text in data.text] == [f"T{item}" for item in data.items]
    assert len(data.items) == 9


@pytest.mark.parametrize("raw", ["9.78014E+12", "1e+05"])
def test_an_id_that_lost_digits_is_no_id(raw: str, tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp") + f"u1,{raw},1500000000\n")
    assert f"item id '{raw}' is a rounded number" in load_dataset(str(tmp_path)).warnings[0]
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp").replace(",i2", f",{raw}"))
    with pytest.raises(InputError, match=r"rounded number.*write ids with all their digits"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("order", ["time", "file"])
@pytest.mark.parametrize(
    ("name", "header", "separator"), [("interactions.csv", "user,item,timestamp", ","), ("x.inter", ATOMIC, "\t")]
)
def test_a_header_in_the_middle_is_no_row(name: str, header: str, separator: str, order: str, tmp_path: Path) -> None:
    lines = csv(header, separator).splitlines(keepends=True)
    (tmp_path / name).write_text("".join([*lines[:30], lines[0], *lines[30:]]))
    data = load_dataset(str(tmp_path), order)
    assert (data.interactions, len(data.items)) == (len(ROWS), 9)
    assert any("1 lines repeat the header" in note for note in data.notes)


@pytest.mark.parametrize("first", ["user_id item_id", "user items"])
def test_a_header_of_sequences_is_no_user(first: str, tmp_path: Path) -> None:
    (tmp_path / "user_sequence.txt").write_text(f"{first}\n" + "".join(f"u{u} {u % 3} {u % 5} 7\n" for u in range(6)))
    data = load_dataset(str(tmp_path))
    assert len(data.users) == 6 and any("read as a header" in note for note in data.notes)


def test_an_item_file_of_other_ids_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp"))
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"I{n},T{n}\n" for n in range(9)))
    assert "ids such as 'I0', the interactions 'i0'" in load_dataset(str(tmp_path)).warnings[0]


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({"data.zip": b"PK"}, r"unpack data\.zip"),
        ({"inner/interactions.csv": csv("user,item,timestamp").encode()}, "its folder inner has one: give"),
        ({"interactions.csv": "user,item,timestamp\né,i,1\n".encode("latin-1")}, "iconv -f latin1"),
        ({"interactions.csv": b"PK\3\4\xff\xfe"}, "it is a zip archive or a workbook: save the table as CSV"),
        ({"interactions.csv": gzip.compress(gzip.compress(b"user,item"))}, "it is gzipped twice"),
    ],
)
def test_a_hint_says_what_to_do(files: dict[str, bytes], hint: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=hint):
        load_dataset(str(tmp_path))


def test_a_table_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(csv("user,item,timestamp"))
    (tmp_path / "movies.csv").write_text("item,title\ni0,Pen\n")
    assert any("not read: movies.csv" in note for note in load_dataset(str(tmp_path)).notes)


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
    (tmp_path / "c.csv").write_text('"who, by number",what,when\n' + csv("who,what,when").partition("\n")[2])
    commas = Reading(columns=parse_columns("user=who, by number,item=what,timestamp=when"))
    assert load_dataset(str(tmp_path / "c.csv"), reading=commas).fingerprint == whole.fingerprint
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
