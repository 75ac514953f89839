"""Each release in its own format: ids, times, ties, texts; and the table of releases itself."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest

from harness.data.dataset import ItemText
from harness.data.local_store import load
from harness.data.raw.prepare import Request, prepare
from harness.data.raw.releases import Release, named_sets, releases, resolve
from harness.data.readers.item_texts import item_text
from tests.data.raw import files
from tests.data.raw.files import DAY, START, core_rows, json_lines, put
from tests.data.raw.test_filters import sequences


def test_2018_from_the_published_folders_and_from_reviews(tmp_path: Path) -> None:
    """The scripts' folders, ratings or reviews, compressed or not: one result."""
    rows, described = files.random_set(5)
    files.ratings_2018(tmp_path / "a" / "Ratings", rows)
    files.metadata_2018(tmp_path / "a" / "Metadata", described)
    reviews = [
        {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time, "verified": True}
        for user, item, rating, time in rows
    ]
    put(tmp_path / "b" / "Review" / "Musical_Instruments.json.gz", json_lines(reviews))
    files.metadata_2018(tmp_path / "b" / "Metadata", described)
    put(tmp_path / "c" / "Musical_Instruments.csv.gz", (tmp_path / "a/Ratings/Musical_Instruments.csv").read_bytes())
    files.metadata_2018(tmp_path / "c", described)
    marks = {prepare(Request("instruments", tmp_path / folder)).kept.fingerprint for folder in "abc"}
    assert len(marks) == 1


def test_2014_keeps_the_order_of_lines_where_times_are_equal(tmp_path: Path) -> None:
    rows = [(user, item, rating, START) for user, item, rating, _ in core_rows()]
    random.Random(3).shuffle(rows)
    rows.append((rows[0][0], "I9", 0.0, START))  # rated 0: dropped, as published
    files.reviews_2014(tmp_path, rows)
    related = {"also_bought": ["I9"] * 9}
    files.metadata_2014(tmp_path, ["I0", "I1", "I2", "I3", "I4", "Z"], related=related, categories=[["A", "B"], ["C"]])
    rows[0] = (*rows[0][:3], START - DAY)  # one other time: constant timestamps state no order
    files.reviews_2014(tmp_path, rows)
    data = load(prepare(Request("beauty", tmp_path)).kept.name)
    assert data.users == tuple(dict.fromkeys(user for user, *_ in rows))
    for user, row in sequences(data).items():
        assert [item for item, _ in row] == [item for name, item, *_ in rows if name == user and item != "I9"]
    assert data.text is not None
    assert data.text[0] == ItemText(f"Bob's {data.items[0]}", categories=("A", "B"))


@pytest.mark.parametrize("source", ["ids", "reviews"])
def test_2023(source: str, tmp_path: Path) -> None:
    rows = [(user, item, rating, time * 1000 + 7) for user, item, rating, time in core_rows()]
    if source == "ids":
        lines = [f"{user},{item},{rating},{time}\n" for user, item, rating, time in rows]
        put(tmp_path / "Video_Games.csv.gz", "user_id,parent_asin,rating,timestamp\n" + "".join(lines))
    else:
        records = [
            {"user_id": user, "asin": "x", "parent_asin": item, "rating": rating, "timestamp": time}
            for user, item, rating, time in rows
        ]
        put(tmp_path / "Video_Games.jsonl.gz", json_lines(records))
    described = [
        {"parent_asin": f"I{n}", "title": None if n else "T", "store": "S", "description": ["a", "b"], "categories": []}
        for n in range(5)
    ]
    put(tmp_path / "meta_Video_Games.jsonl.gz", json_lines(described))
    done = prepare(Request("amazon2023:Video_Games", tmp_path))
    data = load("amazon2023-Video_Games")
    assert data.timestamps is not None and data.timestamps[:2].tolist() == [START + 0.007, START + DAY + 0.007]
    assert data.text is not None and data.text[0] == ItemText("T", "a b", "S")
    lines = [(line["what"], line["published"], line["difference"]) for line in done.story["published"]]
    assert lines[0] == ("users", 94_800, 5 - 94_800)


