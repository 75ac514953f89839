"""Leave-one-out keeps its rules on any data, and its fingerprint sees what it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.loading import load_dataset
from harness.errors import InputError
from harness.protocol.protocol import Protocol
from harness.protocol.split import Split
from harness.protocol.split import split as split_by
from tests import toys

ROWS = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=12), min_size=1, max_size=8)


def protocol(max_history: int = 20) -> Protocol:
    return Protocol(name="leave-one-out/1", max_history=max_history, exclude_history=False)


def cut(rows: list[list[int]], max_history: int = 20) -> Split:
    return split_by(toys.dataset([np.array(row) for row in rows], 10, None), protocol(max_history))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 6))
def test_each_part_is_what_the_protocol_says(rows: list[list[int]], max_history: int) -> None:
    split = cut(rows, max_history)
    assert [row.tolist() for row in split.train.sequences] == [row[:-2] for row in rows]
    assert split.train.repeats_items == any(len(set(row[:-2])) < len(row[:-2]) for row in rows)
    for fold, held_out in ((split.valid, 2), (split.test, 1)):
        assert fold.targets.items.tolist() == [row[-held_out] for row in rows]
        assert fold.targets.cases.tolist() == fold.requests.users.tolist() == list(range(len(rows)))
        output = [row[:-held_out][-max_history:] for row in rows]
        assert [history.tolist() for history in fold.requests.histories] == output


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(3, 12), min_size=1, max_size=8), st.integers(1, 20))
def test_no_answer_reaches_a_model(lengths: list[int], max_history: int) -> None:
    """With every interaction an item of its own, an answer can only be seen where it leaks."""
    ends = np.cumsum(lengths)
    rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    split = split_by(toys.dataset(rows, int(ends[-1]), None), protocol(max_history))
    test, valid = set(split.test.targets.items.tolist()), set(split.valid.targets.items.tolist())
    trained = set(split.train.sequences.values.tolist())
    assert not (test | valid) & trained
    assert not (test | valid) & set(split.valid.requests.histories.values.tolist())
    assert not test & set(split.test.requests.histories.values.tolist())
    assert valid <= set(split.test.requests.histories.values.tolist())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=ROWS, random=st.randoms(use_true_random=False), layout=st.sampled_from(["csv", "atomic"]))
def test_shuffled_lines_give_an_equal_fingerprint(
    tmp_path: Path, rows: list[list[int]], random: Random, layout: str
) -> None:
    times = list(range(1, 1 + sum(map(len, rows))))  # distinct
    random.shuffle(times)
    lines = [f"u{user},i{item},{times.pop()}" for user, row in enumerate(rows) for item in row]
    marks = set()
    for _ in range(3):
        if layout == "csv":
            (tmp_path / "interactions.csv").write_text("\n".join(["user,item,timestamp", *lines]))
        else:
            body = "\n".join(["user_id:token,item_id:token,timestamp:float", *lines])
            (tmp_path / "x.inter").write_text(body.replace(",", "\t"))
        data = load_dataset(str(tmp_path))
        marks.add((data.fingerprint, split_by(data, protocol()).fingerprint))
        random.shuffle(lines)
    for file in tmp_path.iterdir():
        file.unlink()
    assert len(marks) == 1


def test_the_fingerprint_sees_every_part_and_the_protocol() -> None:
    rows = [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    changed = ([[9, 1, 2, 3], rows[1]], [[0, 1, 9, 3], rows[1]], [[0, 1, 2, 9], rows[1]], [[1, 0, 2, 3], rows[1]])
    marks = {cut(rows).fingerprint, cut(rows, 2).fingerprint, *(cut(other).fingerprint for other in changed)}
    assert len(marks) == 6
    assert cut(rows).fingerprint == cut([list(row) for row in rows]).fingerprint


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_user_with_fewer_than_3_interactions_is_named(length: int) -> None:
    with pytest.raises(InputError, match=rf"toy: user 'u1' has {length} interactions, .*needs 3 \(1 such users\)"):
        cut([[1, 2, 3], list(range(length)), [4, 5, 6, 7]])


def test_users_with_equal_items_but_other_names_differ() -> None:
    one = toys.cycle(users=4)
    other = replace(one, users=("v0", *one.users[1:]))
    assert toys.split(one).fingerprint != toys.split(other).fingerprint
