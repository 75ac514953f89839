"""What is kept on this machine: known by name in every command, whole or not there, pinned, and explained."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from benchmarks.amazon2018 import Size, write
from harness.core.environment import OFFLINE_VARIABLE as OFFLINE
from harness.data import local_store
from harness.data.catalog import catalogue_entries
from harness.data.download import RemoteFile
from harness.data.loading import load_dataset
from harness.data.raw import prepare as module
from harness.data.raw.prepare import Request, prepare
from harness.data.raw.releases import Checksum, RawFile, RawSet, named_sets, resolve
from harness.data.statistics import describe
from harness.errors import InputError
from tests.data.raw import files
from tests.data.server import serving

SHARED = Path(__file__).parents[4] / "shared/data"


def test_a_prepared_set_is_known_by_name(tmp_path: Path) -> None:
    assert not catalogue_entries()["instruments"].ready()
    with pytest.raises(
        InputError, match="instruments: it is not on this machine yet; harness data prepare instruments"
    ):
        load_dataset("instruments")
    done = prepare(Request("instruments", files.set_2018(tmp_path / "raw")))
    entry = catalogue_entries()["instruments"]
    assert entry.ready() and (entry.users, entry.items, entry.interactions) == (5, 5, 25)
    data = load_dataset("instruments")
    assert data.fingerprint == done.kept.fingerprint == entry.fingerprint
    assert data.timestamps is not None and np.array_equal(np.diff(data.timestamps[:5]), np.full(4, files.DAY))
    assert load_dataset("amazon2018:Musical_Instruments").fingerprint == data.fingerprint
    assert load_dataset(str(done.kept.path)).fingerprint == data.fingerprint  # a Parquet folder like any other


def test_a_second_time_nothing_is_done_and_another_raw_file_is_noticed(tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw")
    assert prepare(Request("instruments", raw)).fresh
    repeated = prepare(Request("instruments", raw))
    assert not repeated.fresh and repeated.story == local_store.provenance("instruments")
    files.set_2018(raw, files.core_rows(6, 5))
    other = prepare(Request("instruments", raw))
    assert other.fresh and other.kept.fingerprint != repeated.kept.fingerprint
    assert load_dataset("instruments").fingerprint == other.kept.fingerprint
    assert load_dataset(str(repeated.kept.path)).fingerprint == repeated.kept.fingerprint  # the older one stays


def test_the_same_content_with_other_times_is_not_taken_for_the_same(tmp_path: Path) -> None:
    rows = files.core_rows()
    raw = files.set_2018(tmp_path / "raw", rows)
    prepare(Request("instruments", raw))
    later = [(user, item, rating, time + files.DAY) for user, item, rating, time in rows]
    prepare(Request("instruments", files.set_2018(raw, later)))
    times = load_dataset("instruments").timestamps
    assert times is not None and times[0] == files.START + files.DAY


def test_a_changed_file_is_refused_and_preparing_again_mends_it(tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw")
    stored = prepare(Request("instruments", raw)).kept
    other = prepare(Request("arts", _arts(tmp_path / "arts"))).kept
    (stored.path / "interactions.parquet").write_bytes((other.path / "interactions.parquet").read_bytes())
    with pytest.raises(InputError, match="a file in it was changed; prepare or import it again"):
        load_dataset("instruments")
    assert prepare(Request("instruments", raw)).fresh
    assert load_dataset("instruments").fingerprint == stored.fingerprint


def _arts(folder: Path) -> Path:
    rows = files.core_rows(7, 6)
    files.ratings_2018(folder, rows, "Arts_Crafts_and_Sewing")
    files.metadata_2018(folder, sorted({row[1] for row in rows}), "Arts_Crafts_and_Sewing")
    return folder


def test_half_a_file_that_a_kill_left_goes_with_the_next_keeping(tmp_path: Path, own_home: Path) -> None:
    raw = files.set_2018(tmp_path / "raw")
    done = prepare(Request("instruments", raw))
    (own_home / "data" / "instruments.json").unlink()  # it was not named yet when the kill came
    torn = [done.kept.path / ".provenance.json.1-ab.tmp", own_home / "data" / ".instruments.json.1-ab.tmp"]
    for path in torn:
        path.touch()
    assert prepare(Request("instruments", raw)).fresh
    assert not any(path.exists() for path in torn)


def test_a_full_disk_leaves_nothing(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match="cannot write: No space left"):
        prepare(Request("instruments", files.set_2018(tmp_path / "raw")))
    monkeypatch.undo()
    remaining = sorted(path.name for path in (own_home / "data").rglob("*"))
    assert remaining == [".instruments.lock", ".instruments=making.lock"]


def test_the_story(tmp_path: Path) -> None:
    raw = files.set_2018(tmp_path / "raw", [*files.core_rows(), ("U0", "I0", 1.0, files.START + 9 * files.DAY)])
    files.metadata_2018(raw, ["I0", "I1", "I2", "I3", "I4", "I4", "other"])
    story = json.loads((prepare(Request("instruments", raw)).kept.path / "provenance.json").read_text())
    assert [step["interactions"] for step in story["steps"]] == [26, 25, 25]
    assert story["result"] | {"fingerprint": ""} == {
        "users": 5, "items": 5, "interactions": 25, "mean_length": 5.0, "fingerprint": "",
    }  # fmt: skip
    assert [entry["file"] for entry in story["raw"]] == ["Musical_Instruments.csv", "meta_Musical_Instruments.json.gz"]
    assert all(len(entry["sha256"]) == 64 for entry in story["raw"])
    assert "hash of tie seed 0" in story["settings"]["tie_rule"]
    assert story["text"]["records"] == 7 and story["text"]["records_of_items_without_interactions"] == 1
    line = story["published"][0]
    assert (line["what"], line["published"], line["here"], line["difference"]) == ("users", 24772, 5, -24767)
    assert str(tmp_path) not in json.dumps(story)  # no path of this machine


def test_without_raw_files_they_are_fetched_once(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[RemoteFile] = []
    public = files.set_2018(tmp_path / "public")

    def fetch(file: RemoteFile, folder: Path, progress: object) -> Path:
        requested.append(file)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(public / file.name, folder / file.name))

    monkeypatch.setattr("harness.data.raw.streams.fetch", fetch)
    fingerprint = prepare(Request("instruments")).kept.fingerprint
    assert [file.name for file in requested] == ["Musical_Instruments.csv", "meta_Musical_Instruments.json.gz"]
    assert all(len(file.urls) > 1 and url.endswith(file.name) for file in requested for url in file.urls)
    locked = own_home / "raw/amazon2018"  # where --raw finds them too
    assert prepare(Request("instruments", locked)).kept.fingerprint == fingerprint


def test_a_known_file_is_held_to_its_size_and_hash(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server; the release's own table has the entry, here with the hash of a small file."""
    public = tmp_path / "public"
    name, message = "reviews_Beauty_5.json.gz", random.Random(1)
    records = [  # long, so that half of the file is worth keeping
        {
            "reviewerID": user,
            "asin": item,
            "overall": rating,
            "unixReviewTime": time,
            "text": message.randbytes(4000).hex(),
        }
        for user, item, rating, time in files.core_rows()
    ]
    reviews = files.put(public / name, files.json_lines(records)).read_bytes()
    files.metadata_2014(public, [f"I{n}" for n in range(5)])
    messages = prepare(Request("beauty", public)).story
    assert messages["checksums"] == {
        name: "not e5925ec99023f1dc…, that of the published file",
        "meta_Beauty.json.gz": "held to nothing: none is known",
    }
    assert messages["warnings"] == [f"{name}: its SHA-256 is {messages['checksums'][name]}"]
    beauty = resolve("beauty")
    with serving() as server:
        local_path = [replace(spec, urls=(server.url(spec.file),)) for spec in _specs(beauty)]
        expected = {name: Checksum(hashlib.sha256(reviews).hexdigest(), len(reviews))}
        release = replace(beauty.release, interactions=local_path[:1], metadata=local_path[1:], known=expected)
        monkeypatch.setattr(f"{prepare.__module__}.resolve", lambda requested: replace(beauty, release=release))
        monkeypatch.delenv(OFFLINE)
        server.files = {path.name: path.read_bytes() for path in public.iterdir()}
        server.files[name] = reviews[:-1] + b"x"
        with pytest.raises(InputError, match=rf"{name}: could not be downloaded .*SHA-256 \S+, where \S+ is expected"):
            prepare(Request("beauty"))
        server.files[name], server.faults = reviews, ["drop", "drop", "drop"]
        with pytest.raises(InputError, match="bytes are kept, and the same command continues"):
            prepare(Request("beauty"))
        remaining = sorted(path.name for path in (own_home / "raw/amazon2014").glob("[!.]*"))
        assert remaining == [f"{name}.part", f"{name}.part.json"]
        done = prepare(Request("beauty"))
    assert done.story["checksums"][name] == "the published one" and done.story["warnings"] == []


