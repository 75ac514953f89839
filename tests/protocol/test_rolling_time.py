"""Rolling time keeps its rules on any data, and has the cases of MiniOneRec's procedure on a file of that layout."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics, seen, without_history
from harness.protocol.audit import checks as checks_module
from harness.protocol.audit import verification as module
from harness.protocol.audit.audit import audit
from harness.protocol.audit.checks import canary
from harness.protocol.audit.verification import verify
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.split import EvaluationSplit, Split, SplitParts, parts
from harness.protocol.split import split as split_by
from tests import toys
from tests.protocol.test_global_time import TIMED, timed

Sample = tuple[str, tuple[str, ...], str]  # user, history, target


def protocol(**settings: Any) -> Protocol:
    return Protocol.model_validate({"name": "rolling-time", **settings})


def cut(data: Dataset, rules: Protocol) -> Split:
    try:
        return split_by(data, rules)
    except InputError as error:
        assume("leaves nothing for" not in str(error))
        raise


@settings(max_examples=40, deadline=None)
@given(times=TIMED)
def test_every_interaction_after_the_cut_is_a_case(times: list[list[int]]) -> None:
    data = timed(times)
    made = cut(data, protocol(cut=(8, 16), max_history=3))
    for fold, begin, end in ((made.valid, 8, 16), (made.test, 16, 99)):
        users, answers, histories = [], [], []
        for user, (row, when) in enumerate(zip(data.sequences, times, strict=True)):
            for place in range(1, len(row)):
                if begin <= when[place] < end:
                    users.append(user)
                    answers.append(row[place])
                    histories.append(row[max(0, place - 3) : place].tolist())
        assert fold.requests.users.tolist() == users
        assert fold.targets.items.tolist() == answers
        assert [history.tolist() for history in fold.requests.histories] == histories
        assert fold.requests.cases.tolist() == fold.targets.cases.tolist() == list(range(len(users)))
    assert made.train.sequences.values.tolist() == [i for row in zip(data.sequences, times, strict=True)
                                                    for i, t in zip(*row, strict=True) if t < 8]  # fmt: skip
    assert canary(data, made.protocol) == ""
    assert [check for check in verify(data, made.protocol) if not check.ok] == []
    assert audit(data, made.protocol)["test_in_history"].count == 0


@settings(max_examples=25, deadline=None)
@given(times=TIMED)
def test_shares_are_of_the_cases_whatever_the_order_of_users(times: list[list[int]]) -> None:
    data = timed(times)
    made = cut(data, protocol(cut=(0.5, 0.8)))
    total = sum(len(row) - 1 for row in times)
    assert len(made.test.requests) == total - int(0.8 * total)
    assert len(made.valid.requests) == int(0.8 * total) - int(0.5 * total)
    assert [check for check in verify(data, made.protocol) if not check.ok] == []


def minionerec(lines: list[tuple[str, str, int]]) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """The published procedure, slowly: each interaction of a user after the first is a sample with all before it; the
    samples in the order of time are cut at 80% and 90%."""
    by_user: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for user, item, time in lines:
        by_user[user].append((time, item))
    samples: list[tuple[int, Sample]] = []
    for user in sorted(by_user):
        row = sorted(by_user[user], key=lambda pair: pair[0])
        for place in range(1, len(row)):
            samples.append((row[place][0], (user, tuple(item for _, item in row[:place]), row[place][1])))
    ordered = [sample for _, sample in sorted(samples, key=lambda pair: pair[0])]
    first, second = int(0.8 * len(ordered)), int(0.9 * len(ordered))
    return ordered[:first], ordered[first:second], ordered[second:]


def made_reviews(users: int, total: int, seed: int) -> list[tuple[str, str, int]]:
    """Reviews as Amazon publishes them: times are days, lines are in no order, and some items are bought again."""
    random = np.random.default_rng(seed)
    lengths = 5 + np.bincount(random.integers(0, users, total - 5 * users), minlength=users)
    lines = []
    for user, length in enumerate(lengths.tolist()):
        row = random.integers(0, 3_686, length)
        again = np.flatnonzero(random.random(length) < 0.03)
        row[again] = row[again - (again > 0)]
        days = random.integers(17_000, 17_900, length) * 86_400
        lines += [(f"A{user:05d}", f"B{item:04d}", day) for item, day in zip(row.tolist(), days.tolist(), strict=True)]
    return [lines[n] for n in random.permutation(len(lines)).tolist()]


INDUSTRIAL, OFFICE = "Industrial_and_Scientific", "Office_Products"
CASES = {INDUSTRIAL: (7_694, 45_324, (36_259, 4_532, 4_533)), OFFICE: (6_000, 48_656, (38_924, 4_866, 4_866))}


def layout(folder: Path, category: str, samples: tuple[list[Sample], ...]) -> str:
    """MiniOneRec's files of these train, valid and test samples, histories of 10 items, without an index."""
    for part, listed in zip(("train", "valid", "test"), samples, strict=True):
        (folder / part).mkdir(parents=True, exist_ok=True)
        with (folder / part / f"{category}_5_2016-10-2018-11.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "history_item_title", "item_title", "history_item_id", "item_id"])
            for user, history, item in listed:
                writer.writerow(
                    [user, [f'No. {h}, 2"' for h in history[-10:]], f"No. {item}", list(history[-10:]), item]
                )
    return str(folder)


def cases_of(data: Dataset, fold: EvaluationSplit) -> list[Sample]:
    rows_of = zip(fold.requests.users.tolist(), fold.requests.histories, fold.targets.items.tolist(), strict=True)
    return sorted((data.users[u], tuple(data.items[i] for i in h), data.items[t]) for u, h, t in rows_of)


@pytest.mark.parametrize("category", CASES)
def test_the_cases_of_minionerec(tmp_path: Path, category: str) -> None:
    users, samples, counts = CASES[category]
    lines = made_reviews(users, users + samples, seed=users)
    rows = "".join(f"{user},{item},{day}\n" for user, item, day in lines)
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + rows)
    data = load_dataset(str(tmp_path))
    made = split_by(data, protocol(max_history=10))
    reference = minionerec(lines)
    assert tuple(map(len, reference)) == counts
    trained = int(np.maximum(made.train.sequences.lengths - 1, 0).sum())
    assert (trained, len(made.valid.requests), len(made.test.requests)) == counts
    for fold, expected in ((made.valid, reference[1]), (made.test, reference[2])):
        assert cases_of(data, fold) == sorted((user, history[-10:], item) for user, history, item in expected)
    repeats = sum(item in history for _, history, item in reference[2])
    assert audit(data, made.protocol, made)["test_in_history"].count == repeats > 50


