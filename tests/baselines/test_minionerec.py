"""MiniOneRec under the contract suite; its codes, the share of text in its samples, and GRPO as a stage on demand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from baselines.lcrec import TASKS, MiniOneRec, MiniOneRecConfig
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.experiments.grid import read_grid
from harness.generative.tasks.batching import instruction_batches
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.item_texts import task_texts
from harness.generative.tasks.prompts import Prompts
from harness.protocol.context import ProcessGroup
from harness.protocol.recommender import Recommender
from harness.registry import model_entry
from harness.testing.contract import RecommenderContract
from tests import toys
from tests.generative import toy_models

SMOKE = MiniOneRecConfig.profiles["smoke"]


@pytest.mark.nightly
class TestMiniOneRec(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = MiniOneRec
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"tuning": {"max_steps": 4}}
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
    batches = instruction_batches(data.sequences, pools, stage, config.tasks, (1, "alignment"))
    samples = [batches.task(step) for step in range(batches.steps)]
    share = {task: samples.count(task) / len(samples) for task in set(samples)}
    assert share["fusionseqrec"] == pytest.approx(share["seqrec"], rel=0.15)
    assert set(share) == {"seqrec", "fusionseqrec", "item2index", "index2item"}
    pairs = 24 * 2 / (2 * targets + 24 * 2)
    assert 1 - share["seqrec"] == pytest.approx(0.5 + pairs / 2, abs=0.06) and share["seqrec"] < 0.5


def short(**grpo: Any) -> MiniOneRec:
    """Three steps of fine-tuning, and GRPO as configured."""
    sections = {"tuning": {**SMOKE["tuning"], "max_steps": 3}, "comprehension": {"items": 0}, "grpo": grpo}
    return MiniOneRec(MiniOneRecConfig.model_validate({**SMOKE, **sections}))


def test_grpo_is_a_stage_that_is_off_by_default(tmp_path: Path) -> None:
    split = toys.split()
    rates = {"learning_rate": 1e-2, "code_rate": 1e-2}
    off, on = short(**SMOKE["grpo"]), short(enabled=True, max_steps=2, targets=8, group=4, **rates)
    assert MiniOneRecConfig.model_validate_json(off.config.model_dump_json()) == off.config
    assert "grpo" not in off.config.model_dump() and on.config.model_dump()["grpo"]["beta"] == 1e-3
    for name, model in (("off", off), ("on", on)):
        toys.fitted(model, tmp_path / name, split.train, split.valid)
    assert list(off.record()["stages"]) == ["alignment"]
    report = on.record()["stages"]["grpo"]
    assert [step for step, _ in report["looks"]] == [0, 1, 2] and report["valid"] == max(v for _, v in report["looks"])
    assert {"zero_advantage_share", "reward", "kl"} <= report.keys() and report["groups"] == 16
    assert torch.equal(off.model.code_in, on.model.code_in) == (report["chosen_step"] == 0)


def test_grpo_in_several_processes_and_by_another_normalisation_are_refused(tmp_path: Path) -> None:
    class Local(ProcessGroup):
        def broadcast_object(self, value: Any = None) -> Any:
            return value

    model, data = short(enabled=True), toys.split().train
    with pytest.raises(InputError, match=r"minionerec\.grpo: the stage runs in one process, not in 2") as error:
        model.fit(data, replace(toys.context(tmp_path), world=Local(size=2)))
    assert error.value.exit_code == 2 and "\n" not in str(error.value)
    children = {"tuning": {"normalise": "children"}, "decode": {"normalise": "children"}}
    with pytest.raises(ValueError, match=r"grpo\.normalise=level and decode\.normalise=children"):
        MiniOneRecConfig.model_validate({**children, "grpo": {"enabled": True}})
    assert MiniOneRecConfig.model_validate(children).stages().keys() == {"tuning"}


def test_the_grid_compares_grpo_with_fine_tuning_alone() -> None:
    grid = read_grid("grpo", model_entry("minionerec"))
    assert [cell.name for cell in grid.cells][:2] == ["SFT", "GRPO"] and grid.cells[0].changes == ()
    for cell in grid.cells[1:]:
        changes = dict(cell.changes)
        assert changes.pop("minionerec.grpo.enabled") is True
        fields = {name.removeprefix("minionerec.grpo."): value for name, value in changes.items()}
        MiniOneRecConfig.model_validate({"grpo": {"enabled": True, **fields}})
