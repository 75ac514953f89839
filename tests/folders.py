"""Toy data as files, and registered toy models: what tests of the store, the jobs and the command line start from."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from harness import registry
from harness.data.dataset import Dataset
from harness.registry import MODELS, ModelEntry
from tests import toys

ROOT = Path(__file__).resolve().parents[1]
FAKE = ModelEntry("fake", "sanity", "tests.fakes:Fake", "a model for tests", "", "fake", preset=(("size", 3),))


def csv_folder(folder: Path, data: Dataset | None = None) -> Path:
    """A data set (the toy cycle) in the CSV layout; the folder."""
    data = data or toys.cycle()
    folder.mkdir(parents=True)
    with (folder / "interactions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "timestamp"])
        for user, row in zip(data.users, data.sequences, strict=True):
            writer.writerows([user, data.items[item], time] for time, item in enumerate(row))
    return folder


def lcrec_folder(folder: Path, data: Dataset | None = None) -> Path:
    """A data set (the toy cycle, a little longer) as LC-Rec files, text included; the folder."""
    data = data or toys.cycle(length=12)
    folder.mkdir(parents=True)
    sequences = {user: [data.items[i] for i in row] for user, row in zip(data.users, data.sequences, strict=True)}
    assert data.text is not None
    texts = {item: asdict(text) for item, text in zip(data.items, data.text, strict=True)}
    for text in texts.values():
        text["categories"] = ",".join(text["categories"])
    (folder / "toy.inter.json").write_text(json.dumps(sequences))
    (folder / "toy.item.json").write_text(json.dumps(texts))
    return folder


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **entries: str) -> None:
    """Makes models known to every process of the test, as those of an installed package in `folder`: name and
    `MODULE:ATTRIBUTE` of each entry."""
    information = folder / "models_of_a_test-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: models-of-a-test\nVersion: 1\n")
    lines = [f"{name} = {entry}" for name, entry in entries.items()]
    (information / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
    monkeypatch.setattr(registry, "MODELS", tuple(entry for entry in registry.MODELS if entry.name not in entries))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", python_path(str(folder)))


def python_path(*folders: str) -> str:
    """`$PYTHONPATH` of a process that imports the tests."""
    entries = [str(ROOT), *folders, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(filter(None, entries)))


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the model `fake` known."""
    monkeypatch.setattr("harness.registry.MODELS", (*MODELS, FAKE))
