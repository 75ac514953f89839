"""The tuning loop that every stage of every generative recommender runs: optimise, log, keep, resume.

Owns the schedule, precision, clipping and what is kept for a resume. Which samples a step sees and what they cost is
the caller's business: it gives a loss for a step number, and derives everything random from that number, so that a
resumed stage sees what an undisturbed one sees.

How the C library's allocator treats large arrays: kept while training runs, given back to the system now and then.

By default glibc maps every large array anew and unmaps it when it is freed, so that each operation of a step touches
fresh pages: 4,700 page faults a step of a small model, 131 with `keep_freed_memory` (`docs/log.md`).

Training over steps of many shapes leaves holes that glibc keeps: a run with all layers of SmolLM2 grew from 11 to 19 GB
in an hour on the CPU and was killed for it (`docs/log.md`).
"""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from harness.core.seeding import derive_seed
from harness.core.timer import CheckpointTimer
from harness.errors import InputError
from harness.generative.models.fsdp import split_by_sharding
from harness.generative.models.precision import Precision, autocast
from harness.generative.training.checkpoint import Checkpointer
from harness.generative.training.distributed import GradientSynchronizer
from harness.generative.training.early_stopping import EarlyStopping
from harness.generative.training.step_cost import Cost, together
from harness.protocol.context import RunContext

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


ARRAY = 1 << 30  # bytes up to which an array is taken from the heap


def keep_freed_memory() -> None:
    """Lets this process reuse the memory of freed arrays instead of returning each to the system at once; `trim` still
    returns it. Does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(M_MMAP_THRESHOLD, ARRAY)
            library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def release_free_memory() -> None:
    """Returns free pages of the heap; does nothing where the C library has no such call."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


Optimiser = Literal["adamw", "adam", "adafactor"]


Schedule = Literal["cosine", "inverse_sqrt"]


