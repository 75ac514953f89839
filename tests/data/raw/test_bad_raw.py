"""Every fault of a raw file is one line that names file, line and field; exit code 2; and nothing is written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.raw.prepare import Request, prepare
from harness.errors import InputError
from tests.data.raw import files
from tests.data.raw.files import DAY, START, core_rows, put

RATINGS, META = "Musical_Instruments.csv", "meta_Musical_Instruments.json.gz"
CORE = core_rows()
LINES = [f"{item},{user},{rating},{time}" for user, item, rating, time in CORE]


def csv(third: str) -> Callable[[Path], object]:
    """The ratings with another third line."""
    return lambda raw: put(raw / RATINGS, "\n".join([*LINES[:2], third, *LINES[2:], ""]))


def meta(third: str | bytes) -> Callable[[Path], object]:
    """The metadata with another third line."""
    good = [json.dumps({"asin": f"I{n}", "title": "T"}).encode() for n in range(5)]
    odd = third.encode() if isinstance(third, str) else third
    return lambda raw: put(raw / META, b"\n".join([*good[:2], odd, *good[2:], b""]))


def cut_off(raw: Path) -> None:
    complete = gzip.compress(
        b"".join(json.dumps({"asin": f"I{n}", "title": str(n) * 999}).encode() + b"\n" for n in range(50))
    )
    (raw / META).write_bytes(complete[: len(complete) * 2 // 3])


def broken_bytes(raw: Path) -> None:
    content = bytearray((raw / META).read_bytes())
    content[20:40] = b"x" * 20
    (raw / META).write_bytes(bytes(content))


def bad_bytes(raw: Path) -> None:
    lines = [line.encode() for line in LINES]
    put(raw / RATINGS, b"\n".join([*lines[:2], b"I\xff,U0,5.0,1", *lines[2:]]))


def swapped(raw: Path) -> None:
    put(raw / RATINGS, "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in CORE))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no ratings": (lambda raw: (raw / RATINGS).unlink(), r"no Musical_Instruments\.csv.*Ratings/.*https://"),
    "no metadata": (lambda raw: (raw / META).unlink(), r"no meta_Musical_Instruments\.json\.gz"),
    "empty ratings": (lambda raw: put(raw / RATINGS, ""), r"Instruments\.csv: the file holds no interactions"),
    "empty metadata": (lambda raw: put(raw / META, ""), r"meta_\S+: the file describes no item"),
    "truncated gzip": (
        cut_off,
        r"meta_Musical_Instruments\.json\.gz line 1: the gzip file is cut off here or soon after; download",
    ),
    "broken gzip": (broken_bytes, r"meta_\S+: the compressed file is broken"),
    "not gzip": (lambda raw: (raw / META).write_text("hello"), r"meta_\S+: the compressed file is broken"),
    "bad UTF-8 in ratings": (
        lambda raw: (raw / RATINGS).write_bytes(b"I0,U0,5.0,1\nI0,\xff,5.0,1\n"),
        r"csv line 1 field 'time'",
    ),
    "bad UTF-8": (bad_bytes, r"csv line 3: not UTF-8 text"),
    "bad UTF-8 in metadata": (meta(b'{"asin": "I\xff"}'), r"meta_\S+ line 3: not UTF-8 text"),
    "not JSON": (meta('{"asin": "I9"'), r"meta_\S+ line 3: not JSON \(unexpected end of data, character 15\)"),
    "no object": (meta('["I9"]'), r"meta_\S+ line 3: an object is needed, not list"),
    "no asin": (meta('{"title": "T"}'), r"meta_\S+ line 3 field 'asin': it is missing"),
    "odd asin": (meta('{"asin": 5}'), r"meta_\S+ line 3 field 'asin': 5 is no id"),
    "odd title": (
        meta('{"asin": "I1", "title": {"a": 1}}'),
        r"meta_\S+ line 3 field 'title': text is needed, not dict",
    ),
    "Python literal": (
        meta("{'asin': 'I1'}"),
        r"meta_\S+ line 3: a Python literal, as in the metadata of Amazon Reviews 2014",
    ),
    "too few columns": (csv("I0,U0,5.0"), r"csv line 3: 3 fields where 4 are needed \(item,user,rating,time\)"),
    "too many columns": (csv("I0,U0,5.0,1,2"), r"csv line 3: 5 fields"),
    "no user": (csv(f"I0,,5.0,{START}"), r"csv line 3 field 'user': '' is no id"),
    "no item": (csv(f" ,U0,5.0,{START}"), r"csv line 3 field 'item': ' ' is no id"),
    "no time": (csv("I0,U0,5.0,"), r"csv line 3 field 'time': timestamp '' is no time"),
    "text for time": (csv("I0,U0,5.0,soon"), r"csv line 3 field 'time': timestamp 'soon'"),
    "text for rating": (csv(f"I0,U0,good,{START}"), r"csv line 3 field 'rating': rating 'good' is not a number"),
    "no number for rating": (csv(f"I0,U0,nan,{START}"), r"csv line 3 field 'rating': rating 'nan' is not a number"),
    "constant times": (
        lambda raw: files.ratings_2018(raw, [(*row[:3], START) for row in CORE]),
        r"Musical_Instruments\.csv field 'time': the timestamps never differ within any user",
    ),
    "negative time": (csv("I0,U0,5.0,-1"), r"csv line 3 field 'time': timestamp '-1' lies outside"),
    "milliseconds": (csv(f"I0,U0,5.0,{START}000"), r"csv line 3 field 'time': .* outside .*1995-01-01 to 2018-12-31"),
    "after the release": (csv("I0,U0,5.0,1600000000"), r"csv line 3 field 'time': .*of another release"),
    "a header": (lambda raw: put(raw / RATINGS, "item,user,rating,time\n"), r"csv line 1: a header"),
    "ratings of 2023": (
        lambda raw: put(raw / RATINGS, "user_id,parent_asin,rating,timestamp\nU,I,5.0,1600000000000\n"),
        r"csv line 1: a header \(user_id,parent_asin.*another release",
    ),
    "ratings of 2014": (
        swapped,
        r"meta_\S+: it describes none of the 5 items .*changed places, as in the release of 2014",
    ),
    "metadata of 2023": (
        lambda raw: put(raw / META, files.json_lines([{"parent_asin": "I1", "main_category": "X"}])),
        r"meta_\S+ line 1: it has parent_asin, main_category, as .*Amazon Reviews 2023",
    ),
    "another category": (
        lambda raw: files.metadata_2018(raw, ["OTHER"]),
        r"meta_\S+: it describes none of the 5 items of .*same release and category",
    ),
    "nothing left": (lambda raw: put(raw / RATINGS, LINES[0] + "\n"), r"csv: nothing is left after the steps"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_line(case: str, tmp_path: Path, own_home: Path) -> None:
    spoil, pattern = CASES[case]
    raw = files.set_2018(tmp_path / "raw")
    spoil(raw)
    with pytest.raises(InputError, match=pattern) as caught:
        prepare(Request("instruments", raw, bad_lines=0))
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert not list(own_home.rglob("*.parquet")) and not list(own_home.rglob("*.json"))


def test_names() -> None:
    for name, pattern in {
        "instrument": "unknown public data set 'instrument'; did you mean instruments",
        "amazon2018:Musical_Instrument": "unknown category of Amazon Reviews 2018.*did you mean Musical_Instruments",
        "amazon2014:All_Beauty": "unknown category of Amazon Reviews 2014.*did you mean",
        "nonsense": "unknown public data set 'nonsense'",
    }.items():
        with pytest.raises(InputError, match=pattern):
            prepare(Request(name))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: no such folder"):
        prepare(Request("instruments", tmp_path / "gone"))


def test_without_raw_files_and_without_a_network() -> None:
    with pytest.raises(InputError, match=r"Musical_Instruments\.csv: not here, and HARNESS_OFFLINE"):
        prepare(Request("instruments"))
    with pytest.raises(InputError, match=r"yelp: .*terms.*yelp_academic_dataset_review\.json and \S+ lie in DIR"):
        prepare(Request("yelp"))


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("{'asin': 'I1', 'title': __import__('os')}", "line 2: not a Python literal"),
        ("{'asin': 'I1', 'title': 'open", "line 2: not a Python literal"),
        ("{'title': 'T'}", "line 2 field 'asin': it is missing"),
        ("{'asin': 'I1', 'title': " + "[" * 500 + "]" * 500 + "}", "line 2: not a Python literal"),
    ],
)
def test_literals_of_2014(line: str, pattern: str, tmp_path: Path) -> None:
    files.reviews_2014(tmp_path, CORE)
    put(tmp_path / "meta_Beauty.json.gz", f"{{'asin': 'I0', 'imUrl': ''}}\n{line}\n")
    with pytest.raises(InputError, match=pattern):
        prepare(Request("beauty", tmp_path, bad_lines=0))


def test_reviews_of_another_release(tmp_path: Path) -> None:
    files.metadata_2014(tmp_path, ["I0"])
    record = {"reviewerID": "U0", "asin": "I0", "overall": 5.0, "unixReviewTime": START, "verified": True, "vote": "2"}
    put(tmp_path / "reviews_Beauty_5.json.gz", files.json_lines([record]))
    with pytest.raises(
        InputError, match=r"line 1: it has verified, vote, as .*Amazon Reviews 2018.*nothing that reviews_"
    ):
        prepare(Request("beauty", tmp_path))


def test_a_missing_field_of_a_review(tmp_path: Path) -> None:
    files.metadata_2014(tmp_path, ["I0"])
    put(tmp_path / "reviews_Beauty_5.json.gz", files.json_lines([{"asin": "I0", "helpful": [0, 0], "overall": 5.0}]))
    with pytest.raises(InputError, match=r"line 1 field 'reviewerID': it is missing"):
        prepare(Request("beauty", tmp_path))


def test_what_was_prepared_stays_when_the_next_try_fails(tmp_path: Path) -> None:
    from harness.data.local_store import load

    raw = files.set_2018(tmp_path / "raw")
    previous = prepare(Request("instruments", raw)).kept
    csv(f"I0,U0,5.0,{-DAY}")(raw)
    with pytest.raises(InputError):
        prepare(Request("instruments", raw, bad_lines=0))
    assert load("instruments").fingerprint == previous.fingerprint
