"""What the samples of each text task hold, and what gives way where a context is short."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.dataset import ItemText
from harness.errors import InputError
from harness.generative.config import Task, TasksConfig
from harness.generative.models.backbone import Backbone
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.item_texts import task_texts
from harness.generative.tasks.prompts import IGNORED, Prompts, Sample
from tests import toys
from tests.generative import toy_models
from tests.generative.tasks.test_prompts import replace_context

CODES = toy_models.table(items=24)
ITEM_OF = {tuple(code): item for item, code in enumerate(CODES.flat.tolist())}
TRAIN = toys.split(toys.cycle(length=12)).train  # 60 users with 10 training items each
TEXT = TRAIN.text or ()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return toy_models.backbone(tmp_path_factory.mktemp("backbone"))


def pools(backbone: Backbone, seed: int = 1, **settings: Any) -> InstructionDataset:
    """Of the toy, all items shown and texts long enough for bytes unless said otherwise."""
    config = TasksConfig(**({"held_out": 0.0, "text_tokens": 200, "title_tokens": 40} | settings))
    prompts = Prompts(backbone, CODES, config.text_tokens)
    return InstructionDataset(prompts, task_texts(TRAIN, TEXT, config), config, seed)


def every(dataset: InstructionDataset, task: Task, template: int = 0) -> list[Sample]:
    numbers = np.arange(dataset.sizes[task])
    return dataset.samples(task, numbers, np.full(len(numbers), template))


@cache
def character(backbone: Backbone, token: int) -> str:
    return str(backbone.tokenizer.decode([token]))


def read(backbone: Backbone, sample: Sample) -> tuple[str, str]:
    """Prompt and response, with the code of item 7 as [7] and the end of a text as |."""

    def words(ids: list[int]) -> str:
        text, place = "", 0
        while place < len(ids):
            if ids[place] >= backbone.vocabulary:
                text += f"[{ITEM_OF[tuple(i - backbone.vocabulary for i in ids[place : place + CODES.levels])]}]"
                place += CODES.levels
            else:
                text += "|" if ids[place] == backbone.eos else character(backbone, ids[place])
                place += 1
        return text

    cut = sample.labels.count(IGNORED)
    assert sample.labels[cut:] == sample.ids[cut:], "the response is labelled with itself, behind the prompt"
    return words(sample.ids[:cut]), words(sample.ids[cut:])


def read_all(backbone: Backbone, dataset: InstructionDataset, task: Task) -> list[tuple[str, str]]:
    return [read(backbone, sample) for sample in every(dataset, task)]


def test_items_stand_in_full_by_title_and_by_code(backbone: Backbone) -> None:
    result = pools(backbone)
    forth = read_all(backbone, result, "item2index")
    assert len(forth) == 48
    complete = "Item description: grey round box no 3. Boxes. grey. a box that is grey and round\nIts code:"
    assert forth[3] == (complete, "[3]")
    assert forth[24 + 3] == ("Item description: grey round box no 3\nIts code:", "[3]")
    assert [sample.item for sample in every(result, "item2index")] == [*range(24), *range(24)]
    back = read_all(backbone, result, "index2item")
    question = "What is the title of the item with this code?[3]\nTitle:"
    assert len(back) == 24 and back[3] == (question, " grey round box no 3|")
    assert {sample.item for sample in every(result, "index2item")} == {None}


def test_fused_sequences_go_both_ways(backbone: Backbone) -> None:
    result = pools(backbone)
    samples, messages = every(result, "fusionseqrec"), read_all(backbone, result, "fusionseqrec")
    assert len(messages) == 2 * 60 * 9  # every training item of a user but the first is a target in each direction
    names = [text.title for text in TEXT]
    prompt, response = messages[2]  # user 0: items 0, 1, 2, …
    assert prompt.endswith(f": {names[0]}; {names[1]}; {names[2]};") and response == "[3]" and samples[2].item == 3
    prompt, response = messages[540 + 2]
    assert prompt.endswith(":[0][1][2]") and response == f" {names[3]}|"
    assert samples[540 + 2].item is None


def test_a_search_holds_the_intention_of_its_target_and_recent_items(backbone: Backbone) -> None:
    result = pools(backbone, recent=3)
    texts = task_texts(TRAIN, TEXT, TasksConfig(held_out=0.0))
    prompt, response = read_all(backbone, result, "itemsearch")[7]  # user 0, target 8
    assert response == "[8]" and prompt.endswith("[5][6][7]") and "[4]" not in prompt
    assert texts.intentions[8] and f": {texts.intentions[8]}\n" in prompt
    assert every(result, "itemsearch")[7].item == 8


def test_preferences_are_told_of_all_that_is_shown_and_of_the_recent(backbone: Backbone) -> None:
    result = pools(backbone, recent=3)
    messages = read_all(backbone, result, "preferenceobtain")
    texts = task_texts(TRAIN, TEXT, TasksConfig(held_out=0.0, recent=3))
    assert len(messages) == 2 * 60
    for number, span, output in ((1, "long", range(7, 17)), (61, "short", range(14, 17))):
        prompt, response = messages[number]
        assert prompt.endswith(":" + "".join(f"[{item}]" for item in output))
        assert prompt.count("[") == len(output) and response == f" {texts.preferences[span][1]}|"
    assert texts.preferences["long"][1] != texts.preferences["short"][1]


def test_samples_fit_the_context_and_cuts_are_counted(backbone: Backbone) -> None:
    complete = pools(backbone)
    assert all(stored["histories_cut"] == stored["texts_cut"] == 0 for stored in complete.record()["tasks"].values())
    narrow = replace_context(backbone, 160)
    result = pools(narrow)
    for task in result.sizes:
        for template in range(8):
            assert max(len(sample.ids) for sample in every(result, task, template)) <= 160
    stored, full = read_all(backbone, result, "fusionseqrec")[8], read_all(backbone, complete, "fusionseqrec")[8]
    assert stored[1] == full[1] and stored[0] != full[0], "the oldest titles go"
    assert full[0].endswith(stored[0].partition(": ")[2]) and stored[0].count(";") >= 1
    counted = result.record()["tasks"]
    assert counted["fusionseqrec"]["histories_cut"] > 300
    cut = sum(
        len(one.ids) != len(other.ids)
        for task in result.sizes
        for one, other in zip(every(result, task), every(complete, task), strict=True)
    )
    assert cut > 0
    assert pools(backbone, text_tokens=12).record()["tasks"]["index2item"]["texts_cut"] == 24
    with pytest.raises(InputError, match="too short for the prompts of"):
        pools(replace_context(backbone, 90))


def test_a_task_without_samples_is_left_out(backbone: Backbone) -> None:
    plain = tuple(ItemText(f"x{number}") for number in range(24))  # nothing to derive an intention from
    config = TasksConfig(held_out=0.0)
    result = InstructionDataset(Prompts(backbone, CODES), task_texts(TRAIN, plain, config), config, 1)
    assert set(result.sizes) == {"item2index", "index2item", "fusionseqrec"}
    assert result.record()["tasks"]["itemsearch"]["samples"] == 0


def test_the_record_says_how_much_there_is(backbone: Backbone) -> None:
    record = pools(backbone, caps={"fusionseqrec": 100}, held_out=0.2).record()
    assert 1 <= record["held_out_items"] < 12 and record["written_by"] == {"intentions": "rule", "preferences": "rule"}
    fused = record["tasks"]["fusionseqrec"]
    assert fused["samples"] == 100 < fused["of"] and fused["tokens"] > 50


def test_assembling_is_fast_enough_never_to_be_waited_for(backbone: Backbone, tmp_path: Path) -> None:
    """Well below 0.1 ms a sample; a training step takes longer for each by orders of magnitude."""
    import time

    result = pools(backbone)
    numbers, templates = np.arange(1000), np.arange(1000) % 8
    result.samples("fusionseqrec", numbers, templates)  # templates are tokenised at their first use
    begun = time.process_time()
    for place in range(0, 960, 64):
        result.samples("fusionseqrec", numbers[place : place + 64], templates[place : place + 64])
    assert time.process_time() - begun < 960 * 1e-4
