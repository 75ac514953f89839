"""The layouts read right: ids, order in time, ties, text, what is left over."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.dataset import Dataset, ItemText
from harness.data.loading import load_dataset
from harness.data.readers.interactions import FILE_RULE, TIE_RULE
from harness.errors import InputError

SHARED = Path(__file__).parents[3] / "shared/data"


def write(folder: Path, **files: str) -> str:
    """Files by name, `__` for a dot; the folder as what a user types after `-d`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return str(folder)


def raw(dataset: Dataset) -> dict[str, list[str]]:
    """Sequences in raw ids."""
    rows = zip(dataset.users, dataset.sequences, strict=True)
    return {user: [dataset.items[item] for item in row] for user, row in rows}


def test_lcrec(tmp_path: Path) -> None:
    items = {
        "7": {"title": "Pen", "description": ["blue", "ink"], "brand": None, "categories": "Office, Pens"},
        "b": {"title": "Ink", "categories": ["Office"]},
        "unused": {"title": "Nobody's"},
    }
    path = write(
        tmp_path / "Toy", Toy__inter__json='{"u2": ["b", 7], "u1": [7, 3, 7]}', Toy__item__json=json.dumps(items)
    )
    data = load_dataset(path)
    assert (data.name, data.users, data.items) == ("Toy", ("u2", "u1"), ("b", "7", "3"))
    assert raw(data) == {"u2": ["b", "7"], "u1": ["7", "3", "7"]}
    assert data.timestamps is None
    assert data.text == (
        ItemText("Ink", categories=("Office",)),
        ItemText("Pen", "blue ink", "", ("Office", "Pens")),
        ItemText(),
    )
    notes = " | ".join(data.notes)
    assert "1 interactions repeat" in notes and "1 items stand only in the item file" in notes
    assert "1 of 3 items have no text" in notes


ATOMIC = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def test_atomic(tmp_path: Path) -> None:
    rows = "u1\tb\t1\t30\r\nu2\ta\t1\t5\nu1\ta\t1\t20\nu1\tc\t1\t20\n\nu2\tb\t2\t4.5\n"
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    items = header + "a\tA Film\t1995\tDrama War\nb\tB\t\t\n"
    data = load_dataset(write(tmp_path, toy__inter=ATOMIC + rows, toy__item=items))
    assert (data.name, data.users, data.items) == ("toy", ("u1", "u2"), ("b", "a", "c"))
    assert raw(data) == {"u1": ["a", "c", "b"], "u2": ["b", "a"]}  # a before c: the same time, an earlier line
    assert data.timestamps is not None and data.timestamps.tolist() == [20, 20, 30, 4.5, 5]
    assert data.text == (ItemText("B"), ItemText("A Film (1995)", categories=("Drama", "War")), ItemText())
    assert TIE_RULE in data.notes


def test_csv(tmp_path: Path) -> None:
    rows = '\ufeffuser,rating,item,timestamp\r\nu1,5,"b,1",30\r\nu2,5,a,5\r\nu1,5,a,20\r\n'
    items = 'item,title,description\n"b,1","A ""good"" pen","two\nlines"\na,Ink,\n'
    data = load_dataset(write(tmp_path / "Shop", interactions__csv=rows, items__csv=items))
    assert (data.name, data.users, data.items) == ("Shop", ("u1", "u2"), ("b,1", "a"))
    assert raw(data) == {"u1": ["a", "b,1"], "u2": ["a"]}
    assert data.text == (ItemText('A "good" pen', "two\nlines"), ItemText("Ink"))


def test_without_an_item_file_there_is_no_text(tmp_path: Path) -> None:
    assert load_dataset(write(tmp_path, interactions__csv="user,item,timestamp\nu,a,1\nu,b,2\n")).text is None


def test_the_same_content_has_one_fingerprint_in_every_layout(tmp_path: Path) -> None:
    lcrec = write(tmp_path / "one", Toy__inter__json='{"u2": ["b", "a"], "u1": ["a", "c"]}')
    atomic = write(tmp_path / "two", toy__inter=ATOMIC + "u1\ta\t0\t1\nu1\tc\t0\t2\nu2\ta\t0\t9\nu2\tb\t0\t3\n")
    csv = write(tmp_path / "three", interactions__csv="user,item,timestamp\nu1,c,7\nu2,b,1\nu1,a,6\nu2,a,2\n")
    other = write(tmp_path / "four", interactions__csv="user,item,timestamp\nu1,c,5\nu2,b,1\nu1,a,6\nu2,a,2\n")
    marks = [load_dataset(path).fingerprint for path in (lcrec, atomic, csv, other)]
    assert marks[0] == marks[1] == marks[2] != marks[3]


def test_text_counts_in_the_fingerprint(tmp_path: Path) -> None:
    rows = "user,item,timestamp\nu,a,1\nu,b,2\n"
    one, two = (
        load_dataset(write(tmp_path / title, interactions__csv=rows, items__csv=f"item,title\na,{title}\n"))
        for title in ("Pen", "Ink")
    )
    assert one.fingerprint != two.fingerprint


def test_where_a_folder_holds_several_layouts_the_notes_say_which_one_counts(tmp_path: Path) -> None:
    csv = "user,item,timestamp\nu,a,1\nu,b,2\n"
    data = load_dataset(write(tmp_path, Toy__inter__json='{"u": ["z"]}', interactions__csv=csv))
    assert data.items == ("z",)
    assert data.notes[-1] == "read in the LC-Rec layout; CSV is there too"


