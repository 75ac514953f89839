"""Files of rankings: every form gives the same lists, and equal scores never go by the order of lines."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ranx

from harness.errors import InputError
from harness.runs.rankings import Rankings, read_rankings
from harness.store.record import write_predictions
from tests import toys

DATA = toys.cycle(12, 9, 5)
FOLD = toys.split(DATA).test
Rows = list[tuple[str, int, str, float]]
Write = Callable[[Path, Rows], Path]


def lists() -> Rows:
    """user, rank, item, score: five items each in an order of the user's own."""
    rows = []
    for user in range(len(DATA.users)):
        order = np.random.default_rng(user).permutation(len(DATA.items))[:5]
        rows += [(f"u{user}", place, f"i{item}", 1 / place) for place, item in enumerate(order.tolist(), start=1)]
    return rows


def text(name: str, head: str, line: Callable[[str, int, str, float], str]) -> Write:
    """A writer of a text file, whose lines stand in no order."""

    def write(folder: Path, rows: Rows) -> Path:
        path = folder / name
        mixed = random.Random(1).sample(rows, len(rows))
        path.write_text(head + "".join(line(*row) + "\n" for row in mixed))
        return path

    return write


def in_order(folder: Path, rows: Rows) -> Path:
    path = folder / "order.csv"
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, _, item, _ in rows))
    return path


def as_json(kind: str) -> Write:
    def write(folder: Path, rows: Rows) -> Path:
        content: dict[str, list[object]] = {}
        for user, _, item, score in rows:
            content.setdefault(user, []).append([item, score] if kind == "pairs" else item)
        path = folder / f"{kind}.json"
        path.write_text(json.dumps(content))
        return path

    return write


def by_ranx(suffix: str) -> Write:
    def write(folder: Path, rows: Rows) -> Path:
        content: dict[str, dict[str, float]] = {}
        for user, _, item, score in rows:
            content.setdefault(user, {})[item] = score
        path = folder / f"run.{suffix}"
        ranx.Run.from_dict(content).save(str(path))
        return path

    return write


def as_parquet(users: str, items: str, last: str) -> Write:
    def write(folder: Path, rows: Rows) -> Path:
        columns = dict(zip((users, "rank", items, "score"), zip(*rows, strict=True), strict=True))
        path = folder / "x.parquet"
        pq.write_table(pa.table({name: list(columns[name]) for name in (last, users, items)}), path)
        return path

    return write


def as_records(name: str, *, listed: bool, score: bool = True) -> Write:
    """Objects with an item each, or with a list of items; as JSON, JSON lines or Parquet."""

    def write(folder: Path, rows: Rows) -> Path:
        records: list[dict[str, Any]] = [{"user_id": user, "item": item, "score": s} for user, _, item, s in rows]
        if listed:
            users = list(dict.fromkeys(user for user, *_ in rows))
            of = {user: [row for row in rows if row[0] == user] for user in users}
            records = [{"user_id": user, "items": [item for _, _, item, _ in of[user]]} for user in users]
            for record in records if score else ():
                record["scores"] = [s for *_, s in of[record["user_id"]]]
        path = folder / name
        if name.endswith("parquet") or name.endswith("pq"):
            pq.write_table(pa.Table.from_pylist(records), path)
        else:
            lines = name.endswith("jsonl")
            path.write_text("".join(json.dumps(r) + "\n" for r in records) if lines else json.dumps(records))
        return path

    return write


def changed(write: Write, name: str, change: Callable[[bytes], bytes]) -> Write:
    """The file of another writer with its bytes changed."""

    def changing(folder: Path, rows: Rows) -> Path:
        (folder / name).write_bytes(change(write(folder, rows).read_bytes()))
        return folder / name

    return changing


