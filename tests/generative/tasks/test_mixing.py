"""Each switch of `TasksConfig` changes what stage 1 trains on; the seed and the step alone decide the rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from eager.config import EagerConfig
from harness.generative.config import StageConfig, Task, TasksConfig
from harness.generative.models.backbone import Backbone
from harness.generative.tasks.batching import Batches, instruction_batches
from harness.generative.tasks.prompts import Sample
from tests.generative.tasks.test_instruction_dataset import TRAIN, backbone, pools, read, read_all

__all__ = ["backbone"]  # the fixture

TEXT_TASKS: tuple[Task, ...] = ("item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain")
EQUAL = {"seqrec": 1.0, **{task: 1.0 for task in TEXT_TASKS}}


def stage(backbone: Backbone, seed: int = 1, **settings: Any) -> Batches:
    result = pools(backbone, seed, **{**EQUAL, **settings})
    config = TasksConfig(**{**EQUAL, "held_out": 0.0, **settings})
    plan = StageConfig(targets=100, rows=8, epochs=4)
    return instruction_batches(TRAIN.sequences, result, plan, config, (seed, "alignment"))


def steps(batches: Batches) -> Counter[Task]:
    return Counter(batches.task(step) for step in range(batches.steps))


def seen(batches: Batches, task: Task, templates: int = 8) -> list[Sample]:
    chosen = [step for step in range(batches.steps) if batches.task(step) == task]
    return [sample for step in chosen for sample in batches.samples(step, 0, templates)]


def test_all_six_tasks_take_part(backbone: Backbone) -> None:
    assert set(steps(stage(backbone))) == {"seqrec", *TEXT_TASKS}


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_a_weight_or_a_cap_of_0_removes_a_task(task: Task, backbone: Backbone) -> None:
    for off in ({task: 0.0}, {"caps": {task: 0}}):
        assert set(steps(stage(backbone, **off))) == {"seqrec", *TEXT_TASKS} - {task}


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_weights_decide_how_often_a_task_is_trained(task: Task, backbone: Backbone) -> None:
    equal, heavy = steps(stage(backbone)), steps(stage(backbone, **{task: 4.0}))
    assert heavy[task] / heavy.total() > 1.5 * equal[task] / equal.total()


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_a_cap_bounds_the_samples_of_a_task(task: Task, backbone: Backbone) -> None:
    complete, capped = pools(backbone), pools(backbone, caps={task: 10})
    assert capped.sizes == {**complete.sizes, task: 10}
    few = read_all(backbone, capped, task)
    assert set(few) <= set(read_all(backbone, complete, task))
    assert few != read_all(backbone, pools(backbone, seed=2, caps={task: 10}), task), "the seed draws them"
    assert pools(backbone, caps={task: 10**9}).sizes == complete.sizes


def test_a_cap_bounds_the_targets_of_sequential_recommendation(backbone: Backbone) -> None:
    def targets(batches: Batches) -> set[tuple[int, ...]]:
        chosen = [step for step in range(batches.steps) if batches.task(step) == "seqrec"]
        return {tuple(window) for step in chosen for window in batches.windows(step)}

    assert sum(len(window) - 1 for window in targets(stage(backbone, caps={"seqrec": 31}))) == 31
    assert len(targets(stage(backbone))) > 20


def test_templates_are_drawn_a_sample_from_as_many_as_are_asked_for(backbone: Backbone) -> None:
    for count in (1, 3, 8):
        leads = {
            read(backbone, sample)[0].partition("[")[0]
            for sample in seen(stage(backbone, templates=count), "index2item", count)
        }
        assert len(leads) == count


def test_samples_are_a_function_of_seed_step_and_part(backbone: Backbone) -> None:
    one, other, different = stage(backbone), stage(backbone), stage(backbone, seed=2)
    chosen = [step for step in range(one.steps) if one.task(step) != "seqrec"]
    for step in (chosen[-1], chosen[0]):
        assert one.samples(step, 0, 8) == other.samples(step, 0, 8)
    assert seen(one, "itemsearch") != seen(different, "itemsearch")


def test_held_out_items_stand_in_no_text_task(backbone: Backbone) -> None:
    result, complete = pools(backbone, held_out=0.3), pools(backbone)
    hidden = np.flatnonzero(~result._texts.shown)
    assert 2 <= len(hidden) <= 14
    codes = {f"[{item}]" for item in hidden}
    names = {f"box no {item}" for item in hidden}
    for task in TEXT_TASKS:
        messages = read_all(backbone, result, task)
        fewer = len(messages) < len(read_all(backbone, complete, task))
        assert messages and (fewer or task == "preferenceobtain")
        for prompt, response in messages:
            text = prompt + response
            assert not any(code in text for code in codes)
            assert not any(text.partition(name)[1] and not text.partition(name)[2][:1].isdigit() for name in names)
    assert read_all(backbone, result, "preferenceobtain") != read_all(backbone, complete, "preferenceobtain")


def only(backbone: Backbone, task: Task, **settings: Any) -> list[tuple[str, str]]:
    off = {other: 0.0 for other in TEXT_TASKS if other != task}
    return read_all(backbone, pools(backbone, **off, **settings), task)


def longest(messages: list[tuple[str, str]], mark: str = "[") -> int:
    return max(prompt.count(mark) for prompt, _ in messages)


def test_lengths_of_histories_are_read(backbone: Backbone) -> None:
    for settings, fused, search, long, short in (({}, 9, 5, 10, 5), ({"window": 5, "recent": 2}, 4, 2, 4, 2)):
        both = only(backbone, "fusionseqrec", **settings)
        assert longest(both[: len(both) // 2]) == 0 and longest(both[len(both) // 2 :]) == fused
        assert longest(only(backbone, "itemsearch", **settings)) == search
        messages = only(backbone, "preferenceobtain", **settings)
        assert (longest(messages[:60]), longest(messages[60:])) == (long, short)
    assert [longest(only(backbone, "fusionseqrec", titles=n), ";") for n in (2, 7)] == [2, 7]


def test_lengths_of_texts_are_read(backbone: Backbone) -> None:
    for cut in (5, 9):
        assert max(len(response) for _, response in only(backbone, "index2item", text_tokens=cut)) == cut + 1
    assert only(backbone, "fusionseqrec", title_tokens=4)[0][0].endswith(": red;")


def test_mixing_by_samples_passes_over_all_tasks_equally_often(backbone: Backbone) -> None:
    result, plan = pools(backbone, **EQUAL, mixing="samples"), StageConfig(targets=100, rows=8)
    weights = result.weights(plan, 540)
    passes = {task: weight / (result.sizes[task] / 8) for task, weight in weights.items() if task != "seqrec"}
    assert np.ptp([*passes.values(), weights["seqrec"] / 5.4]) < 1e-9
    assert pools(backbone, **EQUAL).weights(plan, 540) == EQUAL
    assert (
        steps(stage(backbone, mixing="samples"))["fusionseqrec"]
        > 3 * steps(stage(backbone, mixing="samples"))["index2item"]
    )


def test_annealing_is_sequential_recommendation_alone() -> None:
    batches = Batches(TRAIN.sequences, 21, StageConfig(targets=100), {"seqrec": 1.0}, (1, "annealing"))
    assert set(steps(batches)) == {"seqrec"}


@pytest.mark.parametrize("profile", sorted(EagerConfig.profiles))
def test_every_profile_but_cpu_has_all_six_tasks(profile: str) -> None:
    """`cpu` is what validation prefers at that size: the sequential task alone (docs/log.md)."""
    config = EagerConfig.model_validate(EagerConfig.profiles[profile])
    assert set(config.tasks.weights()) == ({"seqrec"} if profile == "cpu" else set(EQUAL))
