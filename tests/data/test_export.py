"""Every layout gives back what was put in; what one cannot carry is said."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.dataset import Dataset, ItemText
from harness.data.export import LAYOUTS, export
from harness.data.loading import load_dataset
from harness.data.ragged import RaggedArray
from harness.data.readers.interactions import MISSING
from harness.data.readers.parquet_tables import INTERACTIONS as INTERACTIONS_PARQUET
from harness.data.readers.parquet_tables import ITEMS as ITEMS_PARQUET
from harness.errors import InputError
from tests import toys

# no control characters and no surrogates, which UTF-8 files of people do not hold; stripped, as every reader gives it
WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12).map(str.strip)
IDS = WORDS.filter(lambda word: bool(word) and word not in MISSING)
PLAIN = WORDS.map(lambda text: text.replace(",", "")).filter(bool)


@st.composite
def datasets(draw: st.DrawFn, *, timed: bool | None = None, categories: st.SearchStrategy[str] = IDS) -> Dataset:
    """Any data set that a reader may give: all items bought, time in order, ties, repeats, text or none."""
    items = draw(st.lists(IDS, min_size=1, max_size=6, unique=True))
    rows = draw(st.lists(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=6), min_size=1, max_size=5))
    used = list(dict.fromkeys(item for row in rows for item in row))
    rows = [[used.index(item) for item in row] for row in rows]
    users = draw(st.lists(IDS, min_size=len(rows), max_size=len(rows), unique=True))
    sequences = RaggedArray.of(rows)
    text = st.builds(
        ItemText, WORDS, WORDS, WORDS, st.lists(categories.map(str.strip).filter(bool), max_size=3).map(tuple)
    )
    texts = draw(st.none() | st.lists(text, min_size=len(used), max_size=len(used)).map(tuple))
    times = None
    if draw(st.booleans()) if timed is None else timed:
        steps = draw(st.lists(st.floats(0, 1e9), min_size=len(sequences.values), max_size=len(sequences.values)))
        times = np.concatenate([np.sort(part) for part in np.split(np.array(steps), sequences.offsets[1:-1])])
        times[sequences.offsets[1:] - 1] += 1  # so that some user has two times
    return Dataset("toy", tuple(users), tuple(items[item] for item in used), sequences, times, texts)


def back(dataset: Dataset, layout: str) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        done = export(dataset, layout, Path(folder) / "toy")
        assert done.exact
        return load_dataset(str(done.folder), done.order)


def alike(one: Dataset, other: Dataset) -> None:
    """Equal to the last digit, whatever the order of users and items."""
    assert one.fingerprint == other.fingerprint
    assert (one.timestamps is None) == (other.timestamps is None)
    if one.timestamps is not None and other.timestamps is not None:
        for user, name in enumerate(one.users):
            place = other.users.index(name)
            rows = [
                slice(data.sequences.offsets[u], data.sequences.offsets[u + 1])
                for data, u in ((one, user), (other, place))
            ]
            assert one.timestamps[rows[0]].tolist() == other.timestamps[rows[1]].tolist()


def ordered(dataset: Dataset) -> bool:
    """Whether its timestamps state an order: files that state none are refused, rightly."""
    if dataset.timestamps is None:
        return True
    within = dataset.sequences.rows()[1:] == dataset.sequences.rows()[:-1]
    differ = dataset.timestamps[1:] != dataset.timestamps[:-1]
    return bool((differ & within).any()) if within.any() else not len(differ) or bool(differ.any())


@settings(max_examples=30, deadline=None)
@given(dataset=datasets().filter(ordered))
def test_parquet_gives_back_everything_and_the_order_of_items(dataset: Dataset) -> None:
    repeated = back(dataset, "parquet")
    alike(dataset, repeated)
    assert (repeated.users, repeated.items, repeated.text) == (dataset.users, dataset.items, dataset.text)


@settings(max_examples=30, deadline=None)
@given(dataset=datasets().filter(ordered))
def test_csv_gives_back_everything(dataset: Dataset) -> None:
    alike(dataset, back(dataset, "csv"))


@pytest.mark.parametrize("item", sorted(MISSING))
def test_an_id_that_tables_count_as_empty_is_refused_or_kept(item: str, tmp_path: Path) -> None:
    dataset = toys.dataset([np.array([0, 1])] * 3, 2, None)
    dataset = replace(dataset, items=(item, "i1"))
    with pytest.raises(InputError, match="csv files cannot hold these data") as refused:
        export(dataset, "csv", tmp_path / "table")
    assert "parquet" in str(refused.value) and not (tmp_path / "table").exists()
    assert export(dataset, "parquet", tmp_path / "kept").exact


@settings(max_examples=30, deadline=None)
@given(dataset=datasets(categories=PLAIN).filter(ordered))
def test_atomic_files_give_back_everything(dataset: Dataset) -> None:
    alike(dataset, back(dataset, "recbole"))


@settings(max_examples=30, deadline=None)
@given(dataset=datasets(timed=False))
def test_the_lcrec_layout_gives_back_everything_but_time(dataset: Dataset) -> None:
    alike(dataset, back(dataset, "lcrec"))


def timed() -> Dataset:
    data = toys.cycle()
    return replace(data, timestamps=np.arange(data.interactions, dtype=np.float64))


def test_a_chain_of_layouts_ends_where_it_began(tmp_path: Path) -> None:
    data = load_dataset("ml-100k")
    for step in sorted(LAYOUTS, reverse=True):  # recbole, parquet, lcrec, csv
        done = export(data, step, tmp_path / step)
        data = load_dataset(str(done.folder), done.order)
    assert data.fingerprint == load_dataset("ml-100k").fingerprint


def test_what_a_layout_cannot_carry_is_said(tmp_path: Path) -> None:
    assert "timestamps" in " ".join(export(timed(), "lcrec", tmp_path / "a").dropped)
    assert export(timed(), "csv", tmp_path / "b").dropped == ()
    assert "--order file" in " ".join(export(toys.cycle(), "csv", tmp_path / "c").dropped)
    data = toys.cycle()
    text = (ItemText("two\tcells", categories=("a,b",)), *(data.text or ())[1:])
    done = export(replace(data, text=text), "recbole", tmp_path / "d")
    assert not done.exact and len(done.dropped) == 3
    unused = toys.dataset([np.array([0, 1, 2])], 5, None)
    assert not export(unused, "parquet", tmp_path / "e").exact
    assert "2 items that stand in no interaction" in export(unused, "lcrec", tmp_path / "f").dropped


def test_files_that_others_read(tmp_path: Path) -> None:
    export(timed(), "recbole", tmp_path / "a")
    head, first, *_ = (tmp_path / "a/toy.inter").read_text().split("\n")
    assert head == "user_id:token\titem_id:token\ttimestamp:float" and first == "u0\ti0\t0"
    export(timed(), "lcrec", tmp_path / "b")
    item = json.loads((tmp_path / "b/toy.item.json").read_text())["i0"]
    assert item["categories"] == "red" and item["title"].startswith("red round")
    export(toys.cycle(), "recbole", tmp_path / "c")
    assert (tmp_path / "c/toy.inter").read_text().split("\n")[2] == "u0\ti1\t1"


def test_bad_wishes_are_named_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown layout 'lcrek'; did you mean lcrec"):
        export(toys.cycle(), "lcrek", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    with pytest.raises(InputError, match="there is something already"):
        export(toys.cycle(), "csv", tmp_path / "full")
    with pytest.raises(InputError, match="user id 'u\\\\t' holds a tab"):
        export(replace(toys.cycle(users=1), users=("u\t",)), "recbole", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def parquet(folder: Path, interactions: dict[str, list[object]], items: dict[str, list[object]] | None = None) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(interactions), folder / INTERACTIONS_PARQUET)
    if items is not None:
        pq.write_table(pa.table(items), folder / ITEMS_PARQUET)
    return str(folder)


def test_parquet_of_people(tmp_path: Path) -> None:
    from datetime import datetime

    rows: dict[str, list[object]] = {"user": [7, 7, 8], "item": [1, 2, 1]}
    times: list[object] = [datetime(2018, 1, 2), datetime(2018, 1, 1), datetime(2018, 1, 3)]
    items: dict[str, list[object]] = {
        "item": [2, 1, 9],
        "title": ["Pen", None, "Nobody's"],
        "categories": ["A, B", "", None],
    }
    data = load_dataset(parquet(tmp_path / "shop", {**rows, "timestamp": times}, items))
    assert (data.name, data.users, data.items) == ("shop", ("7", "8"), ("2", "1"))
    assert [row.tolist() for row in data.sequences] == [[0, 1], [1]]
    assert data.timestamps is not None and data.timestamps[0] == 1514764800
    assert data.text == (ItemText("Pen", categories=("A", "B")), ItemText())
    assert data.lost == (("items that stand only in the item file", 1),)


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"user": ["u"], "item": ["a"]}, r"interactions\.parquet: it lacks timestamp; .*--order file"),
        ({"user": ["u", "u"], "item": ["a", "b"], "timestamp": [1.0, None]}, "row 2 field 'timestamp': timestamp nan"),
        ({"user": ["u", None], "item": ["a", "b"], "timestamp": [1, 2]}, "row 2 field 'user': empty user id"),
        ({"user": [1.5], "item": ["a"], "timestamp": [1]}, "field 'user': ids are needed, not double"),
        ({"user": ["u"], "item": ["a"], "timestamp": [True]}, "numbers of seconds since 1970 are needed, not bool"),
        ({"user": ["u", "v"], "item": ["a", "b"], "timestamp": [3, 3]}, "all 2 timestamps are 3"),
    ],
)
def test_wrong_parquet_is_one_clear_line(columns: dict[str, list[object]], kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=kind):
        load_dataset(parquet(tmp_path / "x", columns))


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / INTERACTIONS_PARQUET).write_text("user,item\n")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load_dataset(str(tmp_path))