CSV = text("x.csv", "user,item,score\n", lambda u, r, i, s: f"{u},{i},{s!r}")
TREC = text("x.run", "", lambda u, r, i, s: f"{u} Q0 {i} {r} {s!r} tag")
FORMS: dict[str, Write] = {
    "UTF-16": changed(CSV, "y.csv", lambda raw: raw.decode().encode("utf-16")),
    "gzipped": changed(CSV, "y.csv.gz", gzip.compress),
    "gzipped TREC": changed(TREC, "y.trec.gz", gzip.compress),
    "gzipped JSON": changed(as_json("pairs"), "y.json.gz", gzip.compress),
    "blanks after commas": text("x.csv", "user, item, score\n", lambda u, r, i, s: f"{u}, {i}, {s!r}"),
    "bars": text("x.csv", "user|item|score\n", lambda u, r, i, s: f"{u}|{i}|{s!r}"),
    "camel case": text("x.csv", "userId,movieId,Score\n", lambda u, r, i, s: f"{u},{i},{s!r}"),
    "JSON lines": as_records("x.jsonl", listed=False),
    "JSON rows": as_records("x.json", listed=False),
    "JSON lines of lists and scores": as_records("x.jsonl", listed=True),
    "JSON rows of lists": as_records("x.json", listed=True, score=False),
    "Parquet of lists": as_records("x.pq", listed=True, score=False),
    "csv": text("x.csv", "user,item,score\n", lambda u, r, i, s: f"{u},{i},{s!r}"),
    "csv with a byte order mark": text("x.csv", "\ufeffuser,item,score\n", lambda u, r, i, s: f"{u},{i},{s!r}"),
    "user_id, item_id, rank": text("x.csv", "user_id,item_id,rank\n", lambda u, r, i, s: f"{u},{i},{r}"),
    "rank first": text("x.csv", "Rank,Item,User\n", lambda u, r, i, s: f"{r},{i},{u}"),
    "all columns": text("x.csv", "user_id,item_id,rank,score\n", lambda u, r, i, s: f"{u},{i},{r},{s!r}"),
    "constant scores": text("x.csv", "user,item,rank,score\n", lambda u, r, i, s: f"{u},{i},{r},0.5"),
    "constant ranks": text("x.csv", "user,item,rank,score\n", lambda u, r, i, s: f"{u},{i},0,{s!r}"),
    "tabs": text("x.tsv", "user\titem\tscore\n", lambda u, r, i, s: f"{u}\t{i}\t{s!r}"),
    "tabs in .csv": text("x.csv", "user\titem\tscore\n", lambda u, r, i, s: f"{u}\t{i}\t{s!r}"),
    "tabs in .txt": text("x.txt", "uid\tiid\tprediction\n", lambda u, r, i, s: f"{u}\t{i}\t{s!r}"),
    "semicolons": text("x.csv", "user;item;score\n", lambda u, r, i, s: f"{u};{i};{s!r}"),
    "RecBole's names": text(
        "x.csv", "user_id:token\titem_id:token\tscore:float\n", lambda u, r, i, s: f"{u}\t{i}\t{s}"
    ),
    "quoted": text("x.csv", '"user","item","score"\n', lambda u, r, i, s: f'"{u}","{i}","{s!r}"'),
    "TREC": text("x.run", "", lambda u, r, i, s: f"{u} Q0 {i} {r} {s!r} tag"),
    "TREC with tabs": text("x.txt", "", lambda u, r, i, s: f"{u}\tQ0\t{i}\t{r}\t{s!r}\ttag"),
    "TREC, constant scores": text("x.trec", "", lambda u, r, i, s: f"{u} Q0 {i} {r} 1 tag"),
    "order of lines": in_order,
    "JSON lists": as_json("lists"),
    "JSON pairs": as_json("pairs"),
    "ranx JSON": by_ranx("json"),
    "ranx TREC": by_ranx("trec"),
    "ranx LZ4": by_ranx("lz4"),
    "ranx Parquet": by_ranx("parquet"),
    "Parquet": as_parquet("user", "item", "score"),
    "Parquet with ranks": as_parquet("user_id", "item_id", "rank"),
}


RANKED = ("user_id, item_id, rank", "rank first", "JSON lists", "Parquet with ranks", "JSON rows of lists",
          "Parquet of lists")  # fmt: skip


def read(path: Path, depth: int = 20) -> Rankings:
    return read_rankings(path, DATA, depth, FOLD)


def listed(rankings: Rankings) -> list[list[str]]:
    return [[DATA.items[item] for item in row if item >= 0] for row in rankings.predictions.items.tolist()]


@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=[pytest.mark.nightly] * form.startswith("ranx")) for form in FORMS],  # numba compiles
)
def test_each_form_gives_the_same_lists(tmp_path: Path, form: str) -> None:
    rows = lists()
    result = read(FORMS[form](tmp_path, rows))
    expected = [[item for user, _, item, _ in rows if user == name] for name in DATA.users]
    assert listed(result) == expected and result.rows == len(rows)
    assert result.predictions.problems(FOLD.requests.cases, len(DATA.items)) == []
    assert (result.hashed_pairs, result.crossed, result.empty) == (0, 0, 0)
    assert result.tied_users == (len(DATA.users) if "constant scores" in form else 0)
    assert result.by == {"order of lines": "lines"}.get(
        form,
        "ranks" if form in RANKED else "scores",
    )


