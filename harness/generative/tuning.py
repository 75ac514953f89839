"""The tuning loop that every stage of every generative recommender runs: optimise, log, keep, resume.

Owns the schedule, precision, clipping and what is kept for a resume. Which samples a step sees and what they cost is
the caller's business: it gives a loss for a step number, and derives everything random from that number, so that a
resumed stage sees what an undisturbed one sees.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from harness.generative.keeping import StageKeeper
from harness.protocol.context import RunContext
from harness.seeding import derive_seed

Precision = Literal["float32", "bfloat16"]
KEEP_SECONDS = 45.0  # between two checkpoints: what an interruption may cost


@dataclass(frozen=True)
class Group:
    """Parameters that share a peak learning rate and a weight decay."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Plan:
    """How a stage is tuned. The learning rate rises over the share `warmup` of the steps, then follows a half cosine
    down to the share `floor` of its peak (`floor=1`: constant). Gradients are clipped to the norm `clip`."""

    stage: str
    steps: int
    warmup: float = 0.05
    floor: float = 0.0
    clip: float = 1.0
    precision: Precision = "float32"
    accumulate: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: mean loss of its last steps, optimiser steps made, seconds in this process."""

    loss: float
    steps: int
    seconds: float


def rate(step: int, plan: Plan) -> float:
    """The share of the peak learning rate at `step` (from 0).

    >>> [round(rate(step, Plan("x", 11, warmup=0.1, floor=0.0)), 2) for step in (0, 1, 6, 10)]
    [1.0, 1.0, 0.5, 0.02]
    """
    warm = max(1, round(plan.warmup * plan.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(plan.steps - warm, 1)
    return plan.floor + (1 - plan.floor) * 0.5 * (1 + math.cos(math.pi * done))


def best_precision(device: str) -> Precision:
    """bfloat16 where the machine computes in it, else float32."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bfloat16" if any(getattr(torch.cpu, flag, bool)() for flag in flags) else "float32"


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Mixed precision for a forward pass: float32 weights, matrix products in `precision`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")


def tune(groups: Sequence[Group], loss: Callable[[int, int], torch.Tensor], plan: Plan, context: RunContext) -> Outcome:
    """Runs the stage, from where `context.checkpoint` says it stopped. `loss(step, part)` is the loss of one of the
    `accumulate` parts of a step. The parameters are changed in place. Adam after Loshchilov & Hutter (ICLR 2019)."""
    parameters = [parameter for group in groups for parameter in group.parameters]
    optimizer = torch.optim.AdamW(
        [{"params": list(g.parameters), "lr": g.learning_rate, "weight_decay": g.weight_decay} for g in groups],
        betas=(0.9, 0.98),
        fused=True,
    )
    keeper = StageKeeper(context.checkpoint, plan.stage, parameters, optimizer)
    step, losses = keeper.restore()
    begun, kept = time.monotonic(), time.monotonic()
    with context.stage(plan.stage, plan.steps) as bar:
        if step:
            bar.advance(step)
        while step < plan.steps:
            torch.manual_seed(derive_seed(context.seed, plan.stage, step))
            share = rate(step, plan)
            for group, setting in zip(optimizer.param_groups, groups, strict=True):
                group["lr"] = setting.learning_rate * share
            losses.append(_one_step(optimizer, parameters, loss, step, plan, context.device))
            step += 1
            del losses[:-50]
            mean = sum(losses) / len(losses)
            bar.advance(1, loss=mean)
            if step % 20 == 0 or step == plan.steps:
                seconds = round(time.monotonic() - begun, 1)
                peak = groups[0].learning_rate
                context.event(stage=plan.stage, step=step, loss=mean, learning_rate=peak * share, seconds=seconds)
            if step == plan.steps or time.monotonic() - kept > KEEP_SECONDS:
                keeper.keep(step, losses)
                kept = time.monotonic()
    return Outcome(sum(losses) / max(len(losses), 1), step, time.monotonic() - begun)


def _one_step(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    loss: Callable[[int, int], torch.Tensor],
    step: int,
    plan: Plan,
    device: str,
) -> float:
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for part in range(plan.accumulate):
        with autocast(device, plan.precision):
            value = loss(step, part) / plan.accumulate
        value.backward()
        total += float(value.detach())
    if not math.isfinite(total):
        raise FloatingPointError(
            f"the loss of stage {plan.stage} is {total} at step {step + 1}: lower the learning rate"
        )
    nn.utils.clip_grad_norm_(parameters, plan.clip)
    optimizer.step()
    return total
