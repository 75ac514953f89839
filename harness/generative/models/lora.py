"""Low-rank adapters (LoRA, Hu et al., ICLR 2022) on a backbone, by peft: attached in place, merged, saved and loaded.

Every linear projection of attention and MLP has an adapter. Layers are selected by module type (`nn.Linear`, or the
`Conv1D` of GPT-2) and not by name, which works for all families: W' = W + (alpha / rank) · B A, with A (rank, in)
random and B (out, rank) initially zero.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    from peft import LoraConfig

PREFIX = "base_model.model."  # of parameter names in files of `PeftModel.from_pretrained`
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def attach(body: nn.Module, *, rank: int, alpha: float, dropout: float, seed: int) -> list[nn.Parameter]:
    """Attaches a new adapter to `body`, with `dropout` on its input, and freezes all other parameters. Returns the
    adapter's parameters, float32."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}  # peft accepts any alpha
    return _inject(body, LoraConfig(**settings, target_modules="all-linear", bias="none"))


def merge(body: nn.Module) -> None:
    """Adds the adapter's product to the base weights and removes the adapter; does nothing without one."""
    for name, layer in list(_layers(body)):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(body.get_submodule(parent), child, layer.get_base_layer())


def attached(body: nn.Module) -> bool:
    """Whether `body` has an adapter."""
    return any(True for _ in _layers(body))


def plain_name(name: str) -> str | None:
    """A parameter's name as it is without the adapter; None for the adapter's own parameters.

    >>> plain_name("layers.0.mlp.up_proj.base_layer.weight"), plain_name("layers.0.mlp.up_proj.lora_A.default.weight")
    ('layers.0.mlp.up_proj.weight', None)
    """
    return None if ".lora_" in name else name.replace(".base_layer.", ".")


def save_adapter(body: nn.Module, folder: Path, base: str | None = None) -> None:
    """Writes the adapter in peft's format for the causal LM `base` whose transformer is `body`:
    `PeftModel.from_pretrained` attaches it to the model of `AutoModelForCausalLM`. It fits the base weights of `body`,
    which equal those of `base` only if no other weights were trained."""
    from peft import TaskType, get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    entries = get_peft_model_state_dict(body, save_embedding_layers=False)  # "auto" would access the hub
    weights = {f"{PREFIX}{_within(body)}{name}": value.detach().cpu().contiguous() for name, value in entries.items()}
    save_file(weights, folder / WEIGHTS)
    config = copy.copy(cast("LoraConfig", cast(Any, body).peft_config["default"]))
    config.base_model_name_or_path, config.task_type = base, TaskType.CAUSAL_LM
    config.target_modules = sorted(config.target_modules or ())  # a set: sorted for a reproducible file
    config.save_pretrained(str(folder))


def load_adapter(body: nn.Module, folder: Path) -> None:
    """Attaches a saved adapter to `body`. Raises `ValueError` if it does not fit."""
    from peft import LoraConfig, set_peft_model_state_dict

    read = load_file(folder / WEIGHTS).items()
    weights = {name.removeprefix(PREFIX).removeprefix(_within(body)): value for name, value in read}
    try:
        _inject(body, cast(LoraConfig, LoraConfig.from_pretrained(str(folder))))
        report = set_peft_model_state_dict(body, weights)
    except (ValueError, RuntimeError) as error:  # unknown modules, other sizes
        raise ValueError(f"{folder} has the adapter of another model: {error}") from error
    if report.unexpected_keys or any(".lora_" in name for name in report.missing_keys):
        raise ValueError(f"{folder} has the adapter of another model")


def _within(body: nn.Module) -> str:
    """Prefix of the backbone's parameter names in its causal LM: `model.`, in GPT-2 `transformer.`."""
    return f"{prefix}." if (prefix := getattr(body, "base_model_prefix", "")) else ""


def _inject(body: nn.Module, config: LoraConfig) -> list[nn.Parameter]:
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        warnings.simplefilter("ignore", UserWarning)  # peft corrects fan_in_fan_out for GPT-2 itself
        inject_adapter_in_model(config, body)
    parameters = [parameter for name, parameter in body.named_parameters() if ".lora_" in name]
    for parameter in parameters:
        parameter.data = parameter.data.float()  # small updates would be lost in bfloat16
    return parameters


def _layers(body: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in body.named_modules() if isinstance(module, LoraLayer))
