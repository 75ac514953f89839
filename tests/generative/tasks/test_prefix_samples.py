"""What a step of TIGER sees: every prefix once a pass, like lengths together, in prompts of pieces."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.seeding import generator
from harness.data.ragged import RaggedArray
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import EOS
from harness.generative.tasks import batching as module
from harness.generative.tasks.batching import FIRST, POOL, Pieces, Samples, hash_users, with_users
from harness.generative.tokenizers.base import places_in_group
from harness.protocol.requests import Requests
from tests import toys

ROWS = RaggedArray.of([[5, 6, 7, 8], [], [1], [2, 3]])


def whole_pass(samples: Samples, epoch: int = 0) -> list[tuple[list[int], int]]:
    steps = range(epoch * samples.steps, (epoch + 1) * samples.steps)
    parts = [samples.part(step, part) for step in steps for part in range(samples.accumulate)]
    pairs = (pair for histories, items in parts for pair in zip(histories, items, strict=True))
    return [(history.tolist(), int(item)) for history, item in pairs]


def test_each_prefix_is_a_sample_once_a_pass() -> None:
    expected = [([2], 3), ([5], 6), ([5, 6], 7), ([6, 7], 8)]
    samples = Samples(ROWS, 2, batch=3, accumulate=1, seed=1)
    assert samples.steps == 2
    assert sorted(whole_pass(samples)) == sorted(whole_pass(samples, 1)) == expected
    assert sorted(whole_pass(Samples(ROWS, 2, batch=2, accumulate=2, seed=1))) == expected


def test_the_order_is_drawn_from_the_seed_and_the_pass() -> None:
    rows = toys.split().train.sequences
    first = Samples(rows, 20, 16, 1, seed=1)
    assert whole_pass(first) == whole_pass(Samples(rows, 20, 16, 1, seed=1))
    assert whole_pass(first) != whole_pass(Samples(rows, 20, 16, 1, seed=2))
    assert whole_pass(first) != whole_pass(first, 1)


def test_a_pass_is_what_its_definition_says() -> None:
    """All samples mixed, those of `POOL` batches sorted by length together, batches mixed: batch by batch."""
    rows = RaggedArray.of([np.arange(n % 9) for n in range(300)])
    samples = Samples(rows, 5, batch=4, accumulate=1, seed=1)
    for epoch in (0, 3, 1):
        rng = generator(1, "tiger", "order", epoch)
        order, lengths, batches = rng.permutation(len(samples.targets)), samples.targets - samples.begins, []
        for begin in range(0, len(order), 4 * POOL):
            pool = sorted(order[begin : begin + 4 * POOL], key=lengths.__getitem__)
            batches += [pool[at : at + 4] for at in range(0, len(pool), 4)]
        for step, number in enumerate(rng.permutation(len(batches))):
            histories, items = samples.part(epoch * samples.steps + step, 0)
            assert items.tolist() == rows.values[samples.targets[batches[number]]].tolist()
            assert [len(history) for history in histories] == lengths[batches[number]].tolist()


def test_steps_in_order_build_each_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def counted(seed: int, *consumer: str | int) -> np.random.Generator:
        built.append(int(consumer[-1]))
        return generator(seed, *consumer)

    monkeypatch.setattr(module, "generator", counted)
    samples = Samples(toys.split().train.sequences, 20, 16, 2, seed=1)
    for step in range(2 * samples.steps, 5 * samples.steps):
        for part in range(2):
            samples.part(step, part)
    assert built == [2, 3, 4]


def test_a_step_pads_little() -> None:
    lengths = np.random.default_rng(1).integers(2, 20, 400)
    samples = Samples(RaggedArray.of([np.arange(n) for n in lengths]), 20, 32, 1, seed=1)
    locked = padded = 0
    for step in range(samples.steps):
        sizes = [len(history) for history in samples.part(step, 0)[0]]
        locked, padded = locked + sum(sizes), padded + max(sizes) * len(sizes)
    assert locked / padded > 0.85


def test_prompts_are_user_items_separators_and_an_end() -> None:
    table = CodeTable(np.array([[0, 1], [1, 0]]), (2, 2))
    assert Pieces(table, 0, separator=False).history(np.array([1, 0])) == [3, 4, 2, 5, EOS]
    pieces = Pieces(table, 3, separator=True)
    assert pieces.extra == 4 and pieces.codes.min() == FIRST + 4
    user = table.n_items + 2
    assert pieces.history(np.array([user, 1])) == [FIRST + 1 + 2, 7, 8, FIRST, EOS]
    assert pieces.history(np.array([], np.int64)) == [EOS]


def test_users_stand_in_front_of_their_histories() -> None:
    requested = Requests("test", np.array([2, 0]), RaggedArray.of([[4, 5], []]))
    value = with_users(requested, np.array([10, 11, 12]))
    assert [row.tolist() for row in value.histories] == [[12, 4, 5], [10]]
    assert with_users(requested, None) is requested
    histories, _ = Samples(ROWS, 2, 9, 1, 1, np.array([10, 11, 12, 13])).part(0, 0)
    assert sorted(row.tolist() for row in histories) == [[10, 5], [10, 5, 6], [10, 6, 7], [13, 2]]


def test_users_are_hashed_by_raw_id() -> None:
    data = toys.split().train
    result = hash_users(data, 5)
    assert result.shape == (60,) and set(result) == set(range(5))
    assert (result == hash_users(data, 5)).all() and (hash_users(data, 1) == 0).all()


def test_items_of_equal_codes_are_numbered_by_their_raw_ids_alone() -> None:
    digits, names = np.array([[1], [2], [1], [1], [2]]), ("a", "b", "c", "d", "e")
    places = places_in_group(digits, names)
    assert sorted(places[[0, 2, 3]]) == [0, 1, 2] and sorted(places[[1, 4]]) == [0, 1]
    turned = places_in_group(digits[::-1], names[::-1])
    np.testing.assert_array_equal(turned[::-1], places)
