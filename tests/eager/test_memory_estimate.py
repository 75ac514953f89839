"""Profile `paper` on the meta device, and the estimate of what a run needs: counted against real models and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eager.config import EagerConfig
from eager.memory_estimate import GIB, estimate, sizes_of
from harness.cli.app import app
from harness.generative.models.backbone import blank_backbone
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.runs.devices import resolve_device
from tests import toys
from tests.eager.test_method import changed, fitted

LORA_7B = 32 * 8 * (4 * (4096 + 4096) + 3 * (4096 + 11008))


def paper() -> EagerConfig:
    model = resolve(model_entry("eager-llm"), "paper", ConfigFile(), ()).model
    assert isinstance(model, EagerConfig)
    return model


def test_the_published_settings_are_the_profile() -> None:
    config = paper()
    first, second = config.tuning, config.annealing
    assert (first.epochs, first.learning_rate, first.warmup, first.floor, first.targets) == (3, 5e-5, 0.01, 0.0, 128)
    assert (second.epochs, second.learning_rate, second.targets) == (1, 5e-5, 128) and not first.adapter
    assert (second.adapter, second.rank, second.alpha, second.dropout) == (True, 8, 32, 0.05)
    assert (config.index.k, config.index.height, config.index.sources) == (256, 2, ("semantic", "behavior"))
    assert (config.behavior.encoder, config.behavior.dim) == ("din", 1024) and config.decode.beams == 20
    assert (config.contrast.negatives, config.contrast.semantic, config.contrast.temperature) == (2048, 0.1, 0.1)
    assert config.contrast.mode == "clean" and config.leaks() == ()
    assert config.tasks.caps.fusionseqrec == 100_000 and len(config.tasks.weights()) == 6


def test_the_paper_fits_llama_7b_on_the_meta_device() -> None:
    config, blank = paper(), blank_backbone("huggyllama/llama-7b", None)
    assert {p.device.type for p in blank.parameters()} == {"meta"}
    sizes = sizes_of(config, None)
    assert sizes.backbone == sum(p.numel() for p in blank.parameters()) == 6_738_415_616
    assert sizes.codes == 2 * 1024 * 4096 + 1 and sizes.vocabulary == 2 * 32_000 * 4096
    assert sizes.adapter(config, config.annealing) == LORA_7B == 19_988_480
    first, second = estimate(config, None, "cpu")["stages"]
    assert first["trained"] == sizes.backbone + sizes.codes
    assert second["trained"] == LORA_7B + sizes.codes + sizes.vocabulary
    weights = 4 * (sizes.backbone + sizes.codes) / GIB
    assert first["weights_gib"] == pytest.approx(weights) and first["moments_gib"] == pytest.approx(2 * weights)
    assert first["total_gib"] > 100 > second["total_gib"] and first["hours"] is None


@pytest.mark.nightly
@pytest.mark.parametrize("section", [{}, {"tuning": {"adapter": True}}, {"backbone": {"vocabulary": "trained"}}])
def test_numbers_are_those_of_the_model_that_is_fitted(section: dict[str, Any], tmp_path: Path) -> None:
    config = changed(**{"comprehension": {"items": 0}, **section})
    model, messages = fitted(config, tmp_path), estimate(config, toys.split().train, "cpu")
    assert messages["parameters"] == model.size().parameters
    stages = model.record()["stages"]
    assert [stage["trained"] for stage in messages["stages"]] == [
        stages[name]["trainable_parameters"] for name in ("alignment", "annealing")
    ]


def test_what_costs_more_is_told_to_cost_more() -> None:
    data = toys.split().train

    def first_stage(**sections: dict[str, Any]) -> dict[str, Any]:
        return estimate(changed(**sections), data, "cpu")["stages"][0]

    plain = first_stage()
    assert plain["tokens"] > 0 and plain["hours"] > 0
    assert first_stage(tuning={"max_steps": 8})["tokens"] == pytest.approx(2 * plain["tokens"])
    assert first_stage(backbone={"checkpointing": True})["activations_gib"] < plain["activations_gib"]
    assert first_stage(backbone={"storage": "bfloat16"})["moments_gib"] == pytest.approx(plain["moments_gib"] / 2)
    assert first_stage(tuning={"adapter": True})["gradients_gib"] < plain["gradients_gib"]


@pytest.mark.nightly
def test_doctor_prints_the_estimate_and_refuses_what_it_does_not_know() -> None:
    result = CliRunner().invoke(app, ["doctor", "--profile", "paper", "--json"])
    needed = json.loads(result.stdout)["estimate"]
    assert needed["backbone"] == "huggyllama/llama-7b" and needed["flops_per_second"] > 1e8
    output = CliRunner().invoke(app, ["doctor", "--profile", "paper"])
    assert "hours at least" in output.stdout and "6,747 million" in output.stdout
    assert "estimate" not in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)


def test_the_paper_asks_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runs.devices._present", lambda name: True)
    assert (resolve_device(None, "paper"), resolve_device(None, "smoke")) == ("cuda", "cpu")
