"""Windows, passes, the draw of tasks, and prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager.batches import Batches, cut
from eager.config import StageConfig, Task
from eager.prompts import IGNORED, Prompts, describe
from harness.data.dataset import ItemText
from harness.data.ragged import Ragged
from tests.generative import models

SEQUENCE_ONLY: dict[Task, float] = {"seqrec": 1.0}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 70), st.integers(2, 9), st.integers(0, 20))
def test_every_item_but_the_first_is_a_target_once(length: int, window: int, seed: int) -> None:
    parts = cut(np.arange(length), window, np.random.default_rng(seed))
    assert [item for part in parts for item in part[1:].tolist()] == list(range(1, length))
    assert all(2 <= len(part) <= window for part in parts)
    assert all(part.tolist() == list(range(part[0], part[-1] + 1)) for part in parts)


def batches(seed: int = 1, weights: dict[Task, float] = SEQUENCE_ONLY, **changed: float) -> Batches:
    rng = np.random.default_rng(0)
    sequences = Ragged.of([rng.integers(0, 50, rng.integers(1, 30)) for _ in range(40)])
    stage = StageConfig(**({"targets": 20, "epochs": 2} | changed))  # type: ignore[arg-type]
    return Batches(sequences, 6, stage, weights, (seed, "stage"))


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
    alone, mixed = batches(), batches(weights={"seqrec": 0.5, "item2index": 0.5})
    assert mixed.steps == pytest.approx(2 * alone.steps, abs=1)
    assert batches(max_steps=3).steps == 3
    sequence_steps = [step for step in range(mixed.steps) if mixed.tasks[step] == "seqrec"]
    for number, step in enumerate(sequence_steps[:5]):
        assert all(np.array_equal(a, b) for a, b in zip(mixed.windows(step), alone.windows(number), strict=True))


def test_prompts_end_with_the_history_and_carry_one_id_a_code_token(tmp_path: Path) -> None:
    backbone, codes = models.backbone(tmp_path), models.table()
    prompts = Prompts(backbone, codes)
    history = np.array([4, 0, 9])
    ids = prompts.history(history)
    assert ids[-9:] == (codes.flat[history] + backbone.vocabulary).reshape(-1).tolist()
    assert ids[:-9] == prompts.lead() and max(prompts.lead()) < backbone.vocabulary


def test_a_history_too_long_for_the_context_loses_its_oldest_items(tmp_path: Path) -> None:
    backbone, codes = models.backbone(tmp_path, "gpt2"), models.table()  # 256 positions
    prompts = Prompts(backbone, codes)
    ids = prompts.history(np.arange(200) % 30)
    assert len(ids) + codes.levels <= 256
    assert ids[-3:] == prompts.history(np.array([199 % 30]))[-3:]


def test_templates_are_eight_distinct_ones_a_task(tmp_path: Path) -> None:
    prompts = Prompts(models.backbone(tmp_path), models.table())
    assert set(prompts.templates) == {"seqrec", "item2index", "index2item"}
    for task, texts in prompts.templates.items():
        assert len(set(texts)) == 8
        place = {"seqrec": 0, "item2index": 1, "index2item": 1}[task]
        assert all(text.count("{") == place for text in texts)


def test_samples_label_the_response_alone(tmp_path: Path) -> None:
    backbone, codes = models.backbone(tmp_path), models.table()
    prompts, text = Prompts(backbone, codes), ItemText("A title", "long words", "maker", ("x", "y"))
    assert describe(text) == "A title. maker. x, y. long words"
    forth, back = prompts.item2index(3, text, 2), prompts.index2item(3, text, 2)
    code = (codes.flat[3] + backbone.vocabulary).tolist()
    assert [label for label in forth.labels if label != IGNORED] == code == forth.ids[-3:] and forth.item == 3
    said = [label for label in back.labels if label != IGNORED]
    assert backbone.tokenizer.decode(said[:-1]) == " A title" and said[-1] == backbone.eos and back.item is None
    assert [token for token in back.ids if token >= backbone.vocabulary] == code
