"""A few wrong lines of a public raw file do not stop a data set: they are left out, counted and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.loading import load_dataset
from harness.data.raw.prepare import Request, prepare
from harness.data.readers.movielens import decoded
from harness.errors import InputError
from tests.data.raw import files
from tests.data.raw.files import DAY, START, core_rows, put

ROWS = core_rows(10, 10)
GOOD = [f"{item},{user},{rating},{time}" for user, item, rating, time in ROWS]


@pytest.mark.parametrize(
    "line",
    ["I0,U0,5.0,-62135596800", "I0,U0,5.0", "I0,,5.0,1400000000", "I0,U0,good,1400000000", "I0,U0,5.0,9999999999"],
)
def test_wrong_interactions(line: str, tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw", ROWS)
    complete = prepare(Request("instruments", raw)).kept.fingerprint
    put(raw / "Musical_Instruments.csv", "\n".join([*GOOD[:50], line, *GOOD[50:], ""]))
    done = prepare(Request("instruments", raw))
    assert done.kept.fingerprint == complete
    (warning,) = done.story["warnings"]
    assert "1 of 101 lines are wrong and left out" in warning and "line 51" in warning
    with pytest.raises(InputError, match="line 51"):
        prepare(Request("amazon2018:Musical_Instruments", raw, tie_seed=7, bad_lines=0))


@pytest.mark.parametrize("line", [b'{"asin": "I0"', b"[1]", b'{"title": "T"}', b'{"asin": "I\xff"}'])
def test_wrong_metadata(line: bytes, tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw", ROWS)
    records = [json.dumps({"asin": f"I{n % 10}", "title": f"T{n % 10}"}).encode() for n in range(30)]
    put(raw / "meta_Musical_Instruments.json.gz", b"\n".join(records))
    complete = prepare(Request("instruments", raw)).kept.fingerprint
    put(raw / "meta_Musical_Instruments.json.gz", b"\n".join([*records[:7], line, *records[7:]]))
    done = prepare(Request("instruments", raw))
    assert done.kept.fingerprint == complete and "line 8" in done.story["warnings"][0]


def test_many_wrong_lines_are_an_error_that_names_the_option(tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw", ROWS)
    odd = [f"I0,U{n},5.0,{START}000" for n in range(20)]
    put(raw / "Musical_Instruments.csv", "\n".join([*GOOD, *odd]))
    with pytest.raises(InputError, match=r"line 101 .*outside the time.*20 of 120 lines.*--bad-lines 0\.17"):
        prepare(Request("instruments", raw))
    assert prepare(Request("instruments", raw, bad_lines=0.17)).story["result"]["interactions"] == 100


def test_a_file_of_wrong_lines_ends_early(tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw", ROWS)
    put(raw / "Musical_Instruments.csv", "\n".join(["I0,U0,5.0,1"] * 5000))
    with pytest.raises(InputError, match=r"1,000 of 1,\d+ lines are wrong"):
        prepare(Request("instruments", raw))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_titles_of_movielens_in_either_encoding(encoding: str, tmp_path: Path) -> None:
    titles = {n: f"Père Noël {n}, L' (1995)" for n in range(6)}
    rated = [(u, (u + n) % 6, 978_300_000 + 60 * n) for u in range(6) for n in range(6)]
    put(tmp_path / "ratings.dat", "".join(f"{u}::{i}::5::{t}\n" for u, i, t in rated))
    films = "".join(f"{n}::{title}::Drama|Comedy\n" for n, title in titles.items())
    put(tmp_path / "movies.dat", films.encode(encoding))
    prepare(Request("ml-1m", tmp_path))
    text = load_dataset("ml-1m").text
    assert text is not None and {entry.title for entry in text} == set(titles.values())
    assert decoded(films.encode(encoding)) == films


def test_a_window_of_other_years(tmp_path: Path) -> None:
    for year in (2018, 2021):
        rows = [(u, (u + n) % 6, f"{year}-03-{n + 1:02} 10:00:00") for u in range(6) for n in range(6)]
        lines = [
            json.dumps({"user_id": f"u{u}", "business_id": f"b{i}", "stars": 4.0, "date": date}) for u, i, date in rows
        ]
        with (tmp_path / "yelp_academic_dataset_review.json").open("a") as file:
            file.write("\n".join(lines) + "\n")
    shops = [json.dumps({"business_id": f"b{i}", "name": f"Shop {i}", "categories": None}) for i in range(6)]
    put(tmp_path / "yelp_academic_dataset_business.json", "\n".join(shops))
    with pytest.raises(InputError, match=r"--since and --until \(the file reaches from 2018-03-01 to 2021-03-06\)"):
        prepare(Request("yelp", tmp_path))
    done = prepare(Request("yelp", tmp_path, since="2021-01-01", until="2021-12-31"))
    assert done.kept.name == "yelp-from-2021-01-01-to-2021-12-31" and done.story["result"]["interactions"] == 36
    assert prepare(Request("yelp", tmp_path, since="2018-01-01")).story["result"]["interactions"] == 72
    with pytest.raises(InputError, match="no date"):
        prepare(Request("yelp", tmp_path, since="last year"))
    with pytest.raises(InputError, match="lies behind"):
        prepare(Request("yelp", tmp_path, since="2021-01-01", until="2020-01-01"))


def test_a_named_set_with_its_own_window(tmp_path: Path) -> None:
    earlier = [(user, f"E{item}", rating, START - 5 * 365 * DAY) for user, item, rating, _ in core_rows()]
    later = [(user, item, rating, time + 3 * 365 * DAY) for user, item, rating, time in core_rows()]
    files.ratings_2018(tmp_path, [*earlier, *later], "Office_Products")
    files.metadata_2018(tmp_path, sorted({row[1] for row in [*earlier, *later]}), "Office_Products")
    assert prepare(Request("office", tmp_path)).story["result"]["interactions"] == 50
    done = prepare(Request("office-2016-2018", tmp_path))
    assert done.kept.name == "office-2016-2018" and done.story["result"]["interactions"] == 25


@pytest.mark.parametrize(
    ("extra", "described"),
    [
        ({"features": ["Blue ink", "Smooth"]}, "A pen Blue ink Smooth"),
        ({"details": {"Brand": "Acme", "Rank": {"a": 1}, "Weight": "5 g"}}, "A pen Brand: Acme. Weight: 5 g."),
        ({"details": '{"Brand": "Acme"}', "features": []}, "A pen Brand: Acme."),
        ({"features": None, "details": None}, "A pen"),
    ],
)
def test_features_and_details_of_2023_are_text(extra: dict[str, object], described: str, tmp_path: Path) -> None:
    rows = core_rows()
    header = "user_id,parent_asin,rating,timestamp"
    put(tmp_path / "Software.csv.gz", "\n".join([header, *(f"{u},{i},{r},{t}000" for u, i, r, t in rows), ""]))
    record = {"main_category": "X", "title": "Pen", "description": ["A pen"], **extra}
    lines = files.json_lines([{**record, "parent_asin": f"I{n}"} for n in range(5)])
    put(tmp_path / "meta_Software.jsonl.gz", lines)
    prepare(Request("amazon2023:Software", tmp_path))
    text = load_dataset("amazon2023-Software").text
    assert text is not None and {entry.description for entry in text} == {described}
    prepare(Request("amazon2023:Software", tmp_path, text="released"))
    text = load_dataset("amazon2023-Software-released").text
    assert text is not None and {entry.description for entry in text} == {"A pen."}
