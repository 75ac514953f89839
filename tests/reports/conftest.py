"""Stored runs with ranked lists, for tests that pair users."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.evaluation.metrics import per_user
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.split import split
from harness.reports.formats import report
from harness.reports.leaderboard import Board
from harness.store.record import Record, RunKey, write_predictions
from harness.store.run_store import Store
from tests import toys
from tests.folders import csv_folder
from tests.store.made import document

Make = Callable[..., np.ndarray]


def render(boards: Sequence[Board], form: str, metric: str, columns: Sequence[str] = ()) -> str:
    """Boards in a format."""
    return report(boards, metric, columns).text(form)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def titles() -> list[str]:
    """Titles of the toy's 30 items, for tests that want some."""
    return []


@pytest.fixture
def make_run(tmp_path: Path, store: Store, titles: list[str]) -> Make:
    """`made(model, seed, shift)` stores lists on the toy whose target stands at a random place, `shift` lower."""
    folder = csv_folder(tmp_path / "toy", toys.noise(users=120))
    if titles:
        with (folder / "items.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("item", "title"), *((f"i{n}", title) for n, title in enumerate(titles))])
    from harness.data.loading import load_dataset

    data = load_dataset(str(folder))
    cut = split(data, Protocol())

    def make(model: str, seed: int, shift: int = 0, **fields: object) -> np.ndarray:
        random = np.random.default_rng(seed)
        users, targets = cut.test.requests.users, cut.test.targets.items
        items = np.array([random.permutation(np.delete(np.arange(len(data.items)), target))[:20] for target in targets])
        places = random.integers(0, 30, len(users)) + shift
        for row, place in enumerate(places):
            if place < 20:
                items[row, place] = targets[row]
        lists = Predictions(users, items, np.broadcast_to(-np.arange(20.0), items.shape))
        scores = per_user(lists, cut.test.targets)
        metrics = {name: float(values.mean()) for name, values in scores.items()}
        marks = {
            "settings": {"dataset": str(folder), model: {}},
            "dataset": {"name": data.name, "fingerprint": data.fingerprint, "users": 120},
            "protocol": {"fingerprint": cut.fingerprint},
        }
        run_id = f"seed{seed}-{model}"
        record = Record.model_validate(
            document(model=model, seed=seed, run_id=run_id, metrics={"test": metrics}, **marks | fields)
        )
        with store.claim(RunKey(model, data.name, run_id)) as claim:
            write_predictions(claim.folder.predictions, lists, data.users, data.items)
            claim.finish(record)
        return scores["ndcg@10"]

    return make
