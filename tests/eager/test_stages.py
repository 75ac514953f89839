"""The stages' switches: what is trained, by what, for how long; what an adapter that is kept apart amounts to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eager.config import EagerConfig
from eager.method import EagerLLM
from harness.errors import InputError
from harness.generative import config as generative_config
from harness.generative.exporting import ADAPTER
from harness.generative.models.lora import attached
from harness.generative.models.packing import can_pack
from harness.generative.sequence_models import LanguageModel
from harness.generative.training import stages
from harness.generative.training.trainer import train
from tests import toys
from tests.eager.test_method import changed, fitted, rows


def short(**sections: dict[str, Any]) -> EagerConfig:
    """The short smoke model in float32, nothing measured on the way."""
    backbone = {"precision": "float32", **sections.get("backbone", {})}
    return changed(**{"comprehension": {"items": 0}, **sections, "backbone": backbone})


def language_model(config: EagerConfig) -> LanguageModel:
    return LanguageModel(config.backbone, config.tasks.text_tokens)


def body(model: EagerLLM) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.method.model.parameters().items() if name.startswith("body.")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> EagerLLM:
    return fitted(short(), tmp_path_factory.mktemp("plain"))


def test_an_adapter_kept_apart_ranks_as_the_merged_one_and_is_saved_on_its_own(plain: EagerLLM, tmp_path: Path) -> None:
    apart = fitted(short(annealing={"merge": False}), tmp_path)
    assert attached(apart.model.body) and not attached(plain.model.body)
    assert torch.equal(rows(plain), rows(apart)), "merging comes after training"
    requests = toys.split().test.requests
    context = toys.context(tmp_path)
    value, merged = apart.recommend(requests, 5, context), plain.recommend(requests, 5, context)
    np.testing.assert_allclose(value.scores, merged.scores, rtol=1e-4, atol=1e-4)

    apart.save(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved" / ADAPTER).iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json"}
    assert body(apart).keys() == body(plain).keys()
    assert any(not torch.equal(one, body(plain)[name]) for name, one in body(apart).items()), "the base is unmerged"
    repeated = EagerLLM(apart.config)
    repeated.load(tmp_path / "saved", toys.split().train, context)
    assert attached(repeated.model.body)
    np.testing.assert_array_equal(repeated.recommend(requests, 5, context).items, value.items)
    assert repeated.size() == apart.size()


def watched(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[int, float]]]:
    """(numbers, peak rate) of each parameter group of each stage."""
    groups: dict[str, list[tuple[int, float]]] = {}

    def watching(value: Any, loss: Any, plan: Any, *rest: Any) -> Any:
        groups[plan.stage] = [(sum(p.numel() for p in g.parameters), g.learning_rate) for g in value]
        return train(value, loss, plan, *rest)

    monkeypatch.setattr(stages, "train", watching)
    return groups


def test_each_stage_trains_an_adapter_or_all_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = watched(monkeypatch)
    model = fitted(short(tuning={"adapter": True, "rank": 3}, annealing={"adapter": False}), tmp_path)
    assert not attached(model.model.body)
    complete = sum(p.numel() for p in model.model.body.parameters()) - model.model.embedding.weight.numel()
    linear = [layer for layer in model.model.body.modules() if isinstance(layer, torch.nn.Linear)]
    assert groups["annealing"][0][0] == complete
    assert groups["alignment"][0][0] == 3 * sum(layer.in_features + layer.out_features for layer in linear)
    codes = 2 * rows(model).numel()
    assert groups["alignment"][1][0] == groups["annealing"][1][0] == codes, "code rows and head in both"
    messages = model.record()["stages"]
    assert messages["annealing"]["trainable_parameters"] == complete + codes + 1 == model.size().trainable_parameters
    assert messages["alignment"]["trainable_parameters"] == groups["alignment"][0][0] + codes + 1


def test_a_trained_vocabulary_moves_and_is_saved(tmp_path: Path) -> None:
    model = fitted(short(backbone={"vocabulary": "trained"}), tmp_path)
    previous = language_model(model.config).load_backbone(toys.context(tmp_path)).body.get_input_embeddings().weight
    assert not torch.equal(model.model.embedding.weight, previous)
    assert model.model.text_head is model.model.embedding.weight, "a tied head stays tied"
    model.save(tmp_path / "saved")
    repeated = EagerLLM(model.config)
    repeated.load(tmp_path / "saved", toys.split().train, toys.context(tmp_path))
    assert torch.equal(repeated.model.embedding.weight, model.model.embedding.weight)
    assert torch.equal(repeated.model.text_head, model.model.text_head)


@pytest.mark.parametrize(("setting", "most"), [(True, 0), ("auto", 24)])
def test_tied_codes_are_one_table_that_is_trained_and_saved_once(
    setting: bool | str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` ties them for a catalogue of at most `TIED_ITEMS`."""
    monkeypatch.setattr(generative_config, "TIED_ITEMS", most)
    model = fitted(short(backbone={"tied_codes": setting}), tmp_path)
    network = model.model
    assert network.code_out is network.code_in
    separate = fitted(short(), tmp_path / "separate")
    trained = [each.record()["stages"]["alignment"]["trainable_parameters"] for each in (model, separate)]
    assert trained[1] - trained[0] == rows(model).numel()
    model.save(tmp_path / "saved")
    repeated = EagerLLM(model.config)
    repeated.load(tmp_path / "saved", toys.split().train, toys.context(tmp_path))
    assert repeated.model.code_out is repeated.model.code_in
    assert torch.equal(repeated.model.code_in, network.code_in)
    monkeypatch.setattr(generative_config, "TIED_ITEMS", 23)
    assert model.config.backbone.ties_codes(24) == (setting is True)