Loss = Callable[[int, int], Cost | torch.Tensor]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a peak learning rate and a weight decay."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """How a stage is tuned. The learning rate rises over the share `warmup` of the stage (or over `warmup_steps`), then
    follows a half cosine down to the share `floor` of its peak (`floor=1`: constant), or with `inverse_sqrt` falls as
    1 / √step. Gradients are clipped to the norm `clip`. `beta2` is Adam's; `adam` adds the decay to the gradient.

    With `max_seconds` the stage also ends when it has computed for so long, all sessions together, and its schedule
    follows whichever of steps and seconds is further on, so that models of any size get equal time and a whole
    schedule. How many steps that makes depends on the machine: such a stage resumes, but not to the same digits.
    """

    stage: str
    steps: int
    warmup: float = 0.05
    floor: float = 0.0
    clip: float = 1.0
    precision: Precision = "float32"
    accumulate: int = 1
    beta2: float = 0.98
    max_seconds: float | None = None
    warmup_steps: int | None = None
    schedule: Schedule = "cosine"
    optimiser: Optimiser = "adamw"


@dataclass(frozen=True)
class StageResult:
    """What became of a stage: mean loss of its last steps, optimiser steps made, seconds over all sessions."""

    loss: float
    steps: int
    seconds: float


def schedule_step(step: int, seconds: float, plan: TrainingConfig) -> int:
    """The step that the schedule stands at, after `step` steps and `seconds`; `plan.steps` ends the stage.

    >>> [schedule_step(10, seconds, TrainingConfig("x", 100, max_seconds=60)) for seconds in (1, 30, 60)]
    [10, 50, 100]
    """
    if plan.max_seconds is None:
        return step
    return max(step, min(plan.steps, int(plan.steps * seconds / plan.max_seconds)))


def lr_factor(step: int, plan: TrainingConfig) -> float:
    """The share of the peak learning rate at `step` (from 0).

    >>> [round(lr_factor(step, TrainingConfig("x", 11, warmup=0.1, floor=0.0)), 2) for step in (0, 1, 6, 10)]
    [1.0, 1.0, 0.5, 0.02]
    >>> [lr_factor(step, TrainingConfig("x", 99, warmup_steps=4, schedule="inverse_sqrt")) for step in (0, 3, 15)]
    [0.25, 1.0, 0.5]
    """
    warm = max(1, round(plan.warmup * plan.steps) if plan.warmup_steps is None else plan.warmup_steps)
    if step < warm:
        return (step + 1) / warm
    if plan.schedule == "inverse_sqrt":
        return math.sqrt(warm / (step + 1))
    done = (step - warm) / max(plan.steps - warm, 1)
    return plan.floor + (1 - plan.floor) * 0.5 * (1 + math.cos(math.pi * done))


def train(
    groups: Sequence[ParameterGroup],
    loss: Loss,
    plan: TrainingConfig,
    context: RunContext,
    choice: EarlyStopping | None = None,
) -> StageResult:
    """Runs the stage, from where `context.checkpoint` says it stopped. `loss(step, part)` is what one of the
    `accumulate` parts of a step costs; a tensor is a part (or this process's share of it) that counts as much as every
    other. The parameters are changed in place; with a `choice` they end in the state that it likes best.

    Raises `InputError` where the loss is no number any more."""
    keep_freed_memory()
    parameters = [parameter for group in groups for parameter in group.parameters]
    optimizer = _optimizer(groups, plan)
    keeper = Checkpointer(context.checkpoint, plan.stage, parameters, optimizer, choice)
    team = GradientSynchronizer(context.world, parameters, optimizer)
    step, losses, before = team.begin(keeper)
    start_time, pace = time.monotonic(), CheckpointTimer()
    at = schedule_step(step, before, plan)
    with context.stage(plan.stage, plan.steps) as bar:
        if step:
            bar.advance(step)
        while at < plan.steps and not (choice is not None and choice.should_stop):
            torch.manual_seed(derive_seed(context.seed, plan.stage, step, *team.stream))
            share = lr_factor(at, plan)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
            losses.append(_one_step(team, loss, step, plan, context.device))
            step += 1
            seconds, due = team.clock(before + time.monotonic() - start_time, pace.due)
            at = schedule_step(step, seconds, plan)
            del losses[:-50]
            mean, over = sum(losses) / len(losses), at >= plan.steps
            bar.advance(1, loss=mean)
            looked = choice is not None and (step % choice.every == 0 or over)
            valid = {"valid": choice.evaluate(step, parameters)} if choice is not None and looked else {}
            if step % 20 == 0 or over or looked:
                now = groups[0].learning_rate * share
                fields = {"loss": mean, "learning_rate": now, "seconds": round(seconds, 1), **valid}
                context.event(stage=plan.stage, step=step, **fields)
                release_free_memory()
            if over or looked or due:
                with pace.timed():
                    keeper.save(step, losses, seconds)
    if choice is not None:
        choice.restore_best(parameters)
    return StageResult(sum(losses) / max(len(losses), 1), step, before + time.monotonic() - start_time)


def _optimizer(groups: Sequence[ParameterGroup], plan: TrainingConfig) -> torch.optim.Optimizer:
    """Adam after Loshchilov & Hutter (ICLR 2019) or Kingma & Ba (ICLR 2015), Adafactor after Shazeer & Stern (ICML
    2018)."""
    values = [
        {"params": part, "lr": g.learning_rate, "peak": g.learning_rate, "weight_decay": g.weight_decay}
        for g in groups
        for part in split_by_sharding(g.parameters)
    ]
    if plan.optimiser == "adafactor":
        return torch.optim.Adafactor(values)
    kind = torch.optim.AdamW if plan.optimiser == "adamw" else torch.optim.Adam
    return kind(values, betas=(0.9, plan.beta2), fused=True)


def _one_step(team: GradientSynchronizer, loss: Loss, step: int, plan: TrainingConfig, device: str) -> float:
    team.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for value in _shares(loss, step, plan, device):
        value.backward()
        total += float(value.detach())
    total = team.sum_gradients(total)
    if not math.isfinite(total):
        raise _diverged(total, step, plan, team.optimizer.param_groups)
    team.clip(plan.clip)
    team.optimizer.step()
    return total


def _shares(loss: Loss, step: int, plan: TrainingConfig, device: str) -> Iterator[torch.Tensor]:
    """The parts' shares of a step's loss, each computed when it is asked for: one graph is held at a time."""
    costs: list[Cost] = []
    for part in range(plan.accumulate):
        with autocast(device, plan.precision):
            current_cost = loss(step, part)
        if isinstance(current_cost, Cost):
            costs.append(current_cost)
        else:
            yield current_cost / plan.accumulate
    counts = together(costs)
    for cost in costs:
        with autocast(device, plan.precision):
            value = cost.share(counts)
        yield value


def _diverged(loss: float, step: int, plan: TrainingConfig, groups: Sequence[dict[str, Any]]) -> InputError:
    """Training has run away: the user's settings are at fault, or the numbers that they gave."""
    rates = ", ".join(dict.fromkeys(f"{group['lr']:.3g}" for group in groups))
    return InputError(
        f"training diverged: the loss is {loss} at step {step + 1} of {plan.steps} (learning rate {rates})",
        where=f"stage {plan.stage}",
        hint="lower its learning rate, give it more warm-up or a smaller clip, or compute it in float32",
    )