def test_several_data_sets_in_a_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "B", A__inter__json='{"u": ["a"]}', B__inter__json='{"u": ["b"]}')
    assert load_dataset(path).items == ("b",)  # the folder's own name decides
    (tmp_path / "B").rename(tmp_path / "C")
    with pytest.raises(InputError, match="2 interactions files"):
        load_dataset(str(tmp_path / "C"))


def test_ml_100k() -> None:
    data = load_dataset("ml-100k")
    assert (len(data.users), len(data.items), data.interactions) == (943, 1682, 100_000)
    assert (data.users[0], data.items[0]) == ("196", "242")  # the first line of the file
    assert data.text is not None
    assert data.text[data.items.index("1")] == ItemText(
        "Toy Story (1995)", categories=("Animation", "Children's", "Comedy")
    )


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "sizes"), [("office", (3190, 3311, 21068)), ("instruments", (24772, 9922, 206153))])
def test_real_data(name: str, sizes: tuple[int, int, int]) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip("the real data is not beside the project")
    data = load_dataset(str(SHARED / name))
    assert (len(data.users), len(data.items), data.interactions) == sizes
    assert (data.text is None) == (name == "instruments")


@pytest.mark.parametrize("rows", ["u,a,0\nu,c,0\nu,b,0\nv,a,0\n", "u,a,5\nu,c,5\nu,b,5\nv,a,9\n"])
def test_timestamps_that_state_no_order_need_order_file(rows: str, tmp_path: Path) -> None:
    csv = write(tmp_path / "csv", interactions__csv=f"user,item,timestamp\n{rows}")
    atomic = write(
        tmp_path / "atomic", x__inter="user_id:token\titem_id:token\ttimestamp:float\n" + rows.replace(",", "\t")
    )
    for path in (csv, atomic):
        with pytest.raises(InputError, match=r"they state no order in time.*--order file"):
            load_dataset(path)
        data = load_dataset(path, "file")
        assert raw(data) == {"u": ["a", "c", "b"], "v": ["a"]}
        assert data.timestamps is None and data.order == "file" and FILE_RULE in data.notes


def test_order_file_does_without_the_column_and_is_for_folders(tmp_path: Path) -> None:
    path = write(tmp_path, interactions__csv="user,item\nu,b\nv,a\nu,a\n")
    with pytest.raises(InputError, match=r"lacks timestamp.*--order file"):
        load_dataset(path)
    assert raw(load_dataset(path, "file")) == {"u": ["b", "a"], "v": ["a"]}
    with pytest.raises(InputError, match="has its order already"):
        load_dataset("ml-100k", "file")
    with pytest.raises(InputError, match=r"unknown order 'files'; did you mean file\?"):
        load_dataset(path, "files")


ROWS = [(f"u{u}", (u + n) % 9, 1_500_000_000 + 60 * n) for u in range(12) for n in range(6)]


def plain_fingerprint(folder: Path) -> str:
    table = "".join(f"{user},{item},{time}\n" for user, item, time in ROWS)
    return load_dataset(write(folder, interactions__csv=f"user,item,timestamp\n{table}")).fingerprint


@pytest.mark.parametrize("kind", ["category", "bytes", "decimal", "view", "floats", "lists"])
def test_parquet_of_other_programs(kind: str, tmp_path: Path) -> None:
    users, numbers, times = map(pa.array, zip(*ROWS, strict=True))
    table = pa.table({"user": users, "item": numbers.cast(pa.string()), "timestamp": times})
    if kind == "lists":
        parted = table.to_pandas().groupby("user", sort=False).agg(list).reset_index()
        items, lists = pa.large_list(pa.string()), pa.large_list(pa.int64())
        table = pa.Table.from_pandas(parted, pa.schema({"user": pa.string(), "item": items, "timestamp": lists}))
    elif kind == "category":
        table = table.set_column(1, "item", table.column("item").dictionary_encode())
    elif kind == "decimal":
        table = pa.table(
            {"user": users, "item": numbers.cast(pa.decimal128(20, 0)), "timestamp": times.cast(pa.decimal128(20, 0))}
        )
    else:
        types = {"bytes": pa.binary(), "view": pa.string_view(), "floats": pa.float64()}
        values = numbers if kind == "floats" else table.column("item")
        table = table.set_column(1, "item", values.cast(types[kind]))
    (tmp_path / "shop").mkdir()
    pq.write_table(table, tmp_path / "shop/interactions.parquet")
    assert load_dataset(str(tmp_path / "shop")).fingerprint == plain_fingerprint(tmp_path / "csv")


def test_nan_is_no_id_in_parquet(tmp_path: Path) -> None:
    users, numbers, times = zip(*ROWS, strict=True)
    items = [float("nan") if n == 3 else float(item) for n, item in enumerate(numbers)]
    pq.write_table(
        pa.table({"user": users, "item": pa.array(items), "timestamp": times}), tmp_path / "interactions.parquet"
    )
    data = load_dataset(str(tmp_path))
    assert set(data.items) == {str(n) for n in range(9)} and "empty item id" in data.warnings[0]