@pytest.mark.parametrize("category", [pytest.param(INDUSTRIAL, marks=pytest.mark.nightly), OFFICE])
def test_minionerecs_own_files_give_their_cases(tmp_path: Path, category: str) -> None:
    users, total, counts = CASES[category]
    reference = minionerec(made_reviews(users, users + total, seed=1))
    data = load_dataset(layout(tmp_path, category, reference))
    made = split_by(data, protocol(max_history=10))
    trained = int(np.maximum(made.train.sequences.lengths - 1, 0).sum())
    assert (trained, len(made.valid.requests), len(made.test.requests)) == counts and not data.warnings
    for fold, expected in ((made.valid, reference[1]), (made.test, reference[2])):
        assert cases_of(data, fold) == sorted((user, history[-10:], item) for user, history, item in expected)
    assert data.name == f"{category}_5_2016-10-2018-11" and data.text is not None
    file = tmp_path / "test" / f"{data.name}.csv"
    assert load_dataset(str(file)).fingerprint == data.fingerprint


def test_files_with_another_cut_name_the_option(tmp_path: Path) -> None:
    train, valid, test = minionerec(made_reviews(200, 1_400, seed=2))
    path = layout(tmp_path, OFFICE, (train, [(user, history[::-1], item) for user, history, item in valid], test))
    with pytest.raises(InputError, match="does not follow from the rows of that user before it"):
        load_dataset(path)
    data = load_dataset(layout(tmp_path, OFFICE, (train[:800], [*train[800:], *valid], test)))
    assert f"say --set protocol.cut=[800.5,{len(train) + len(valid)}.5]" in data.warnings[-1]
    made = split_by(data, protocol(cut=(800.5, len(train) + len(valid) + 0.5), max_history=10))
    assert cases_of(data, made.test) == sorted((user, history[-10:], item) for user, history, item in test)
    assert len(made.valid.requests) == len(train) + len(valid) - 800
    assert [check for check in verify(data, made.protocol) if not check.ok] == []
    longest = list({user: (user, history, item) for user, history, item in train}.values())
    data = load_dataset(layout(tmp_path, OFFICE, (longest, valid, test)))
    made = split_by(data, protocol(cut=(len(longest) + 0.5, len(longest) + len(valid) + 0.5), max_history=10))
    assert "rolling-time would cut elsewhere" in data.warnings[-1]
    assert cases_of(data, made.test) == sorted((user, history[-10:], item) for user, history, item in test)