@pytest.mark.parametrize("packed", [False, True])
def test_movielens_1m(packed: bool, tmp_path: Path) -> None:
    numbered = [(user[1:], item[1:], 974_687_810 + n // 3) for n, (user, item, *_) in enumerate(core_rows())]
    ratings = "".join(f"{user}::{item}::5::{time}\n" for user, item, time in numbered).encode()
    movies = "".join(f"{n}::Amélie {n} (2001)::Comedy|Romance\n" for n in range(6)).encode("latin-1")
    if packed:
        with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
            archive.writestr("ml-1m/ratings.dat", ratings)
            archive.writestr("ml-1m/movies.dat", movies)
    else:
        put(tmp_path / "ml-1m/ratings.dat", ratings)
        put(tmp_path / "ml-1m/movies.dat", movies)
    prepare(Request("ml-1m", tmp_path))
    data = load("ml-1m")
    assert next(iter(sequences(data).values())) == [(item, time) for user, item, time in numbered if user == "0"]
    assert data.text is not None and data.text[0] == ItemText("Amélie 0 (2001)", categories=("Comedy", "Romance"))


def test_yelp_takes_one_year_and_keeps_repeats(tmp_path: Path) -> None:
    day = "2019-03-0{} 10:00:00"
    rows = [(user, item, day.format(n % 5 + 1)) for n, (user, item, *_) in enumerate(core_rows())]
    rows += [
        ("U0", "I0", "2019-12-30 09:00:00"),
        ("U0", "I0", "2018-12-31 23:59:59"),
        ("U1", "I1", "2019-12-31 00:00:01"),
    ]
    records = [{"user_id": user, "business_id": item, "stars": 4.0, "date": date} for user, item, date in rows]
    put(tmp_path / "yelp_academic_dataset_review.json", json_lines(records))
    shops = [{"business_id": f"I{n}", "name": f"Shop {n}", "categories": "Food, Bars"} for n in range(5)]
    put(tmp_path / "yelp_academic_dataset_business.json", json_lines(shops))
    done = prepare(Request("yelp", tmp_path))
    assert done.story["result"]["interactions"] == 26  # the repeat within the year stays, what lies outside goes
    data = load("yelp")
    assert data.text is not None and data.text[0].categories == ("Food", "Bars")


FIELDS = {"title": "title", "description": "description", "brand": "brand", "categories": "category"}
RECORD = {
    "title": 'A 5&quot; <b>pen</b>\nfor "you"..',
    "description": ["one<br>two", "x" * 1990 + " yyyy zzzz"],
    "brand": "by\n    Maker",
    "category": ["Arts, Crafts", "Pens", "</span></span>more", "Never"],
}


def test_clean_text_is_cut_and_not_blanked() -> None:
    text = item_text(RECORD, FIELDS, "clean")
    assert (text.title, text.brand, text.categories) == ('A 5" pen for "you"..', "Maker", ("Arts, Crafts", "Pens"))
    assert text.description == "one two " + "x" * 1990  # 2,000 characters at most, up to the end of a word
    assert len(text.description) <= 2000
    scraped = {
        "title": "var aPageStart = (new Date()).getTime();",
        "description": "<script>x < 1</script>good &amp; new",
    }
    assert item_text(scraped, FIELDS, "clean") == ItemText(description="good & new")


def test_released_text_is_blanked_and_ends_in_a_full_stop() -> None:
    text = item_text(RECORD, FIELDS, "released")
    assert (text.title, text.description) == ("A 5 penfor you.", "")
    assert (text.brand, text.categories) == ("Maker", ("Arts", "Crafts", "Pens"))  # joined by commas, as published
    assert item_text({"title": "", "description": []}, FIELDS, "released") == ItemText(".", ".")


def test_the_text_mode_is_another_data_set(tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path)
    clean, released = (prepare(Request("instruments", raw, text=mode)).kept for mode in ("clean", "released"))
    assert (clean.name, released.name) == ("instruments", "instruments-released")
    assert load("instruments-released").text != load("instruments").text


def test_every_name_of_the_table_resolves_to_itself() -> None:
    for name, data in named_sets().items():
        assert resolve(name) is data
        if data.since is None:
            assert resolve(f"{data.release.key}:{data.category}") is data
        assert data.category in data.release.categories
        assert data.how_to_get.startswith(f"harness data prepare {name}")
    for key, release in releases().items():
        for category in release.categories:
            result = resolve(f"{key}:{category}")
            assert resolve(result.name) == result
        for file, expected in release.known.items():
            assert len(expected.sha256) == 64 and file in _public_names(release)
    assert resolve("All_Beauty").release.key == "amazon2018"
    assert resolve("beauty").release.key == "amazon2014"  # the trap of the released scripts' name map


def _public_names(release: Release) -> set[str]:
    specs = (*release.interactions, *release.metadata)
    return {spec.archive or spec.file.format(category=name) for spec in specs for name in release.categories}