def test_recomputing_activations_costs_a_second_forward_and_changes_no_gradient(tmp_path: Path) -> None:
    from tests.generative.training.test_losses import losses

    computed = losses(tmp_path)
    assert can_pack(computed.model)
    computed.model.train()
    calls: list[int] = []
    computed.model.body.layers[0].mlp.register_forward_pre_hook(lambda *observed: calls.append(1))  # type: ignore[union-attr]
    windows, samples = [np.array([3, 5, 7, 9]), np.array([1, 2])], np.empty(0, np.int64)
    gradients = []
    for on in (False, True):
        calls.clear()
        with stages.gradient_checkpointing(computed.model.body, on):
            computed.model.zero_grad()
            computed.windows(windows, 0, samples).value().backward()
        gradients.append([p.grad.clone() for p in computed.model.parameters() if p.grad is not None])
        assert len(calls) == 2, "the lead and the windows; or the windows twice"
        assert not any(getattr(part, "gradient_checkpointing", False) for part in computed.model.body.modules())
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_checkpointing_switch_reaches_both_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[bool] = []

    def watching(value: Any, loss: Any, plan: Any, *rest: Any) -> Any:
        blocks = model_of["body"].layers
        observed.append(all(block.gradient_checkpointing for block in blocks))
        return train(value, loss, plan, *rest)

    model_of: dict[str, Any] = {}
    real = stages._groups

    def remembering(name: str, config: Any, tuned: Any, seed: int) -> Any:
        model_of["body"] = tuned.model.body
        return real(name, config, tuned, seed)

    monkeypatch.setattr(stages, "_groups", remembering)
    monkeypatch.setattr(stages, "train", watching)
    fitted(short(backbone={"checkpointing": True}), tmp_path / "on")
    fitted(short(), tmp_path / "off")
    assert observed == [True, True, False, False]


def test_a_tokenizer_that_splits_codes_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short()
    backbone = language_model(config).load_backbone(toys.context(tmp_path))
    backbone.tokenizer.add_tokens(["<c_10>"])
    monkeypatch.setattr(LanguageModel, "load_backbone", lambda self, context: backbone)
    with pytest.raises(InputError, match=r"already has 1 of the code tokens \(<c_10>\)"):
        EagerLLM(config).fit(toys.split().train, toys.context(tmp_path))
    assert not (tmp_path / "cache" / "vectors").exists()


def test_width_is_for_a_drawn_llama_alone() -> None:
    with pytest.raises(ValueError, match=r"backbone\.width applies to backbone\.name=random-llama"):
        short(backbone={"width": 64})
    assert short(backbone={"name": "random-llama", "width": 64}).backbone.width == 64
