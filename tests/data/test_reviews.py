"""Reviews: read beside LC-Rec files, kept in the content hash, and cut with the interactions that they speak of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import Dataset, Review
from harness.data.export import export
from harness.data.loading import import_folder, load_dataset, read_folder
from harness.data.readers.parquet_tables import REVIEWS as REVIEWS_PARQUET
from harness.errors import InputError
from harness.protocol.protocol import Protocol
from harness.protocol.split import split

ROWS = {"u1": ["a", "b", "c", "d"], "u2": ["b", "a", "b", "d"]}
SAID = {
    "('u1', 'a')": {"review": "writes  well", "summary": "Good"},
    "('u1', 'd')": {"review": "the test item"},
    "('u2', 'b')": {"review": "bought twice, held out once"},
    "('u2', 'a')": {"review": "", "summary": None},
}


def folder(place: Path, reviews: object = SAID) -> Path:
    place.mkdir(exist_ok=True)
    (place / "toy.inter.json").write_text(json.dumps(ROWS))
    (place / "toy.review.json").write_text(json.dumps(reviews))
    return place


def test_reviews_are_read_and_change_the_content_hash(tmp_path: Path) -> None:
    data = read_folder(folder(tmp_path))
    assert data.reviews is not None and data.reviews == (
        Review("u1", "a", "Good writes well"),
        Review("u1", "d", "the test item"),
        Review("u2", "b", "bought twice, held out once"),
    )
    bare = replace(data, reviews=None)
    assert data.fingerprint != bare.fingerprint
    assert data.fingerprint == replace(data, reviews=data.reviews[::-1]).fingerprint
    (tmp_path / "toy.review.json").unlink()
    assert read_folder(tmp_path).fingerprint == bare.fingerprint and read_folder(tmp_path).reviews is None


def test_whole_numbers_serve_as_ids(tmp_path: Path) -> None:
    (tmp_path / "toy.inter.json").write_text(json.dumps({"0": [4, 5, 6]}))
    (tmp_path / "toy.review.json").write_text(json.dumps({"(0, 4)": {"review": "fine"}}))
    assert read_folder(tmp_path).reviews == (Review("0", "4", "fine"),)


@pytest.mark.parametrize(
    ("reviews", "message"),
    [
        ({"('u9', 'a')": {"review": "x"}}, "the user is not in the interactions"),
        ({"('u1', 'z')": {"review": "x"}}, "the item is not in the interactions"),
        ({"u1 a": {"review": "x"}}, "a pair of user and item is needed"),
        ({"('u1',)": {"review": "x"}}, "a pair of user and item is needed"),
        ({"('u1', 'a')": "x"}, "an object of texts is needed"),
        ({"('u1', 'a')": {"review": 3}}, "an object of texts is needed"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(reviews: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_folder(folder(tmp_path, reviews))
    assert "toy.review.json" in str(error.value)


def test_training_has_the_reviews_of_training_interactions_alone(tmp_path: Path) -> None:
    train = split(read_folder(folder(tmp_path)), Protocol()).train
    assert train.reviews == (Review("u1", "a", "Good writes well"),)
    longer = read_folder(folder(tmp_path))
    later = replace(longer, sequences=type(longer.sequences).of([np.append(row, [0, 0]) for row in longer.sequences]))
    assert "bought twice" in str(split(later, Protocol()).train.reviews)


def test_they_survive_an_export_to_their_layout_and_are_named_as_lost_in_others(tmp_path: Path) -> None:
    data: Dataset = read_folder(folder(tmp_path / "in"))
    for layout in ("lcrec", "parquet"):
        done = export(data, layout, tmp_path / layout)
        assert done.exact and not any("reviews" in line for line in done.dropped)
        assert read_folder(done.folder, done.order).reviews == data.reviews
    missing = export(data, "csv", tmp_path / "csv").dropped
    assert any("reviews" in line for line in missing)


def test_an_import_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    data = read_folder(folder(tmp_path / "in"))
    import_folder(tmp_path / "in", "mine")
    dataset = load_dataset("mine")
    assert (dataset.reviews, dataset.fingerprint) == (data.reviews, data.fingerprint)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["u9"], "item": ["a"], "review": ["x"]}, "row 1: the user is not in the interactions"),
        ({"user": ["u1"], "item": ["a"]}, "it lacks review"),
        ({"user": ["u1"], "item": ["a"], "review": [3]}, "field 'review': text is needed, not int64"),
    ],
)
def test_parquet_reviews_that_do_not_fit(columns: dict[str, list[object]], message: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    done = export(read_folder(folder(tmp_path / "in")), "parquet", tmp_path / "out")
    pq.write_table(pa.table(columns), done.folder / REVIEWS_PARQUET)
    with pytest.raises(InputError, match=message) as error:
        read_folder(done.folder, done.order)
    assert REVIEWS_PARQUET in str(error.value)


def test_reviews_that_say_nothing_are_none(tmp_path: Path) -> None:
    data = read_folder(folder(tmp_path, {"('u1', 'a')": {"review": ""}}))
    assert data.reviews is None
