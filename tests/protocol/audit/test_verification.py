"""`verify` passes what is right and notices what is planted wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import catalog
from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.protocol.audit import verification as module
from harness.protocol.audit.verification import verify
from harness.protocol.split import EvaluationSplit, Split
from harness.protocol.split import split as split_by
from tests import toys

SHARED = Path(__file__).parents[4] / "shared/data"
PROTOCOL = toys.split().protocol


def failed(dataset: Dataset) -> set[str]:
    return {check.name for check in verify(dataset, PROTOCOL) if not check.ok}


def test_all_is_well_with_ml_100k() -> None:
    checks = verify(load_dataset("ml-100k"), PROTOCOL)
    assert [check for check in checks if not check.ok] == []
    assert {"fingerprint", "users", "leakage", "test targets", "time order"} <= {check.name for check in checks}


def test_another_content_under_a_registered_name_is_noticed() -> None:
    assert failed(replace(toys.cycle(), name="ml-100k")) == {"fingerprint", "users", "items", "interactions"}


def test_an_entry_that_states_nothing_is_held_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog.CatalogueEntry("toy", "", "", "", "x:y")
    monkeypatch.setattr(module, "catalogue_entries", lambda: {"toy": entry})
    assert failed(toys.cycle()) == set()


def test_faults_of_the_data() -> None:
    data = toys.cycle(users=3)  # they have 22 of the 24 items of the catalogue
    times = np.arange(24.0)
    assert failed(replace(data, timestamps=times)) == {"catalogue"}
    assert failed(replace(data, timestamps=times[::-1])) == {"catalogue", "time order"}
    assert failed(replace(data, timestamps=np.zeros(24))) == {"catalogue", "timestamps differ"}
    short = toys.dataset([np.array([0, 1]), np.array([0, 1, 2])], 3, None)
    assert failed(short) == {"split"}


def leaky_training(split: Split) -> Split:
    return replace(split, train=replace(split.train, sequences=toys.without_last(toys.cycle().sequences)))


def answer_in_history(split: Split) -> Split:
    requests = replace(split.test.requests, histories=toys.cycle().sequences)
    return replace(split, test=EvaluationSplit(requests, split.test.targets))


def wrong_answers(split: Split) -> Split:
    return replace(split, valid=EvaluationSplit(split.valid.requests, split.test.targets))


def user_left_out(split: Split) -> Split:
    rows = np.arange(1, len(split.test.requests))
    targets = replace(split.test.targets, cases=split.test.targets.cases[1:], items=split.test.targets.items[1:])
    return replace(split, test=EvaluationSplit(split.test.requests.take(rows), targets))


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        (leaky_training, {"training part", "leakage"}),
        (answer_in_history, {"test histories"}),
        (wrong_answers, {"validation targets"}),
        (user_left_out, {"test users"}),
    ],
)
def test_faults_of_the_split(fault: Any, checks: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "split", lambda dataset, protocol: fault(split_by(dataset, protocol)))
    assert failed(toys.cycle()) == checks


@pytest.mark.realdata
def test_all_is_well_with_instruments() -> None:
    if not (SHARED / "instruments").is_dir():
        pytest.skip("the real data is not beside the project")
    assert failed(load_dataset(str(SHARED / "instruments"))) == set()
