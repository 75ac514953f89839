"""Ready vectors go to the items that their ids name; a bare `.npy` is refused unless its order is stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from harness.data.dataset import ItemFile
from harness.data.readers.vector_files import input_files
from harness.errors import InputError
from harness.generative.config import SemanticConfig
from harness.generative.tokenizers.embeddings import TextEmbeddings, load_user_vectors
from harness.protocol.split import TrainingData
from tests import toys

DIM = 3


@pytest.fixture
def data() -> TrainingData:
    return toys.split(toys.cycle()).train


def vector(item: str) -> list[float]:
    """The vector of an item, told by its raw id alone."""
    return [float(item[1:]), 1.0, -float(item[1:])]


def shuffled(data: TrainingData, *extra: str) -> list[str]:
    ids = [*data.items, *extra]
    return [ids[n] for n in np.random.default_rng(3).permutation(len(ids))]


def rows(ids: list[str]) -> np.ndarray:
    return np.array([vector(item) for item in ids], np.float32)


def put_parquet(path: Path, ids: list[str]) -> Path:
    pq.write_table(pa.table({"embedding": rows(ids).tolist(), "item_id": ids}), path)
    return path


def put_wide(path: Path, ids: list[str]) -> Path:
    table = {"asin": ids, **{f"d{n}": rows(ids)[:, n] for n in range(DIM)}}
    pq.write_table(pa.table(table), path)
    return path


def put_wide_and_more(path: Path, ids: list[str]) -> Path:
    """Another column of numbers is no dimension."""
    table = {"Product_ID": [f" {i}" for i in ids], "price": [9.5] * len(ids)}
    pq.write_table(pa.table({**table, **{f"{n}": rows(ids)[:, n] for n in range(DIM)}}), path)
    return path


def put_upper(path: Path, ids: list[str]) -> Path:
    np.savez(path, IDs=np.array(ids), Vectors=rows(ids))
    return path


def put_ids_with_titles(path: Path, ids: list[str]) -> Path:
    np.save(path, rows(ids))
    path.with_suffix(".ids.txt").write_text("item_id\ttitle\n" + "".join(f"{i}\tBox {i}\n" for i in ids))
    return path


def put_fixed(path: Path, ids: list[str]) -> Path:
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows(ids).ravel()), DIM)
    pq.write_table(pa.table({"id": ids, "vector": column}), path)
    return path


def put_npz(path: Path, ids: list[str]) -> Path:
    np.savez_compressed(path, ids=np.array(ids), vectors=rows(ids).astype(np.float64))
    return path


def put_npy(path: Path, ids: list[str]) -> Path:
    np.save(path, np.asfortranarray(rows(ids)))
    path.with_suffix(".ids.txt").write_text("\n".join(ids) + "\n")
    return path


def put_npy_too(path: Path, ids: list[str]) -> Path:
    np.save(path, rows(ids).astype(np.float16))
    path.with_name(f"{path.name}.ids.txt").write_text("\r\n".join(ids))
    return path


def put_safetensors(path: Path, ids: list[str]) -> Path:
    save_file({"item_embeddings": rows(ids), "scale": np.ones(1, np.float32)}, path)
    path.with_suffix(".ids.txt").write_text("\n".join(ids) + "\n")
    return path


FORMS = {
    "a.parquet": put_parquet,
    "b.parquet": put_wide,
    "c.parquet": put_fixed,
    "d.npz": put_npz,
    "e.npy": put_npy,
    "f.npy": put_npy_too,
    "g.parquet": put_wide_and_more,
    "h.npz": put_upper,
    "i.npy": put_ids_with_titles,
    "j.safetensors": put_safetensors,
}


@pytest.mark.parametrize("name", FORMS)
def test_rows_go_to_the_items_that_their_ids_name(name: str, tmp_path: Path, data: TrainingData) -> None:
    path = FORMS[name](tmp_path / name, shuffled(data, "i900", "i901"))
    result = load_user_vectors(path, data, declared=False)
    assert np.array_equal(result.values, rows(list(data.items))) and result.values.dtype == np.float32
    assert result.details["extra_rows"] == 2
    repeated = FORMS[name](tmp_path / name, list(data.items))
    assert load_user_vectors(repeated, data, declared=False).key == result.key, (
        "the order of a file's rows decides nothing"
    )


@pytest.mark.parametrize("name", FORMS)
def test_ids_that_do_not_cover_the_items(name: str, tmp_path: Path, data: TrainingData) -> None:
    path = FORMS[name](tmp_path / name, [item for item in shuffled(data) if item not in ("i3", "i5")])
    with pytest.raises(InputError, match=r"2 of 24 items have no vector \(i3, i5\).*harness data items"):
        load_user_vectors(path, data, declared=False)
    path = FORMS[name](tmp_path / name, [*shuffled(data), "i3", "i4"])
    with pytest.raises(InputError, match=r"2 ids stand twice \(i3, i4\)"):
        load_user_vectors(path, data, declared=False)


def test_row_numbers_are_no_ids(tmp_path: Path, data: TrainingData) -> None:
    np.savez(tmp_path / "n.npz", ids=np.arange(24), vectors=rows(list(data.items)))
    with pytest.raises(InputError, match=r"24 of 24 items have no vector.*row numbers, which say nothing"):
        load_user_vectors(tmp_path / "n.npz", data, declared=False)


def test_a_bare_npy_needs_the_order_of_an_item_file(tmp_path: Path, data: TrainingData) -> None:
    ids = shuffled(data, "i77")
    np.save(tmp_path / "v.npy", rows(ids))
    with pytest.raises(InputError, match=r"rows of a bare \.npy name no items.*ids\.txt.*vectors_rows=item-file"):
        load_user_vectors(tmp_path / "v.npy", data, declared=False)
    with pytest.raises(InputError, match="no item file whose order is known"):
        load_user_vectors(tmp_path / "v.npy", data, declared=False, rows="item-file")
    expected = replace(data, item_file=ItemFile(tmp_path / "items.csv", tuple(ids)))
    result = load_user_vectors(tmp_path / "v.npy", expected, declared=False, rows="item-file")
    assert np.array_equal(result.values, rows(list(data.items)))
    short = replace(data, item_file=ItemFile(tmp_path / "items.csv", tuple(ids[:-1])))
    with pytest.raises(InputError, match=r"25 vectors, and 24 items in items\.csv"):
        load_user_vectors(tmp_path / "v.npy", short, declared=False, rows="item-file")
    assert SemanticConfig(vectors=tmp_path / "v.npy", vectors_rows="item-file").files(expected) == (
        tmp_path / "v.npy",
        tmp_path / "items.csv",
    )


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ({"vectors": np.ones((24, 3))}, "no array of ids"),
        ({"ids": np.array(["a", "b"]), "vectors": np.ones((24, 3))}, "24 vectors and 2 ids"),
        ({"ids": np.array(["a"] * 24)}, "no table of vectors"),
        ({"ids": np.array(["a"] * 24, dtype=object), "vectors": np.ones((24, 3))}, "never unpickled"),
        ({"ids": np.arange(24) + 0.5, "vectors": np.ones((24, 3))}, "is no id"),
        ({"ids": np.arange(24), "vectors": np.ones((24, 3), complex)}, "not a table of numbers"),
    ],
)
def test_npz_that_is_none(arrays: dict[str, np.ndarray], kind: str, tmp_path: Path, data: TrainingData) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=kind):
        load_user_vectors(tmp_path / "x.npz", data, declared=False)


def test_vectors_of_unequal_length_and_values_that_are_not_finite(tmp_path: Path, data: TrainingData) -> None:
    table = pa.table({"item": list(data.items), "vector": [[1.0]] + [[1.0, 2.0]] * 23})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="vectors of unequal length"):
        load_user_vectors(tmp_path / "x.parquet", data, declared=False)
    pq.write_table(pa.table({"item": list(data.items), "vector": [None] + [[1.0, 2.0]] * 23}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="1 rows without a vector"):
        load_user_vectors(tmp_path / "x.parquet", data, declared=False)
    values = rows(list(data.items))
    values[4, 1] = np.nan
    np.savez(tmp_path / "x.npz", ids=np.array(data.items), vectors=values)
    with pytest.raises(InputError, match="1 items hold NaN"):
        load_user_vectors(tmp_path / "x.npz", data, declared=False)


@pytest.mark.parametrize(
    ("values", "says"), [(np.ones((24, 3)), "all vectors are equal"), (np.ones((24, 0)), "not a table of numbers")]
)
def test_vectors_that_say_nothing_are_refused(
    values: np.ndarray, says: str, tmp_path: Path, data: TrainingData
) -> None:
    np.savez(tmp_path / "x.npz", ids=np.array(data.items), vectors=values)
    with pytest.raises(InputError, match=says):
        load_user_vectors(tmp_path / "x.npz", data, declared=False)


def test_zero_vectors_are_told(tmp_path: Path, data: TrainingData, capsys: pytest.CaptureFixture[str]) -> None:
    values = rows(list(data.items))
    values[4:6] = 0
    np.savez(tmp_path / "x.npz", ids=np.array(data.items), vectors=values)
    assert load_user_vectors(tmp_path / "x.npz", data, declared=False).details["zero_rows"] == 2
    assert "2 of 24 items are zero (i4 first)" in capsys.readouterr().err


def test_the_default_leaves_stored_configurations_as_they_were(tmp_path: Path, data: TrainingData) -> None:
    assert "vectors_rows" not in SemanticConfig().model_dump()
    path = put_npy(tmp_path / "v.npy", shuffled(data))
    config = SemanticConfig(vectors=path, vectors_rows="item-file")
    assert config.model_dump(mode="json")["vectors_rows"] == "item-file"
    result = TextEmbeddings(config).fit(data, toys.context(tmp_path))
    assert np.array_equal(result.values, rows(list(data.items))), "a list of ids counts before the order of a file"
    assert input_files(path) == (path, tmp_path / "v.ids.txt")
