"""Global time keeps its rules on any data, and every question lies after everything that a model may learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.errors import InputError
from harness.protocol.audit import verification as module
from harness.protocol.audit.checks import canary
from harness.protocol.audit.verification import verify
from harness.protocol.protocol import Protocol
from harness.protocol.split import Split
from harness.protocol.split import split as split_by
from tests import toys

TIMED = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8).map(sorted), min_size=1, max_size=8)


def protocol(**settings: Any) -> Protocol:
    return Protocol.model_validate({"name": "global-time/1", **settings})


def timed(times: list[list[int]]) -> Dataset:
    """A user a list of times; every interaction is an item of its own, so that a leak cannot hide."""
    ends = np.cumsum([len(row) for row in times])
    rows = [np.arange(end - len(row), end) for end, row in zip(ends, times, strict=True)]
    return replace(toys.dataset(rows, int(ends[-1]), None), timestamps=np.concatenate(times).astype(float))


def cut(data: Dataset, rules: Protocol) -> Split:
    """The split; data on which the cut leaves a part empty are not what these tests are about."""
    try:
        return split_by(data, rules)
    except InputError as error:
        assume("leaves nothing for" not in str(error))
        raise


@settings(max_examples=40, deadline=None)
@given(times=TIMED, first=st.integers(1, 29), more=st.integers(1, 10), longest=st.integers(1, 5))
def test_each_part_is_what_the_protocol_says(times: list[list[int]], first: int, more: int, longest: int) -> None:
    data, second = timed(times), first + more
    result = cut(data, protocol(cut=(first, second), max_history=longest))
    rows = [row.tolist() for row in data.sequences]
    pairs = [list(zip(row, when, strict=True)) for row, when in zip(rows, times, strict=True)]
    assert [row.tolist() for row in result.train.sequences] == [[i for i, t in user if t < first] for user in pairs]
    for fold, begin, end in ((result.valid, first, second), (result.test, second, 99)):
        requested, answers, histories = [], [], []
        for number, user in enumerate(pairs):
            previous, within = [i for i, t in user if t < begin], [i for i, t in user if begin <= t < end]
            if previous and within:
                requested.append(number)
                answers.append(within[0])
                histories.append(previous[-longest:])
        assert fold.requests.users.tolist() == fold.targets.cases.tolist() == requested
        assert fold.targets.items.tolist() == answers
        assert [history.tolist() for history in fold.requests.histories] == histories


@settings(max_examples=40, deadline=None)
@given(times=TIMED, first=st.floats(0.1, 0.8), more=st.floats(0.05, 0.15))
def test_shares_cut_in_time_and_nothing_later_is_learnt(times: list[list[int]], first: float, more: float) -> None:
    data = timed(times)
    result = cut(data, protocol(cut=(first, first + more)))
    when = data.timestamps
    assert when is not None and result.cut.times is not None
    trained = result.train.sequences.values
    assert len(trained) <= first * data.interactions
    assert when[trained].max() < result.cut.times[0] <= when[result.valid.targets.items].min()
    assert when[result.valid.targets.items].max() < result.cut.times[1] <= when[result.test.targets.items].min()
    assert when[result.test.requests.histories.values].max() < result.cut.times[1]
    assert canary(data, result.protocol) == ""
    assert [check for check in verify(data, result.protocol) if not check.ok] == []


def test_verification_notices_training_rows_from_after_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    data = timed([[1, 2, 11, 21], [3, 12, 22], [4, 5, 13]])
    split = split_by(data, protocol(cut=(10, 20)))
    later = split_by(data, protocol(cut=(12.5, 20))).train
    for fault, names in (
        (replace(split, train=later), {"training part", "leakage", "split fingerprint"}),
        (replace(split, test=split.valid), {"test users", "test targets", "test histories", "split fingerprint"}),
    ):
        monkeypatch.setattr(module, "split", lambda *_, fault=fault: fault)
        broken = {check.name for check in verify(data, split.protocol) if not check.ok}
        assert broken and broken <= names


def test_cold_users_and_items_by_hand() -> None:
    """u0 is known throughout; u1 comes between the cuts; u2 comes after both; u3 never comes again."""
    data = timed([[1, 2, 11, 21], [12, 22, 23], [24, 25], [3, 4]])
    split = split_by(data, protocol(cut=(10, 20)))
    assert [len(row) for row in split.train.sequences] == [2, 0, 0, 2]
    assert split.valid.requests.users.tolist() == [0]  # u1 has no history then
    assert split.test.requests.users.tolist() == [0, 1]  # u1 has one now, u2 has none
    assert split.test.targets.items.tolist() == [3, 5]
    assert split.train.counts()[3] == 0 and split.train.n_items == data.sequences.values.max() + 1


def test_names_and_cuts_are_understood() -> None:
    assert Protocol.model_validate({"name": "global-time"}) == protocol(cut=(0.8, 0.9))
    assert Protocol.model_validate({"name": "leave-one-out"}) == Protocol()
    dates = protocol(cut=("1970-01-01T00:00:10", "1970-01-01T00:00:20+00:00"))
    data = timed([[1, 2, 11, 21], [3, 12, 22]])
    assert split_by(data, dates).cut.times == (10, 20)
    marks = {split_by(data, rules).fingerprint for rules in (protocol(cut=(10, 20)), protocol(cut=(11, 21)))}
    assert len(marks) == 2
    assert Protocol().rules() == {"name": "leave-one-out/1", "max_history": 20, "exclude_history": False}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"name": "global-tim"}, "did you mean global-time/1"),
        ({"name": "leave-one-out", "cut": (0.8, 0.9)}, "cut is of global-time/1"),
        ({"name": "global-time", "cut": (0.9, 0.8)}, "the first one smaller"),
        ({"name": "global-time", "cut": (0.8, "2018-01-01")}, "two shares between 0 and 1 or two times"),
        ({"name": "global-time", "cut": ("soon", "later")}, "is no date such as"),
        ({"name": "global-time", "cut": (0.8,)}, "cut"),
    ],
)
def test_a_cut_that_makes_no_sense(value: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValidationError, match=kind):
        Protocol.model_validate(value)


def test_data_that_cannot_be_cut_in_time() -> None:
    with pytest.raises(InputError, match=r"toy: global-time/1 needs timestamps.*leave-one-out/1"):
        split_by(toys.cycle(), protocol())
    data = timed([[1, 2, 3], [2, 3, 4]])
    for times, part in (((0.5, 1), "training"), ((3.5, 3.6), "validation"), ((2, 9), "test")):
        rules = protocol(cut=(1, 2) if part == "training" else times)
        with pytest.raises(InputError, match=f"nothing for {part}: the data reach from 1970-01-01.* choose"):
            split_by(data, rules)


def test_ml_100k() -> None:
    split = split_by(load_dataset("ml-100k"), protocol())
    assert (len(split.valid.requests), len(split.test.requests)) == (81, 90)
    assert int((split.cut.train == 0).sum()) == 192
    assert split.fingerprint == "7f9545369b3e9139"
