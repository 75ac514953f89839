"""Windows, passes, the draw of tasks, and which samples a step of text sees."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.loading import read_folder
from harness.data.ragged import RaggedArray
from harness.generative.config import StageConfig, Task
from harness.generative.tasks.batching import CHUNK, Augmentation, Batches, Pass, split_windows, subsample
from harness.protocol.protocol import Protocol
from harness.protocol.split import split

SEQUENCE_ONLY: dict[Task, float] = {"seqrec": 1.0}


SHARED = Path(__file__).parents[4] / "shared/data"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 70), st.integers(2, 9), st.integers(0, 20))
def test_every_item_but_the_first_is_a_target_once(length: int, window: int, seed: int) -> None:
    rows, begins, ends = split_windows(np.array([length, 1]), window, np.random.default_rng(seed))
    parts = [np.arange(length)[begin:end] for begin, end in zip(begins, ends, strict=True)]
    assert not rows.any()
    assert [item for part in parts for item in part[1:].tolist()] == list(range(1, length))
    assert all(2 <= len(part) <= window for part in parts)


def plain_pass(sequences: RaggedArray, window: int, targets: int, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """A pass window by window, as its definition says."""
    windows = []
    for sequence in (row for row in sequences if len(row) > 1):
        first = int(rng.integers(1, window)) if len(sequence) > window else window - 1
        begins = [0, *range(first, len(sequence) - 1, window - 1)]
        ends = [*begins[1:], len(sequence) - 1]
        windows += [sequence[begin : end + 1] for begin, end in zip(begins, ends, strict=True)]
    windows = [windows[number] for number in rng.permutation(len(windows))]
    result, chunk = [], max(1, targets // (window - 1)) * CHUNK
    for begin in range(0, len(windows), chunk):
        result.append([])
        for each in sorted(windows[begin : begin + chunk], key=len):
            if result[-1] and sum(len(one) - 1 for one in result[-1]) + len(each) - 1 > targets:
                result.append([])
            result[-1].append(each)
    return [result[number] for number in rng.permutation(len(result))]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(1, 60), st.integers(2, 25), st.integers(1, 200), st.integers(0, 2**32))
def test_a_pass_is_what_its_definition_says(rows: int, longest: int, window: int, targets: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences = RaggedArray.of([[1, 2], *(rng.integers(0, 50, rng.integers(0, longest + 1)) for _ in range(rows))])
    result = Pass.drawn(sequences, window, targets, np.random.default_rng(seed))
    plain = plain_pass(sequences, window, targets, np.random.default_rng(seed))
    assert len(result) == len(plain)
    for number, batch in enumerate(plain):
        assert [window.tolist() for window in result[number]] == [window.tolist() for window in batch]


def batches(
    seed: int = 1,
    weights: dict[Task, float] = SEQUENCE_ONLY,
    sizes: dict[Task, int] | None = None,
    augmentation: Augmentation | None = None,
    **changed: float,
) -> Batches:
    rng = np.random.default_rng(0)
    sequences = RaggedArray.of([rng.integers(0, 50, rng.integers(1, 30)) for _ in range(40)])
    stage = StageConfig(**({"targets": 20, "epochs": 2} | changed))  # type: ignore[arg-type]
    pools: Any = None if sizes is None else SimpleNamespace(sizes=sizes)
    return Batches(sequences, 6, stage, weights, (seed, "stage"), pools, augmentation)


def test_a_pass_holds_every_target_once_and_batches_keep_their_size() -> None:
    result = batches()
    one_pass = [result.windows(step) for step in range(result.steps // 2)]
    sizes = [sum(len(window) - 1 for window in batch) for batch in one_pass]
    assert max(sizes) <= 20 and sum(sizes) == sum(max(len(row) - 1, 0) for row in result._sequences)
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
    one_pass, targets = alone.steps_a_pass, sum(max(len(row) - 1, 0) for row in alone._sequences)
    items = len(set(alone._sequences.values.tolist()))
    assert batches(item_targets=1.5 * targets / items).steps == round(1.5 * one_pass)
    assert batches(item_targets=1000.0).steps == alone.steps, "as many passes as there are"
    sequence_steps = [step for step in range(mixed.steps) if mixed.task(step) == "seqrec"]
    for number, step in enumerate(sequence_steps[:5]):
        assert all(np.array_equal(a, b) for a, b in zip(mixed.windows(step), alone.windows(number), strict=True))


@pytest.fixture
def built_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry whenever a pass is built."""
    built, real = [], Pass.drawn

    def counted(*value: Any) -> Pass:
        built.append(len(built))
        return real(*value)

    monkeypatch.setattr(Pass, "drawn", counted)
    return built


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("weights", [{"seqrec": 1.0}, {"seqrec": 0.5, "item2index": 0.5}], ids=["alone", "mixed"])
def test_steps_in_order_build_each_pass_once(
    weights: dict[Task, float], accumulate: int, built_passes: list[int]
) -> None:
    result = batches(weights=weights, sizes={"item2index": 9}, epochs=12, accumulate=accumulate)
    steps = [step for step in range(result.steps) if result.task(step) == "seqrec"]
    observed = [result.windows(step, part) for step in steps for part in range(accumulate)]
    targets = sum(len(window) - 1 for batch in observed for window in batch)
    passes = targets / sum(max(len(row) - 1, 0) for row in result._sequences)
    assert 11 < passes < 13 and passes - 1 < len(built_passes) <= passes + 1