def test_our_own_predictions_come_back_as_they_are(tmp_path: Path) -> None:
    first = read(
        FORMS["constant scores"](tmp_path, [row for row in lists() if row[0] != "u3"] + [("u3", 1, "i1", 1.0)])
    )
    items = first.predictions.items.copy()
    items[3] = -1  # a user with no list has no row in the file
    lists_of = type(first.predictions)(FOLD.requests.cases, items, first.predictions.scores)
    write_predictions(tmp_path / "predictions.parquet", lists_of, DATA.users, DATA.items)
    result = read(tmp_path / "predictions.parquet")
    assert (
        np.array_equal(result.predictions.items, items) and result.empty == 1 and result.layout == "predictions.parquet"
    )
    table = pq.read_table(tmp_path / "predictions.parquet").select(["user", "item", "score"])
    pq.write_table(table, tmp_path / "cut.parquet")  # another program's file must name every user
    with pytest.raises(InputError, match=r"1 of 12 users have no ranking \('u3'\)"):
        read(tmp_path / "cut.parquet")


@pytest.mark.parametrize("seed", range(5))
def test_equal_scores_do_not_go_by_the_order_of_lines(tmp_path: Path, seed: int) -> None:
    flat = [(user, place, item, float(place <= 2)) for user, place, item, _ in lists()]
    mixed = random.Random(seed).sample(flat, len(flat))
    for number, rows in enumerate((flat, flat[::-1], mixed)):
        path = tmp_path / f"{number}.csv"
        path.write_text("user,item,score\n" + "".join(f"{u},{i},{s}\n" for u, _, i, s in rows))
    result = [read(tmp_path / f"{number}.csv") for number in range(3)]
    assert listed(result[0]) == listed(result[1]) == listed(result[2])
    assert all(one.tied_users == 12 and one.tied_pairs == one.hashed_pairs == 36 for one in result)
    orders = {tuple(row.index(item) for item in sorted(row)) for row in listed(result[0])}
    assert len(orders) > 3  # a hash of the item alone would rank the same item first for everybody


