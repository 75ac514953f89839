"""EAGER-LLM under the contract suite, and the switches of its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from eager.config import EagerConfig
from eager.method import EagerLLM
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.generative.tokenizers.base import INDEX_FILE
from harness.generative.training import stages
from harness.protocol.recommender import Recommender
from harness.protocol.split import EvaluationSplit
from harness.testing.contract import RecommenderContract
from tests import toys

SMOKE = EagerConfig.profiles["smoke"]


class TestEagerLLM(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = EagerLLM
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"tuning": {"max_steps": 4}, "annealing": {"max_steps": 4}}
    short: ClassVar[dict[str, Any]] = {
        "behavior": {"epochs": 4}, "tuning": {"max_steps": 40}, "annealing": {"max_steps": 6},
        "comprehension": {"items": 2},
    }  # fmt: skip
    pattern_floor: ClassVar[float] = 0.9
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 4  # in the middle of the first stage

    def toy(self) -> Dataset:
        """Longer than the default, so that training sees histories about as long as the test's."""
        return toys.cycle(length=12)


def changed(**sections: dict[str, Any]) -> EagerConfig:
    """The smoke profile, shorter, with some settings changed."""
    short = {"tuning": {**SMOKE["tuning"], "max_steps": 4}, "annealing": {**SMOKE["annealing"], "max_steps": 4}}
    base: dict[str, Any] = {**SMOKE, **short}
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
    return EagerConfig.model_validate(merged)


def fitted(config: EagerConfig, folder: Path, seed: int = 1, fold: EvaluationSplit | None = None) -> EagerLLM:
    return toys.fitted(EagerLLM(config), folder, fold=fold, seed=seed)


def rows(model: EagerLLM) -> torch.Tensor:
    return model.model.code_in.detach()


def test_annealing_trains_an_adapter_and_the_codes_and_merges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: dict[str, list[int]] = {}
    real = stages.train

    def watching(value: Any, loss: Any, plan: Any, *rest: Any) -> Any:
        groups[plan.stage] = [sum(parameter.numel() for parameter in group.parameters) for group in value]
        return real(value, loss, plan, *rest)

    monkeypatch.setattr(stages, "train", watching)
    model = fitted(changed(), tmp_path)
    names = [name for name, _ in model.model.named_parameters()]
    assert not any("lora" in name for name in names), "the adapter is merged"
    assert groups["annealing"][0] < groups["alignment"][0], "the adapter is smaller than the backbone"
    assert groups["annealing"][1] == groups["alignment"][1] == 2 * rows(model).numel()


def test_the_vocabulary_of_the_backbone_is_never_moved(tmp_path: Path) -> None:
    from harness.generative.models.backbone import TINY, load_backbone

    model = fitted(changed(), tmp_path)
    previous = load_backbone(TINY, None, "pretrained", toys.context(tmp_path)).body.get_input_embeddings().weight
    assert torch.equal(model.model.embedding.weight, previous)
    assert model.size().trainable_parameters == model.size().parameters - previous.numel()


def test_the_index_file_stays_with_the_run(tmp_path: Path) -> None:
    model = fitted(changed(), tmp_path)
    index = json.loads((tmp_path / "run" / INDEX_FILE).read_text())
    assert list(index) == [f"i{item}" for item in range(24)]
    assert len({tuple(code) for code in index.values()}) == 24 and len(index["i0"]) == 4
    assert model.record()["index"]["collision_rate"] == 0


def test_missing_text_is_one_clear_line(tmp_path: Path) -> None:
    data = toys.dataset(list(toys.cycle().sequences), 24, None)
    with pytest.raises(InputError, match="no item text"):
        EagerLLM(changed()).fit(toys.split(data).train, toys.context(tmp_path))


def test_too_few_items_for_k_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.k"):
        fitted(changed(index={"k": 40}), tmp_path)


@pytest.mark.parametrize("name", ["no-such-folder-anywhere", "bert"])
def test_a_backbone_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="backbone"):
        fitted(changed(backbone={"name": str(tmp_path / name)}), tmp_path)