def test_a_resumed_stage_builds_the_passes_before_it_once(built_passes: list[int]) -> None:
    complete = batches(epochs=12)
    expected = [complete.windows(step) for step in range(complete.steps)]
    late, each = complete.steps * 10 // 12, complete.steps // 12
    built_passes.clear()
    result = batches(epochs=12)
    assert len(built_passes) == 1, "the number of steps is that of the first pass"
    for step in range(late, complete.steps):
        assert all(np.array_equal(a, b) for a, b in zip(result.windows(step), expected[step], strict=True))
    assert len(built_passes) <= 13
    built_passes.clear()
    for step in [*range(late, complete.steps), *range(late, late + each)]:  # once more, and in the same passes
        result.windows(step)
    assert len(built_passes) <= 5, "passes are numbered; those before are not built again"


@pytest.mark.skipif(not (SHARED / "beauty").is_dir(), reason="needs ../shared/data")
def test_steps_of_beauty_cost_less_than_a_millisecond_in_late_passes_too() -> None:
    rows = split(read_folder(SHARED / "beauty"), Protocol()).train.sequences
    result = Batches(rows, 21, StageConfig(targets=160, epochs=21), SEQUENCE_ONLY, (1, "stage"))
    each = result.steps // 21
    for turn in range(20):
        begun = time.process_time()
        for step in range(turn * each, (turn + 1) * each):
            result.windows(step)
        assert (time.process_time() - begun) / each < 0.001


TEXT: dict[Task, float] = {"seqrec": 1.0, "item2index": 1.0, "itemsearch": 2.0}


def seen(batches: Batches, task: Task, parts: int = 1) -> list[np.ndarray]:
    steps = [step for step in range(batches.steps) if batches.task(step) == task]
    return [batches.numbers(step, part) for step in steps for part in range(parts)]


def test_the_augmentation_changes_windows_anew_each_pass() -> None:
    def reverse_some(window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return window[::-1] if rng.random() < 0.5 else window

    plain, result = batches(epochs=4), batches(epochs=4, augmentation=reverse_some)
    pairs = [
        (before, after)
        for step in range(result.steps)
        for before, after in zip(plain.windows(step), result.windows(step), strict=True)
    ]
    assert all(a.tolist() in (b.tolist(), b[::-1].tolist()) for b, a in pairs)
    assert 0.3 < np.mean([np.array_equal(b, a) for b, a in pairs]) < 0.7
    assert all(np.array_equal(a, b) for a, b in zip(result.windows(3), result.windows(3), strict=True))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_text_tasks_pass_over_all_their_samples_again_and_again(accumulate: int) -> None:
    result = batches(weights=TEXT, sizes={"item2index": 10, "itemsearch": 7}, rows=6, accumulate=accumulate, epochs=3)
    for task, size in (("item2index", 10), ("itemsearch", 7)):
        value = seen(result, task, accumulate)
        assert {len(numbers) for numbers in value} == {6 // accumulate}
        flat = np.concatenate(value)
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
    result = batches(weights=TEXT, sizes={"item2index": 5, "itemsearch": 5}, epochs=40)
    share = [np.mean([result.task(step) == task for step in range(result.steps)]) for task in TEXT]
    np.testing.assert_allclose(share, [0.25, 0.25, 0.5], atol=0.05)


def test_a_cap_keeps_whole_users_until_it_is_reached() -> None:
    rows = RaggedArray.of([np.arange(length) + 100 * length for length in (1, 4, 6, 8)])
    assert subsample(rows, None, np.random.default_rng(0)) is rows
    for targets in (1, 5, 9, 15, 99):
        stored = subsample(rows, targets, np.random.default_rng(1))
        assert sum(len(row) - 1 for row in stored) == min(targets, 15)
        complete = {row[-1]: row.tolist() for row in rows}
        assert all(complete[row[-1]][-len(row) :] == row.tolist() for row in stored), "the latest are kept"