def test_a_broken_model_is_measured_as_chance(tmp_path: Path) -> None:
    """All scores equal, the answer on the first line of each user, as code of sampled evaluation writes it."""
    data = toys.cycle(600, 24)
    split = toys.split(data)
    lines = ["user,item,score"]
    for user, answer in zip(split.test.requests.users.tolist(), split.test.targets.items.tolist(), strict=True):
        lines += [f"u{user},i{item},0.5" for item in (answer, *(item for item in range(24) if item != answer))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    result = read_rankings(tmp_path / "x.csv", data, 24, split.test)
    places = (result.predictions.items == split.test.targets.items[:, None]).argmax(axis=1)
    assert abs(places.mean() - 11.5) < 4 * np.sqrt((24**2 - 1) / 12 / 600)  # uniform over 24 places
    assert "equal scores in the lists of 600 of 600 users" in result.notes()[0]


def test_ties_are_counted_in_what_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [("a", 5), ("b", 4), ("c", 4), ("d", 3), ("e", 3)]
    items = dict(zip("abcde", DATA.items, strict=False))
    lines = [f"{user},{items[name]},{score}" for user in DATA.users for name, score in rows]
    path.write_text("\n".join(["user,item,score", *lines]))
    assert [read(path, depth).tied_pairs // 12 for depth in (1, 2, 3, 4, 20)] == [0, 1, 1, 2, 2]


def test_ranks_beside_equal_scores(tmp_path: Path) -> None:
    path = FORMS["constant scores"](tmp_path, lists())
    result = read(path)
    assert result.tied_pairs == 48 and result.hashed_pairs == 0
    assert result.notes() == ["equal scores in the lists of 12 of 12 users: 48 neighbours, 48 by their ranks"]


def test_ranks_that_contradict_the_scores_are_said(tmp_path: Path) -> None:
    rows = [(user, place, item, place * 1.0) for user, place, item, _ in lists()]  # a distance, taken for a score
    result = read(FORMS["all columns"](tmp_path, rows))
    assert result.crossed == 12 and "ranks contradict the scores of 12 users; the scores count" in result.notes()[0]


@pytest.mark.parametrize("form", ["json", "all columns"])
def test_scores_that_rise_along_every_list_are_said(tmp_path: Path, form: str) -> None:
    said = "scores rise along every list; larger counts as better: negate them if they are distances"
    for sign in (1, -1):
        content = {user: {f"i{n}": sign * n for n in range(5)} for user in DATA.users}
        rows = [f"{user},{item},{score}" for user, ranked in content.items() for item, score in ranked.items()]
        path = tmp_path / f"x{sign}.{'json' if form == 'json' else 'csv'}"
        path.write_text(json.dumps(content) if form == "json" else "\n".join(["user,item,score", *rows]))
        assert (said in read(path).notes()) == (sign == 1)


@pytest.mark.parametrize(
    ("head", "value", "note"),
    [
        ("user,item,rating", lambda place: f"{9 - place}", "column 'rating' is read as the score"),
        ("user,item,distance", lambda place: f"0.{place}", "column 'distance' is read as the rank"),
        ("# by us\nsep=;\nuser;item;score", lambda place: f"{9 - place},5", None),
        ("user,item,score", lambda place: f"{9 - place},", None),
        ("user,item,score", lambda place: f"{9 - place}\n,,", None),
    ],
)
def test_tables_of_other_programs(head: str, value: Callable[[int], str], note: str | None, tmp_path: Path) -> None:
    mark = ";" if ";" in head else ","
    rows = random.Random(2).sample(lists(), len(lists()))
    body = "".join(mark.join((user, item, value(place))) + "\n" for user, place, item, _ in rows)
    (tmp_path / "x.csv").write_text(f"{head}\n{body}")
    result = read(tmp_path / "x.csv")
    assert listed(result) == [[item for user, _, item, _ in lists() if user == name] for name in DATA.users]
    assert note is None or note in result.notes()


@pytest.mark.parametrize("form", ["records", "cells"])
def test_lists_of_objects_and_in_cells(form: str, tmp_path: Path) -> None:
    content: dict[str, list[str]] = {}
    for user, _, item, _ in lists():
        content.setdefault(user, []).append(item)
    if form == "records":
        path = tmp_path / "x.json"
        objects = {u: [{"item_id": i, "score": -n} for n, i in enumerate(items)] for u, items in content.items()}
        path.write_text(json.dumps({**objects, "u3": []}))
    else:
        path = tmp_path / "x.csv"
        path.write_text(
            "user,items\n" + "".join(f'{u},"{items if u != "u3" else []}"\n' for u, items in content.items())
        )
    result = read(path)
    assert listed(result) == [items if user != "u3" else [] for user, items in content.items()] and result.empty == 1


def test_more_fields_than_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("user,item,score\n" + "".join(f"{user},i0,9,5\n" for user in DATA.users))
    with pytest.raises(InputError, match="line 2: 4 fields where the header has 3"):
        read(tmp_path / "x.csv")


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item,price\n" + "".join(f"{user},i0,9\n" for user in DATA.users))
    assert read(path).notes() == [
        "no column of scores or ranks: items are ranked by the order of lines",
        "ignored columns: price",
    ]


@pytest.mark.parametrize("form", ["json", "lists", "csv", "parquet"])
def test_an_empty_list_is_a_miss(tmp_path: Path, form: str) -> None:
    rest = [user for user in DATA.users if user != "u3"]
    path = tmp_path / f"x.{'json' if form == 'lists' else form}"
    if form in ("json", "lists"):
        complete, none = ({"i0": 1.0}, {}) if form == "json" else (["i0"], [])
        path.write_text(json.dumps({**dict.fromkeys(rest, complete), "u3": none}))
    elif form == "csv":
        path.write_text("user,item,score\nu3,,\n" + "".join(f"{user},i0,1\n" for user in rest))
    else:
        columns = {"user": [*rest, "u3"], "item": [*["i0"] * 11, None], "score": [*[1.0] * 11, None]}
        pq.write_table(pa.table(columns), path)
    result = read(path)
    assert result.predictions.lengths.tolist() == [1, 1, 1, 0, *[1] * 8] and result.empty == 1
    assert result.notes()[-1] == "empty lists of 1 of 12 users count as misses"


def test_all_lists_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({user: [] for user in DATA.users}))
    result = read(tmp_path / "x.json")
    assert result.predictions.items.tolist() == [[-1]] * 12 and result.empty == 12


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    data = replace(DATA, items=tuple(map(str, range(9))))
    (tmp_path / "x.json").write_text(json.dumps({user: [3, 1.0] for user in data.users}))
    (tmp_path / "x.csv").write_text("user,item\n" + "".join(f"{user},3.0\n{user},1.0\n" for user in data.users))
    floats = pa.table({"user": list(data.users) * 2, "item": [3.0] * 12 + [1.0] * 12, "rank": [1] * 12 + [2] * 12})
    pq.write_table(floats, tmp_path / "floats.parquet")
    table = pa.table({"user": list(data.users) * 2, "item": [3] * 12 + [1] * 12, "rank": [1] * 12 + [2] * 12})
    pq.write_table(table, tmp_path / "x.parquet")
    for name in ("x.json", "x.parquet", "x.csv", "floats.parquet"):
        assert read_rankings(tmp_path / name, data, 20, FOLD).predictions.items.tolist() == [[3, 1]] * 12
