"""A configuration that declares a leak is given the validation items and is marked; files it reads decide the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.loading import load_dataset
from harness.errors import InputError
from harness.protocol.protocol import Protocol
from harness.protocol.split import split as split_by
from harness.runs.job import RunOptions, plan
from harness.runs.run import execute
from harness.store.record import Record
from harness.store.run_store import Store
from tests.fakes import Fake


def record_of(toy: str, store: Store, *sets: str) -> Record:
    (job,) = plan("fake", RunOptions(dataset=toy, sets=sets))
    return execute(job, store).record


def test_only_a_declared_leak_is_given_validation_items_and_it_is_marked(toy: str, store: Store) -> None:
    assert record_of(toy, store).leaks == [] and Fake.shown is None
    leaking = record_of(toy, store, "fake.peek=true")
    assert leaking.leaks == ["it peeks at validation items"]
    assert Fake.shown is not None
    np.testing.assert_array_equal(Fake.shown, split_by(load_dataset(toy), Protocol()).valid.targets.items)


def test_the_content_of_a_file_that_a_model_reads_decides_the_run(toy: str, store: Store, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one")
    first = record_of(toy, store, f"fake.words={words}").run_id
    words.write_text("two")
    assert record_of(toy, store, f"fake.words={words}").run_id != first
    with pytest.raises(InputError, match=r"nowhere\.txt.*cannot be read"):
        record_of(toy, store, "fake.words=nowhere.txt")