def _specs(data: RawSet) -> tuple[RawFile, RawFile]:
    return data.release.interactions[0], data.release.metadata[0]


def test_ties_are_counted(tmp_path: Path) -> None:
    rows = [
        (user, item, rating, files.START + files.DAY * (int(item[1]) // 2))
        for user, item, rating, _ in files.core_rows(5, 6)
    ]
    story = prepare(Request("instruments", files.set_2018(tmp_path / "raw", rows))).story
    assert story["ties"] == {"interactions": 0.5, "test_items": 1.0, "validation_items": 0.0}


def test_a_generated_set_of_the_true_shape(tmp_path: Path) -> None:
    """The benchmark's own generator, small: ratings and reviews give the same, and lines in any order."""
    raw = tmp_path / "raw"
    write(raw, Size(ratings=30_000, items=500), reviews=True)
    done = prepare(Request("instruments", raw))
    steps = {step["step"]: step["interactions"] for step in done.story["steps"]}
    assert steps["in the raw file"] == 30_000 and done.story["result"]["users"] > 50
    assert done.story["ties"]["interactions"] > 0.05  # as in the true files, ties are common
    ratings = raw / "Ratings/Musical_Instruments.csv"
    lines = ratings.read_text().splitlines(keepends=True)
    ratings.write_text("".join(sorted(lines)))
    assert prepare(Request("instruments", raw)).kept.folder == done.kept.folder
    ratings.unlink()
    assert prepare(Request("instruments", raw)).kept.folder == done.kept.folder


def test_another_name_that_begins_with_it_is_left_alone(tmp_path: Path, own_home: Path) -> None:
    half = own_home / "data" / ".instruments-tie1=abcd.tmp"
    half.mkdir(parents=True)
    prepare(Request("instruments", files.set_2018(tmp_path / "raw")))
    assert half.is_dir()


def test_two_at_once_read_once(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = files.set_2018(tmp_path / "raw")
    built: list[str] = []
    build = module.build

    def slow(*value: Any) -> Any:
        built.append("built")
        return build(*value)

    monkeypatch.setattr(module, "build", slow)
    fresh: list[bool] = []
    threads = [Thread(target=lambda: fresh.append(prepare(Request("instruments", raw)).fresh)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["built"] and sorted(fresh) == [False, False, True]


def test_blank_lines_are_no_rows_and_a_killed_preparation_begins_anew(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CSV that the fast way refuses is read line by line."""
    body = "\n\n".join(f"{item},{user},{rating},{time}" for user, item, rating, time in files.core_rows())
    files.put(tmp_path / "raw" / "Musical_Instruments.csv", f"\n{body}\n")
    files.metadata_2018(tmp_path / "raw", [f"I{n}" for n in range(5)])
    monkeypatch.setattr("harness.data.raw.interactions._read_fast", lambda *_: None)
    request = Request("instruments", tmp_path / "raw")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "in_order", _interrupted)
        prepare(request)
    assert local_store.find("instruments") is None
    assert prepare(request).story["result"]["interactions"] == 25


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.realdata
def test_the_published_figures_are_those_of_the_published_file() -> None:
    if not (SHARED / "instruments").is_dir():
        pytest.skip("the real data is not beside the project")
    description = describe(load_dataset(str(SHARED / "instruments")))
    published = named_sets()["instruments"].published[0]
    assert (published.users, published.items, published.interactions) == (24_772, 9_922, 206_153)
    assert (description["users"], description["items"], description["interactions"]) == (24_772, 9_922, 206_153)
    assert round(description["length"]["mean"], 2) == published.mean_length
