"""Every fault of a data file is one line that names file, line and field, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.loading import load_dataset
from harness.errors import InputError

CSV = "user,item,timestamp\n"
ATOMIC = "user_id:token\titem_id:token\ttimestamp:float\n"
GOOD = CSV + "u,a,1\nu,b,2\n"
JSON = '{"u": ["a", "b"]}'

CASES: dict[str, tuple[dict[str, str | bytes], str]] = {
    "empty csv": ({"interactions.csv": ""}, r"interactions\.csv: the file is empty"),
    "only a header": ({"interactions.csv": CSV}, r"interactions\.csv: no rows"),
    "no timestamp": ({"interactions.csv": "user,item\nu,a\n"}, r"interactions\.csv line 1: .*lacks timestamp"),
    "column twice": ({"interactions.csv": "user,item,timestamp,item\n"}, r"line 1: column 'item' stands twice"),
    "too few fields": ({"interactions.csv": CSV + "u,a,1\nu,b\n"}, r"interactions\.csv line 3: 2 fields.* 3"),
    "open quote": ({"interactions.csv": CSV + 'u,"a,1\n'}, r"interactions\.csv line 2: not CSV"),
    "text for time": ({"interactions.csv": CSV + "u,a,1\nu,b,x\n"}, r"line 3 field 'timestamp': .*'x'"),
    "nan": ({"interactions.csv": CSV + "u,a,nan\nu,b,2\n"}, r"line 2 field 'timestamp': .*'nan'"),
    "infinite": ({"interactions.csv": CSV + "u,a,1\n\nu,b,inf\n"}, r"line 4 field 'timestamp': .*'inf'"),
    "negative": ({"interactions.csv": CSV + "u,a,-1\nu,b,2\n"}, r"line 2 field 'timestamp': .*'-1'"),
    "no time": ({"interactions.csv": CSV + "u,a,\nu,b,2\n"}, r"line 2 field 'timestamp': .*''"),
    "constant": ({"interactions.csv": CSV + "u,a,0\nu,b,0\n"}, r"all 2 timestamps are 0"),
    "no user": ({"interactions.csv": CSV + "u,a,1\n ,b,2\n"}, r"line 3 field 'user': empty user id"),
    "no item": ({"interactions.csv": CSV + "u,,1\nu,b,2\n"}, r"line 2 field 'item': empty item id"),
    "bad bytes": ({"interactions.csv": CSV.encode() + b"u,\xff,1\n"}, r"interactions\.csv line 2: not UTF-8"),
    "bad bytes late": (
        {"interactions.csv": CSV.encode() + b"u,a,1\n" * 5000 + b"u,\xff,1\n"},
        r"interactions\.csv line 5002: not UTF-8",
    ),
    "atomic bad bytes late": (
        {"x.inter": ATOMIC.encode() + b"u\ta\t1\n" * 5000 + b"u\t\xff\t1\n"},
        r"x\.inter line 5002: not UTF-8",
    ),
    "item twice": (
        {"interactions.csv": GOOD, "items.csv": "item,title\na,A\na,B\n"},
        r"items\.csv line 3 .*'a' stands",
    ),
    "no title": ({"interactions.csv": GOOD, "items.csv": "item,colour\na,A\n"}, r"items\.csv line 1: .*lacks title"),
    "untyped": ({"x.inter": "user_id\titem_id\ttimestamp\nu\ta\t1\n"}, r"x\.inter line 1: .*'user_id' has no known"),
    "unknown type": ({"x.inter": ATOMIC.replace("float", "int") + "u\ta\t1\n"}, r"line 1: .*'timestamp:int'"),
    "atomic without time": ({"x.inter": "user_id:token\titem_id:token\nu\ta\n"}, r"lacks timestamp:float"),
    "atomic fields": ({"x.inter": ATOMIC + "u\ta\t1\nu b 2\n"}, r"x\.inter line 3: 1 fields.* 3"),
    "atomic time": ({"x.inter": ATOMIC + "u\ta\t1\nu\tb\tsoon\n"}, r"x\.inter line 3 field 'timestamp'"),
    "atomic item twice": (
        {"x.inter": ATOMIC + "u\ta\t1\nu\tb\t2\n", "x.item": "item_id:token\ttitle:token\na\tA\nb\tB\na\tC\n"},
        r"x\.item line 4 field 'item_id': item 'a' stands twice",
    ),
    "not json": ({"x.inter.json": '{"u": ["a",\n "b"'}, r"x\.inter\.json line 2 column 5: not JSON"),
    "a list": ({"x.inter.json": '["u"]'}, r"x\.inter\.json: the top level must be a JSON object"),
    "an empty object": ({"x.inter.json": "{}"}, r"x\.inter\.json: the JSON object is empty"),
    "no interaction": ({"x.inter.json": '{"u": []}'}, r"x\.inter\.json: no user has an interaction"),
    "user twice": ({"x.inter.json": '{"u": ["a"],\n "v": ["a"],\n "u": ["b"]}'}, r"line 3: key 'u' is repeated"),
    "no list": ({"x.inter.json": '{"u": "a b"}'}, r"x\.inter\.json user 'u': a list of items"),
    "odd item": ({"x.inter.json": '{"u": ["a", 1.5]}'}, r"user 'u': item 1\.5 at place 2 is no id"),
    "null item": ({"x.inter.json": '{"u": [null]}'}, r"user 'u': item None at place 1"),
    "true item": ({"x.inter.json": '{"u": [true]}'}, r"user 'u': item True at place 1"),
    "text no object": ({"x.inter.json": JSON, "x.item.json": '{"a": "Pen"}'}, r"x\.item\.json item 'a': an object"),
    "title no text": (
        {"x.inter.json": JSON, "x.item.json": '{"a": {"title": true}}'},
        r"item 'a' field 'title': .*bool",
    ),
    "text twice": ({"x.inter.json": JSON, "x.item.json": '{"a": {},\n"a": {}}'}, r"x\.item\.json line 2: key 'a'"),
    "nothing": ({"readme.txt": "x"}, r"no interactions file of a known layout; it needs NAME\.inter\.json"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(name: str, tmp_path: Path) -> None:
    files, pattern = CASES[name]
    for file, content in files.items():
        (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=pattern) as caught:
        load_dataset(str(tmp_path))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(InputError, match=r"unknown data set 'ml100k'.*did you mean ml-100k or ml-1m"):
        load_dataset("ml100k")


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_dataset(str(tmp_path / "gone"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file of no known layout"):
        load_dataset(str(tmp_path / "file"))


def test_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "x.inter.json").write_text(JSON)
    (tmp_path / "x.item.json").mkdir()
    with pytest.raises(InputError, match=r"x\.item\.json: the file cannot be read"):
        load_dataset(str(tmp_path))
