"""Windows, passes, the draw of tasks, and which samples a step of text sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.ragged import Ragged
from harness.generative.instruct.batches import Batches, capped, cut
from harness.generative.instruct.config import StageConfig
from harness.generative.instruct.task_config import Task

SEQUENCE_ONLY: dict[Task, float] = {"seqrec": 1.0}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 70), st.integers(2, 9), st.integers(0, 20))
def test_every_item_but_the_first_is_a_target_once(length: int, window: int, seed: int) -> None:
    parts = cut(np.arange(length), window, np.random.default_rng(seed))
    assert [item for part in parts for item in part[1:].tolist()] == list(range(1, length))
    assert all(2 <= len(part) <= window for part in parts)
    assert all(part.tolist() == list(range(part[0], part[-1] + 1)) for part in parts)


def batches(
    seed: int = 1,
    weights: dict[Task, float] = SEQUENCE_ONLY,
    sizes: dict[Task, int] | None = None,
    **changed: float,
) -> Batches:
    rng = np.random.default_rng(0)
    sequences = Ragged.of([rng.integers(0, 50, rng.integers(1, 30)) for _ in range(40)])
    stage = StageConfig(**({"targets": 20, "epochs": 2} | changed))  # type: ignore[arg-type]
    return Batches(sequences, 6, stage, weights, (seed, "stage"), sizes)


def test_a_pass_holds_every_target_once_and_batches_keep_their_size() -> None:
    made = batches()
    one_pass = [made.windows(step) for step in range(made.steps // 2)]
    sizes = [sum(len(window) - 1 for window in batch) for batch in one_pass]
    assert max(sizes) <= 20 and sum(sizes) == sum(max(len(row) - 1, 0) for row in made._sequences)
    assert sizes.count(max(sizes)) > 1


def test_batches_are_a_function_of_seed_and_step() -> None:
    one, other = batches(), batches()
    for step in (7, 0, 12, 3):
        pair = zip(one.windows(step), other.windows(step), strict=True)
        assert all(np.array_equal(a, b) for a, b in pair)
    different = batches(seed=2)
    assert any(not np.array_equal(a, b) for a, b in zip(one.windows(0), different.windows(0), strict=False))


def test_steps_count_passes_over_sequences_and_text_steps_skip_none() -> None:
    alone, mixed = batches(), batches(weights={"seqrec": 0.5, "item2index": 0.5}, sizes={"item2index": 9})
    assert mixed.steps == pytest.approx(2 * alone.steps, abs=1)
    assert batches(max_steps=3).steps == 3
    sequence_steps = [step for step in range(mixed.steps) if mixed.task(step) == "seqrec"]
    for number, step in enumerate(sequence_steps[:5]):
        assert all(np.array_equal(a, b) for a, b in zip(mixed.windows(step), alone.windows(number), strict=True))


TEXT: dict[Task, float] = {"seqrec": 1.0, "item2index": 1.0, "itemsearch": 2.0}


def seen(made: Batches, task: Task, parts: int = 1) -> list[np.ndarray]:
    steps = [step for step in range(made.steps) if made.task(step) == task]
    return [made.numbers(step, part) for step in steps for part in range(parts)]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_text_tasks_pass_over_all_their_samples_again_and_again(accumulate: int) -> None:
    made = batches(weights=TEXT, sizes={"item2index": 10, "itemsearch": 7}, rows=6, accumulate=accumulate, epochs=3)
    for task, size in (("item2index", 10), ("itemsearch", 7)):
        given = seen(made, task, accumulate)
        assert {len(numbers) for numbers in given} == {6 // accumulate}
        flat = np.concatenate(given)
        passes = [flat[begin : begin + size].tolist() for begin in range(0, len(flat) - size + 1, size)]
        assert len(passes) > 3 and all(sorted(one) == list(range(size)) for one in passes)
        assert passes[0] != passes[1], "each pass has an order of its own"


def test_text_samples_are_a_function_of_seed_and_step() -> None:
    sizes: dict[Task, int] = {"item2index": 50, "itemsearch": 50}
    one, other = batches(weights=TEXT, sizes=sizes, rows=6), batches(weights=TEXT, sizes=sizes, rows=6)
    steps = [step for step in range(one.steps) if one.task(step) != "seqrec"]
    for step in (steps[-1], steps[0], steps[len(steps) // 2]):  # in any order, as a resumed stage asks
        assert one.numbers(step).tolist() == other.numbers(step).tolist()
    different = batches(seed=2, weights=TEXT, sizes=sizes, rows=6)
    assert not np.array_equal(seen(one, "itemsearch")[0], seen(different, "itemsearch")[0])


def test_weights_are_the_chances_of_tasks() -> None:
    made = batches(weights=TEXT, sizes={"item2index": 5, "itemsearch": 5}, epochs=40)
    share = [np.mean([made.task(step) == task for step in range(made.steps)]) for task in TEXT]
    np.testing.assert_allclose(share, [0.25, 0.25, 0.5], atol=0.05)


def test_a_cap_keeps_whole_users_until_it_is_reached() -> None:
    rows = Ragged.of([np.arange(length) + 100 * length for length in (1, 4, 6, 8)])
    assert capped(rows, None, np.random.default_rng(0)) is rows
    for targets in (1, 5, 9, 15, 99):
        kept = capped(rows, targets, np.random.default_rng(1))
        assert sum(len(row) - 1 for row in kept) == min(targets, 15)
        whole = {row[-1]: row.tolist() for row in rows}
        assert all(whole[row[-1]][-len(row) :] == row.tolist() for row in kept), "the latest are kept"
