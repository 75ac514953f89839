"""The item index beside a data set goes where the data set goes, with what is known of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.export import export
from harness.data.loading import import_folder, load_dataset, read_folder
from harness.protocol.audit.provenance import UNKNOWN, Provenance, read_provenance, write_provenance

CODES = {"a": ["<a_0>", "<b_0>"], "b": ["<a_0>", "<b_1>"], "c": ["<a_1>", "<b_0>"]}
SEEN = Provenance.of_text("semantic/1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    result = tmp_path / "toy"
    result.mkdir()
    (result / "toy.inter.json").write_text(json.dumps({user: list("abc") for user in ("u", "v")}))
    (result / "toy.index.json").write_text(json.dumps(CODES))
    write_provenance(result / "toy.index.json", SEEN)
    return result


def test_an_import_keeps_it(folder: Path) -> None:
    import_folder(folder, "mine")
    for file in folder.iterdir():
        file.unlink()
    stored = load_dataset("mine").index_file
    assert stored is not None and json.loads(stored.read_text()) == CODES and read_provenance(stored) == SEEN


def test_another_index_is_taken_by_the_next_import(folder: Path) -> None:
    import_folder(folder, "mine")
    (folder / "toy.index.json.provenance.json").unlink()
    import_folder(folder, "mine")
    stored = load_dataset("mine").index_file
    assert stored is not None and read_provenance(stored) == UNKNOWN
    (folder / "toy.index.json").unlink()
    import_folder(folder, "mine")
    assert load_dataset("mine").index_file is None


def test_its_layout_carries_it_and_others_say_that_they_do_not(folder: Path, tmp_path: Path) -> None:
    data = read_folder(folder)
    done = export(data, "lcrec", tmp_path / "out")
    stored = read_folder(done.folder).index_file
    assert stored is not None and stored.parent == done.folder
    assert json.loads(stored.read_text()) == CODES and read_provenance(stored) == SEEN
    assert not any("index" in line for line in done.dropped)
    assert any("index" in line for line in export(data, "csv", tmp_path / "csv").dropped)