def several() -> tuple[Dataset, Split]:
    """u0 has three test cases, u1 one, u2 none."""
    data = timed([[1, 11, 21, 22, 23], [2, 12, 24], [3, 13]])
    return data, split_by(data, protocol(cut=(10, 20)))


def test_names_metrics_and_lists_are_those_of_cases() -> None:
    data, made = several()
    requests = made.test.requests
    assert requests.users.tolist() == [0, 0, 0, 1] and made.test.names(data.users) == ("u0#1", "u0#2", "u0#3", "u1#1")
    items = made.test.targets.items
    right = Predictions(requests.cases, items[:, None], np.zeros((4, 1)))
    assert compute_metrics(right, made.test.targets)["recall@1"] == 1.0
    shuffled = Predictions(requests.cases[::-1], items[::-1, None], np.zeros((4, 1)))
    assert compute_metrics(shuffled, made.test.targets)["recall@1"] == 1.0
    late = Predictions(requests.cases, items[[0, 0, 0, 0], None], np.zeros((4, 1)))  # the first answer, again and again
    assert compute_metrics(late, made.test.targets)["recall@1"] == 0.25
    assert seen(late, requests)[:, 0].tolist() == [False, True, True, False]
    assert without_history(late, requests, 1).lengths.tolist() == [1, 0, 0, 1]
    assert requests.take(np.array([2])).cases.tolist() == [2]


def with_answer(fold: EvaluationSplit, row: int) -> EvaluationSplit:
    """The fold with the answer of one case at the end of its history."""
    histories = [list(history) for history in fold.requests.histories]
    histories[row].append(int(fold.targets.items[row]))
    return replace(fold, requests=replace(fold.requests, histories=RaggedArray.of(histories)))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_an_answer_in_the_history_of_any_case_is_noticed(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    data, made = several()

    def leaky(dataset: Dataset, rules: Protocol) -> SplitParts:
        clean = parts(dataset, rules)
        return replace(clean, test=with_answer(clean.test, row))

    monkeypatch.setattr(checks_module, "parts", leaky)
    assert "test histories" in canary(data, made.protocol)
    monkeypatch.setattr(module, "split", lambda *_: replace(made, test=with_answer(made.test, row)))
    broken = {check.name for check in verify(data, made.protocol) if not check.ok}
    assert {"test histories"} <= broken


def test_verification_notices_a_case_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = several()
    targets = replace(made.test.targets, cases=made.test.targets.cases[1:], items=made.test.targets.items[1:])
    fewer = EvaluationSplit(made.test.requests.take(np.arange(1, 4)), targets)
    monkeypatch.setattr(module, "split", lambda *_: replace(made, test=fewer))
    broken = {check.name for check in verify(data, made.protocol) if not check.ok}
    assert {"test users", "test targets"} <= broken


def test_the_fingerprint_sees_every_case() -> None:
    data, made = several()
    values = data.sequences.values.copy()
    values[3], values[4] = values[4], values[3]  # two test targets of one user change places
    other = replace(data, sequences=RaggedArray(values, data.sequences.offsets))
    assert split_by(other, made.protocol).fingerprint != made.fingerprint
    assert split_by(toys.cycle(), Protocol()).test.requests.clusters is None


def test_ml_100k() -> None:
    made = split_by(load_dataset("ml-100k"), protocol())
    assert (len(made.valid.requests), len(made.test.requests)) == (9_906, 9_906)
    assert made.fingerprint == "d8676c52f7c3ab4d"
