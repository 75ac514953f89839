"""MiniOneRec's fine-tuning under the contract suite; its codes, and the share of text in its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from baselines.lcrec import TASKS, MiniOneRec, MiniOneRecConfig
from harness.data.dataset import Dataset
from harness.generative.tasks.batching import Tasks
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.item_texts import task_texts
from harness.generative.tasks.prompts import Prompts
from harness.protocol.recommender import Recommender
from harness.testing.contract import RecommenderContract
from tests import toys
from tests.generative import toy_models

SMOKE = MiniOneRecConfig.profiles["smoke"]


@pytest.mark.nightly
class TestMiniOneRec(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = MiniOneRec
    settings: ClassVar[dict[str, Any]] = SMOKE
    pattern_floor: ClassVar[float] = 0.7

    def toy(self) -> Dataset:
        """As long as LC-Rec's."""
        return toys.cycle(length=12)


def test_codes_are_of_residual_k_means(tmp_path: Path) -> None:
    data, context = toys.split().train, toys.context(tmp_path)
    index = MiniOneRec(MiniOneRecConfig.model_validate(SMOKE)).item_codes(data, context)
    assert index.table.sizes == (8,) * 3 and index.record()["kind"] == "rqkmeans"
    balanced = MiniOneRecConfig.model_validate({**SMOKE, "index": {"k": 8, "balanced": True}})
    counts = np.bincount(MiniOneRec(balanced).item_codes(data, context).table.digits[:, 0])
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_more_than_half_of_the_samples_have_text(profile: str, tmp_path: Path) -> None:
    """As in the released training data, where 36,259 next items stand beside as many with titles and 7,316 pairs."""
    config = MiniOneRecConfig.model_validate(MiniOneRecConfig.profiles[profile])
    assert {name: getattr(config.tasks, name) for name in TASKS} == TASKS and config.tuning.learning_rate == 3e-4
    data = toys.split(toys.cycle(users=48, length=12)).train
    table = toy_models.table(24, (6, 5, 4))
    assert data.text is not None
    texts = task_texts(data, tuple(text for text in data.text if text is not None), config.tasks)
    pools = InstructionDataset(Prompts(toy_models.backbone(tmp_path), table), texts, config.tasks, 1)
    targets = int((data.sequences.lengths - 1).sum())
    stage = config.tuning.model_copy(update={"targets": 8, "rows": 8, "epochs": 60.0, "max_steps": None})
    batches = Tasks.every(data.sequences, pools, stage, config.tasks, (1, "alignment")).batches
    samples = [batches.task(step) for step in range(batches.steps)]
    share = {task: samples.count(task) / len(samples) for task in set(samples)}
    assert share["fusionseqrec"] == pytest.approx(share["seqrec"], rel=0.15)
    assert set(share) == {"seqrec", "fusionseqrec", "item2index", "index2item"}
    pairs = 24 * 2 / (2 * targets + 24 * 2)
    assert 1 - share["seqrec"] == pytest.approx(0.5 + pairs / 2, abs=0.06) and share["seqrec"] < 0.5
