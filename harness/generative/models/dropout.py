"""Dropout: a fast mask on the CPU, and dropout on the residual branches of any transformer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "feed_forward", "ffn")
STEPS = 1 << 16  # resolution of a probability: 16 random bits an element


def dropout(values: torch.Tensor, probability: float, training: bool = True) -> torch.Tensor:
    """`values` with elements zeroed at random and the others scaled by 1 / (1 - probability), as torch's dropout.

    On the CPU the mask takes 16 random bits an element, a third of the time of `bernoulli_`.
    """
    if not training or probability == 0:
        return values
    if values.device.type != "cpu":
        return functional.dropout(values, probability, training)
    bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64)
    bits.random_(-(1 << 63), (1 << 63) - 1)
    samples = bits.view(torch.int16)[: values.numel()].view(values.shape)
    cut = round(probability * STEPS)
    mask = (samples >= cut - STEPS // 2).to(values.dtype).mul_(STEPS / (STEPS - cut))
    return values * mask


def add_residual_dropout(body: nn.Module, probability: float) -> int:
    """Adds dropout to the output of each attention and MLP module of `body`, in training mode only.

    Modules are recognised by their names in transformers. Returns their number; raises `ValueError` if there are none.
    """
    branches = [module for name, module in body.named_modules() if name.rpartition(".")[2] in (*ATTENTION, *MLP)]
    if not branches:
        raise ValueError(f"{type(body).__name__} has no attention or MLP modules with a known name")

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (dropout(output[0], probability, module.training), *output[1:])
        return dropout(output, probability, module.training)

    for branch in branches:
        branch.register_forward_hook(drop)
    return len(branches)
