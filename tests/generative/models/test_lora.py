"""The low-rank adapter: where it sits in each family, that merging changes nothing, that it is a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from harness.generative.models.lora import (
    WEIGHTS,
    attach,
    attached,
    load_adapter,
    merge,
    plain_name,
    save_adapter,
)
from tests.generative import toy_models

SHAPE: dict[str, Any] = {"rank": 3, "alpha": 6, "dropout": 0.0}
LLAMA = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
PROJECTIONS = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "mistral": LLAMA,
    "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
}


def states(body: nn.Module) -> torch.Tensor:
    ids = torch.randint(1, 250, (3, 9), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return body.eval()(ids).last_hidden_state


def moved(body: nn.Module, seed: int = 5) -> list[nn.Parameter]:
    """An adapter that does something: both of its matrices drawn."""
    local = attach(body, **SHAPE, seed=seed)
    with torch.no_grad():
        for parameter in local:
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(seed))
    return local


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_it_sits_on_every_projection_of_attention_and_mlp(kind: str, tmp_path: Path) -> None:
    body = toy_models.backbone(tmp_path, kind).body
    previous = states(body)
    local = attach(body, **SHAPE, seed=1)
    names = {name.partition(".lora_")[0] for name, _ in body.named_parameters() if ".lora_" in name}
    blocks = {name.split(".")[1] for name in names}
    assert blocks == {"0", "1"}
    depth = 2 if kind == "gpt2" else 1
    assert {".".join(name.split(".")[-depth:]) for name in names} == PROJECTIONS[kind]
    assert len(local) == 2 * 2 * len(PROJECTIONS[kind]) and all(p.requires_grad for p in local)
    assert {id(p) for p in body.parameters() if p.requires_grad} == {id(p) for p in local}
    assert torch.equal(states(body), previous), "an adapter begins as nothing"


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_merging_keeps_the_states_and_takes_the_adapter_off(kind: str, tmp_path: Path) -> None:
    body = toy_models.backbone(tmp_path, kind).body
    names, previous = {name for name, _ in body.named_parameters()}, states(body)
    moved(body)
    with_it = states(body)
    assert not torch.allclose(with_it, previous, atol=1e-2)
    merge(body)
    torch.testing.assert_close(states(body), with_it, rtol=1e-4, atol=1e-5)
    assert not attached(body) and {name for name, _ in body.named_parameters()} == names


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_it_is_saved_alone_and_read_by_peft_too(kind: str, tmp_path: Path) -> None:
    body = toy_models.backbone(tmp_path, kind).body
    plain = {name: value.clone() for name, value in body.state_dict().items()}
    moved(body)
    expected = states(body)
    save_adapter(body, tmp_path / "adapter", "a/name")
    weights = tmp_path / "adapter" / WEIGHTS
    assert {path.suffix for path in (tmp_path / "adapter").iterdir()} == {".json", ".safetensors"}
    named = {plain_name(name) for name, _ in body.named_parameters()}
    assert named - {None} == {name for name, _ in toy_models.backbone(tmp_path, kind).body.named_parameters()}

    repeated: Any = toy_models.backbone(tmp_path, kind).body
    causal = AutoModelForCausalLM.from_config(repeated.config)
    for other in (repeated, causal.base_model):
        other.load_state_dict(plain)
    load_adapter(repeated, tmp_path / "adapter")
    assert torch.equal(states(repeated), expected)
    wrapped = PeftModel.from_pretrained(causal, str(tmp_path / "adapter"))
    assert wrapped.peft_config["default"].task_type == "CAUSAL_LM"
    torch.testing.assert_close(states(wrapped.get_base_model().base_model), expected)
    assert wrapped.peft_config["default"].base_model_name_or_path == "a/name"

    # as the weights were named before: those of the body alone
    old = {name.replace(f".{repeated.base_model_prefix}.", ".", 1): value for name, value in load_file(weights).items()}
    save_file(old, weights)
    repeated = toy_models.backbone(tmp_path, kind).body
    repeated.load_state_dict(plain)
    load_adapter(repeated, tmp_path / "adapter")
    assert torch.equal(states(repeated), expected)


def test_another_models_adapter_is_refused(tmp_path: Path) -> None:
    body = toy_models.backbone(tmp_path, "gpt2").body
    moved(body)
    save_adapter(body, tmp_path / "adapter")
    with pytest.raises(ValueError, match="another model"):
        load_adapter(toy_models.backbone(tmp_path).body, tmp_path / "adapter")


def test_the_seed_and_the_rank_are_read(tmp_path: Path) -> None:
    one, other = (attach(toy_models.backbone(tmp_path).body, **SHAPE, seed=seed) for seed in (1, 2))
    assert not torch.equal(one[0], other[0])
    assert one[0].shape[0] == 3 and one[0].dtype == torch.float32


def test_an_adapter_on_bfloat16_weights_is_held_in_float32(tmp_path: Path) -> None:
    body = toy_models.backbone(tmp_path).body.to(torch.bfloat16)
    assert {parameter.dtype for parameter in attach(body, **SHAPE, seed=1)} == {torch.float32}
    assert states(body).dtype == torch.bfloat16
