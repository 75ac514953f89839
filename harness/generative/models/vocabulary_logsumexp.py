"""Exact log Σ exp over a vocabulary for many states, without all logits in memory at once.

The gradient with respect to a state is the mean of the head's rows under the softmax. With a frozen head it is computed
in the forward pass from the same logits, so that the backward pass recomputes nothing and stores one vector a state, as
in fused losses (Hsu et al., *Liger Kernel*, 2024). A trained head, or one with a bias or a soft cap, recomputes the
logits in the backward pass.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint

from harness.generative.models.heads import PLAIN, Head

CHUNK = 256  # states whose logits are in memory together: 50 MB of float32 for 49,152 tokens


def text_logsumexp(states: torch.Tensor, head: torch.Tensor, shape: Head = PLAIN) -> torch.Tensor:
    """log Σ_v exp(logit_v), float32 (*any); `states` (*any, width), `head` (vocabulary, width), `shape`: the head's
    other operations. Products have autocast's precision, else the dtype of the states."""
    kind, device = states.dtype, states.device.type
    if torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
    flat = states.reshape(-1, states.shape[-1])
    if shape.linear and not shape.plain:
        flat, shape = flat * shape.scale, PLAIN
    if not shape.linear or (head.requires_grad and torch.is_grad_enabled()):
        parts = [checkpoint(_summed, part, head, shape, use_reentrant=False) for part in flat.split(CHUNK)]
        summed = torch.cat(cast(list[torch.Tensor], parts))
    else:
        summed = _Normaliser.apply(flat, head.to(kind))
    return summed.reshape(states.shape[:-1])


def _summed(states: torch.Tensor, head: torch.Tensor, shape: Head) -> torch.Tensor:
    return shape.logits(states, head).logsumexp(dim=-1)


class _Normaliser(torch.autograd.Function):
    """Forward and gradient of one flat batch of states."""

    @staticmethod
    def forward(context: Any, states: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        expected = context.needs_input_grad[0]
        sums, means = [], []
        with torch.autocast(states.device.type, enabled=False):
            for part in states.to(head.dtype).split(CHUNK):
                logits = (part @ head.T).float()
                top = logits.amax(dim=-1, keepdim=True)
                logits.sub_(top).exp_()
                total = logits.sum(dim=-1, keepdim=True)
                sums.append((total.log() + top)[:, 0])
                if expected:
                    means.append(logits.to(head.dtype) @ head / total)
        if expected:
            context.save_for_backward(torch.cat(means).to(states.dtype))
        return torch.cat(sums) if sums else states.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(context: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (means,) = context.saved_tensors
        return grad[:, None].to(means.dtype) * means, None
