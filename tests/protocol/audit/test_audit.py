"""The audit counts what was counted by hand, finds every leak that is planted, and is silent on clean data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import Dataset, ItemText
from harness.data.loading import load_dataset
from harness.protocol.audit import checks as canary_module
from harness.protocol.audit.audit import audit
from harness.protocol.audit.checks import canary
from harness.protocol.protocol import Protocol
from harness.protocol.split import SplitParts, parts
from tests import toys

SHARED = Path(__file__).parents[4] / "shared/data"
TEXT = (ItemText("Pen"), ItemText("pen", "blue ink"), ItemText(), ItemText("Ink", brand="B"), ItemText("Box"))
LOO, GLOBAL = Protocol(), Protocol(name="global-time")


def small() -> Dataset:
    """Item 4 is only a test item."""
    rows = [np.array(row) for row in ([0, 1, 2], [1, 1, 0, 1], [0, 2, 3, 3, 4])]
    times = np.array([1, 2, 2, 1, 2, 3, 4, 1, 2, 3, 4, 4.0])
    return replace(toys.dataset(rows, 5, TEXT), timestamps=times, lost=(("rows without a user", 2),))


def test_counts_by_hand() -> None:
    result = audit(small(), LOO)
    assert (result["test_ties"].count, result["test_ties"].total) == (2, 3)  # users 0 and 2
    assert result["validation_ties"].count == 0
    assert result["test_in_history"].count == 1  # user 1 had item 1 before
    assert result["validation_in_history"].count == 1  # user 2 had item 3 before
    assert result["test_untrained"].count == 1  # item 4, and item 2 is in user 2's training part
    assert result["validation_untrained"].count == 0
    assert result["validation_twin_in_history"].count == 2  # pen after Pen for user 0, Pen after pen for user 1
    assert result["test_future"].count == 1  # user 0 at 2; the last training interaction is at 3
    assert result["test_cold_users"].count == 0
    assert (result["without_text"].count, result["duplicate_titles"].count) == (1, 2)
    assert result["duplicate_texts"].count == 0
    assert result.lost == {"rows without a user": 2}
    assert result.alarms() == [] and result.document()["findings"]["test_ties"] == [2, 3]


def test_what_cannot_be_told_without_timestamps() -> None:
    result = audit(toys.cycle(), LOO)
    assert result["test_ties"].total == result["test_future"].total == 0
    assert result.order == "file" and audit(small(), LOO).order == "time"


def clean(users: int = 200, items: int = 150, seed: int = 3) -> Dataset:
    """Random sequences with texts and ids that name each other in a few places, as real ones do."""
    random = np.random.default_rng(seed)
    rows = [random.choice(items, random.integers(7, 12), replace=False) for _ in range(users)]
    text = list(toys.titles(items))
    for item in range(0, 40, 2):
        text[item] = replace(text[item], description=f"goes with the {text[item + 1].title}")
    data = toys.dataset(rows, items, tuple(text), name="clean")
    ids = tuple(f"B{item:07d}" for item in range(items))
    return replace(data, items=ids, users=tuple(f"user{user:04d}" for user in range(users)))


def copied_users(data: Dataset) -> Dataset:
    """20 users stand in the data a second time, with two interactions more: their answers are training rows there."""
    rows = [row for row in data.sequences]
    twins = [np.concatenate([row, [(row[0] + 1) % 150, (row[0] + 2) % 150]]) for row in rows[:20]]
    users = (*data.users, *(f"twin{user:04d}" for user in range(20)))
    return replace(toys.dataset([*rows, *twins], len(data.items), data.text), users=users, items=data.items)


def answers_in_text(data: Dataset) -> Dataset:
    """The text of the item before it gives the answer's title away."""
    assert data.text is not None
    text = list(data.text)
    for row in list(data.sequences)[:40]:
        text[row[-2]] = replace(text[row[-2]], description=f"{text[row[-2]].description}; {text[row[-1]].title}")
    return replace(data, text=tuple(text))


def bought_together(data: Dataset) -> Dataset:
    """Lists of what was bought with an item, made from everybody's rows."""
    assert data.text is not None
    text = list(data.text)
    for row in list(data.sequences)[:40]:
        text[row[-2]] = replace(text[row[-2]], description=f"also bought: {data.items[row[-1]]}")
    return replace(data, text=tuple(text))


def buyers_in_text(data: Dataset) -> Dataset:
    assert data.text is not None
    text = list(data.text)
    for user, row in enumerate(list(data.sequences)[:20]):
        text[row[-1]] = replace(text[row[-1]], description=f"reviewed by {data.users[user]}")
    return replace(data, text=tuple(text))


PLANTED: dict[str, tuple[Callable[[Dataset], Dataset], str]] = {
    "copies of users": (copied_users, "test_copied"),
    "titles of answers": (answers_in_text, "test_named"),
    "ids of answers": (bought_together, "ids_in_text"),
    "ids of buyers": (buyers_in_text, "ids_in_text"),
}


def test_clean_data_raise_no_alarm() -> None:
    assert audit(clean(), LOO).alarms() == []
    assert [audit(data, LOO).alarms() for data in (toys.cycle(), toys.noise(), toys.cold(), small())] == [[]] * 4


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_leak_in_the_data_is_found(kind: str) -> None:
    plant, name = PLANTED[kind]
    alarms = audit(plant(clean()), LOO).alarms()
    assert any(alarm.startswith(f"{name}: ") for alarm in alarms), alarms


def validation_in_training(split: SplitParts, data: Dataset) -> SplitParts:
    return replace(split, train=replace(split.train, sequences=toys.without_last(data.sequences)))


def everything_in_training(split: SplitParts, data: Dataset) -> SplitParts:
    return replace(split, train=replace(split.train, sequences=data.sequences))


def answer_in_test_history(split: SplitParts, data: Dataset) -> SplitParts:
    return replace(split, test=replace(split.test, requests=replace(split.test.requests, histories=data.sequences)))


def answer_in_validation_history(split: SplitParts, data: Dataset) -> SplitParts:
    output = replace(split.valid.requests, histories=toys.without_last(data.sequences))
    return replace(split, valid=replace(split.valid, requests=output))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (validation_in_training, "the training part (validation)"),
        (everything_in_training, "the training part"),
        (answer_in_test_history, "the test histories"),
        (answer_in_validation_history, "the validation histories (validation)"),
    ],
)
def test_the_canary_sings_of_a_split_that_leaks(
    fault: Callable[[SplitParts, Dataset], SplitParts], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert canary(toys.noise(), LOO) == ""
    monkeypatch.setattr(canary_module, "parts", lambda data, rules: fault(parts(data, rules), data))
    assert kind in canary(toys.noise(), LOO)
    assert any(alarm.startswith("canary: targets reached ") for alarm in audit(toys.noise(), LOO).alarms())


def test_ml_100k_raises_no_alarm_under_either_protocol() -> None:
    data = load_dataset("ml-100k")
    result = audit(data, LOO)
    assert result.alarms() == [] and result["test_ties"].count == 415
    timed = audit(data, GLOBAL)
    assert timed.alarms() == [] and timed["test_future"].count == timed["validation_future"].count == 0
    assert timed["test_cold_users"].count > 0 and "items that no training part has" in timed.lost
    assert timed.times is not None and timed.times[0] < timed.times[1]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "untrained"), [("office", 260), ("instruments", 35)])
def test_real_data_raise_no_alarm(name: str, untrained: int) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip("the real data is not beside the project")
    result = audit(load_dataset(str(SHARED / name)), LOO)
    assert result.alarms() == []
    assert result["test_untrained"].count == untrained and result["test_in_history"].count == 0
