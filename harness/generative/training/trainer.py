"""The training loop of all stages: LLM stages, TIGER, the RQ-VAE, the behaviour encoders.

The loop has the optimizer, schedule, precision, gradient accumulation, clipping, early stopping, progress and
checkpoints; the caller gives a loss for a step number. All randomness is derived from that number or is part of a
callback's state, so that a resumed stage gives the same weights as an uninterrupted one.

On Linux, glibc by default maps each large array anew and unmaps it when it is freed: 4,700 page faults a step of a
small model, against 131 with `keep_freed_memory`. Steps of many shapes then leave holes in the heap: a run with all
layers of SmolLM2 on the CPU grew from 11 to 19 GB in an hour, hence `release_free_memory` (`log-archive.md`).
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
from harness.generative.models.distributed import GradientSynchronizer, split_by_sharding
from harness.generative.models.precision import Precision, autocast
from harness.generative.training.checkpoint import Callback, Checkpointer, EarlyStopping, Progress, TrainingState
from harness.generative.training.losses import Cost, together
from harness.protocol.context import RunContext

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # options of mallopt(3)
MMAP_THRESHOLD = 1 << 30  # maximal size in bytes of an array on the heap
LOG_EVERY = 20  # steps
RELEASE_SECONDS = 60.0  # interval of `release_free_memory`: the pages must be mapped anew after it
AVERAGE = "average"  # key of the optimizer's state
AVERAGE_EVERY = 8  # steps: an update reads and writes all weights
LOSSES = 50  # steps that the logged loss is averaged over
ONE_CYCLE_STEPS = 60  # minimal length of a one-cycle schedule, so that its warm-up has steps

Optimiser = Literal["adamw", "adam", "adafactor"]
Schedule = Literal["cosine", "linear", "inverse_sqrt", "one_cycle"]
Loss = Callable[[int, int], Cost | torch.Tensor | None]


def keep_freed_memory() -> None:
    """Makes the C library reuse the memory of freed arrays instead of returning it to the system at once. Does nothing
    on other systems."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
            library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def release_free_memory() -> None:
    """Returns free pages of the heap to the system. Does nothing on other systems."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a peak learning rate and a weight decay."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a stage. The learning rate rises linearly over the share `warmup` of the stage (or over
    `warmup_steps`), then falls to the share `floor` of its peak along a half cosine (`floor=1`: constant), linearly
    to zero (`linear`); `inverse_sqrt` is T5's, 1 / √max(step, warm-up), constant at its peak during the warm-up
    (Raffel et al., JMLR 2020); `one_cycle` is torch's OneCycleLR. Gradients are clipped to the norm `clip`. `beta2` is
    Adam's; `adam` adds the decay to the gradient; `fused` selects torch's fused kernel, which rounds differently.

    With `max_seconds` the stage also ends after this time, over all sessions, and its schedule follows the larger share
    of steps and seconds, so that models of any size get equal time and a complete schedule. The number of steps then
    depends on the machine: such a stage can be resumed, but is not exactly reproducible.

    `average` is the decay a step of an exponential moving average of the weights (Polyak & Juditsky 1992), at most (1 +
    step) / (10 + step); 0: none. Its state is evaluated, and is the final one.

    `title`: label of the progress bar (default: `stage`). `fingerprint`: a checkpoint with another one is ignored.
    `reseed=False`: torch's random generator is not seeded at each step; the callback restores it.
    """

    stage: str
    steps: int
    warmup: float = 0.05
    floor: float = 0.0
    clip: float = 1.0
    precision: Precision = "float32"
    accumulate: int = 1
    beta2: float = 0.98
    average: float = 0.0
    max_seconds: float | None = None
    warmup_steps: int | None = None
    schedule: Schedule = "cosine"
    optimiser: Optimiser = "adamw"
    fused: bool = True
    reseed: bool = True
    title: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class StageResult:
    """Mean loss of the last steps, number of steps, seconds over all sessions."""

    loss: float
    steps: int
    seconds: float


def schedule_step(step: int, seconds: float, config: TrainingConfig) -> int:
    """Position in the schedule after `step` steps and `seconds`; `config.steps` ends the stage.

    >>> [schedule_step(10, seconds, TrainingConfig("x", 100, max_seconds=60)) for seconds in (1, 30, 60)]
    [10, 50, 100]
    """
    if config.max_seconds is None:
        return step
    return max(step, min(config.steps, int(config.steps * seconds / config.max_seconds)))


def lr_factor(step: int, config: TrainingConfig) -> float:
    """Learning rate at `step` (from 0) as a share of the peak; not for `one_cycle`.

    >>> [round(lr_factor(step, TrainingConfig("x", 11, warmup=0.1, floor=0.0)), 2) for step in (0, 1, 6, 10)]
    [1.0, 1.0, 0.5, 0.02]
    >>> [lr_factor(step, TrainingConfig("x", 99, warmup_steps=4, schedule="inverse_sqrt")) for step in (0, 3, 15)]
    [1.0, 1.0, 0.5]
    >>> [lr_factor(step, TrainingConfig("x", 10, warmup_steps=2, schedule="linear")) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = max(1, round(config.warmup * config.steps) if config.warmup_steps is None else config.warmup_steps)
    if config.schedule == "inverse_sqrt":
        return math.sqrt(warm / max(step + 1, warm))
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "linear":
        return (config.steps - step) / max(1, config.steps - warm)
    progress = (step - warm) / max(config.steps - warm, 1)
    return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def one_cycle(step: int, peak: float, config: TrainingConfig) -> tuple[float, float]:
    """Learning rate and Adam's beta1 of the one-cycle policy (Smith & Topin 2019), bit-identical to torch's OneCycleLR
    with default settings, as a function of the step: a checkpoint needs no scheduler state."""
    total = max(config.steps, ONE_CYCLE_STEPS)
    top = config.warmup * total - 1
    if step <= top:
        progress, rates, betas = step / top, (peak / 25, peak), (0.95, 0.85)
    else:
        progress, rates, betas = (step - top) / (total - 1 - top), (peak, peak / 25 / 1e4), (0.85, 0.95)
    share = math.cos(math.pi * progress) + 1
    rate, beta1 = (end + (start - end) / 2.0 * share for start, end in (rates, betas))
    return rate, beta1


def total_steps(passes: float, steps_a_pass: float, max_steps: int | None) -> int:
    """Optimiser steps of so many passes over the data, at least 1 and at most `max_steps`; None: no limit."""
    return min(max(1, round(passes * steps_a_pass)), max_steps or 1 << 62)


def train(
    groups: Sequence[ParameterGroup],
    loss: Loss,
    config: TrainingConfig,
    context: RunContext,
    early_stopping: EarlyStopping | None = None,
    callback: Callback | None = None,
) -> StageResult:
    """Runs the stage, from the checkpoint in `context.checkpoint` if there is one. `loss(step, part)` is the cost of
    one of the `accumulate` parts of a step; a tensor is a part (or this process's share of it) with the same weight as
    the others; None skips the part, and a step without parts has no update. Parameters are changed in place; with
    `early_stopping` they end in their best state.

    Raises `InputError` if the loss is not finite.
    """
    keep_freed_memory()
    parameters = [parameter for group in groups for parameter in group.parameters]
    optimizer = _optimizer(groups, config)
    state = TrainingState(parameters, optimizer, early_stopping, callback)
    checkpointer = Checkpointer(context.checkpoint, config.stage, config.fingerprint)
    synchronizer = GradientSynchronizer(context.world, parameters)
    progress = state.load(checkpointer, context.world)
    started, timer, earlier = time.monotonic(), CheckpointTimer(), progress.seconds
    release = CheckpointTimer(RELEASE_SECONDS)
    position = schedule_step(progress.step, earlier, config)
    if early_stopping is not None and early_stopping.initial and not (progress.step or early_stopping.history):
        context.event(stage=config.stage, step=0, valid=early_stopping.evaluate(0, state.tensors))
    with context.stage(config.title or config.stage, config.steps) as bar:
        if progress.step:
            bar.advance(progress.step)
        while position < config.steps and not (early_stopping is not None and early_stopping.should_stop):
            if config.reseed:
                torch.manual_seed(derive_seed(context.seed, config.stage, progress.step, *synchronizer.stream))
            _set_rates(optimizer, position - progress.skipped, config)
            value = _one_step(synchronizer, optimizer, loss, progress.step, config, context.device)
            _update_average(optimizer, parameters, config.average, progress.step)
            progress.skipped += value is None
            progress.losses = [*progress.losses, *([] if value is None else [value])][-LOSSES:]
            progress.step += 1
            progress.seconds, due = synchronizer.clock(earlier + time.monotonic() - started, timer.due)
            position = schedule_step(progress.step, progress.seconds, config)
            bar.advance(1, loss=progress.loss)
            if _step_ended(state, progress, config, context, position >= config.steps) or due:
                with timer.timed():
                    state.save(checkpointer, progress)
            if release.due:
                with release.timed():
                    release_free_memory()
    _swap_averages(optimizer, parameters)
    if early_stopping is not None:
        early_stopping.restore_best(state.tensors)
    return StageResult(progress.loss, progress.step, earlier + time.monotonic() - started)


def _step_ended(
    state: TrainingState, progress: Progress, config: TrainingConfig, context: RunContext, is_last: bool
) -> bool:
    """Runs callback, evaluation and logging. True if a checkpoint is due regardless of the time."""
    step, stopping = progress.step, state.early_stopping
    fields = {} if state.callback is None else dict(state.callback.on_step_end(step))
    evaluated = stopping is not None and (step % stopping.every == 0 or is_last)
    if stopping is not None and evaluated:
        _swap_averages(state.optimizer, state.parameters)
        fields["valid"] = stopping.evaluate(step, state.tensors)
        _swap_averages(state.optimizer, state.parameters)
    regular = step % LOG_EVERY == 0 or is_last or evaluated
    if regular or fields:
        seconds, rate = round(progress.seconds, 1), state.optimizer.param_groups[0]["lr"]
        usual = {"loss": progress.loss, "learning_rate": rate, "seconds": seconds}
        context.event(stage=config.stage, step=step, **{**usual, **fields})
    return is_last or evaluated


@torch.no_grad()
def _update_average(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], decay: float, step: int
) -> None:
    """Moves the averages towards the weights, by several steps at once. They are part of the optimizer's state, and so
    of checkpoints."""
    if not decay or step % AVERAGE_EVERY:
        return
    weight = 1 - min(decay, (1 + step) / (10 + step)) ** AVERAGE_EVERY
    for parameter in parameters:
        state = optimizer.state[parameter]
        if AVERAGE in state:
            state[AVERAGE].lerp_(parameter, weight)
        else:
            state[AVERAGE] = parameter.detach().clone()


@torch.no_grad()
def _swap_averages(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Exchanges weights and averages; does nothing where there are none."""
    for parameter in parameters:
        if (average := optimizer.state.get(parameter, {}).get(AVERAGE)) is not None:
            weights = parameter.clone()
            parameter.copy_(average)
            average.copy_(weights)


def _set_rates(optimizer: torch.optim.Optimizer, step: int, config: TrainingConfig) -> None:
    for group in optimizer.param_groups:
        if config.schedule == "one_cycle":
            group["lr"], beta1 = one_cycle(step, group["peak"], config)
            group["betas"] = (beta1, config.beta2)
        else:
            group["lr"] = group["peak"] * lr_factor(step, config)


def _optimizer(groups: Sequence[ParameterGroup], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, ICLR 2019), Adam (Kingma & Ba, ICLR 2015) or Adafactor (Shazeer & Stern, ICML
    2018)."""
    values = [
        {"params": part, "lr": g.learning_rate, "peak": g.learning_rate, "weight_decay": g.weight_decay}
        for g in groups
        for part in split_by_sharding(g.parameters)
    ]
    if config.optimiser == "adafactor":
        return torch.optim.Adafactor(values)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(values, betas=(0.9, config.beta2), fused=config.fused)


def _one_step(
    synchronizer: GradientSynchronizer,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    step: int,
    config: TrainingConfig,
    device: str,
) -> float | None:
    """One optimizer step; its loss, or None if it has no parts."""
    optimizer.zero_grad(set_to_none=True)
    values = []
    for value in _shares(loss, step, config, device):
        value.backward()
        values.append(float(value.detach()))
    if not values:
        return None
    total = synchronizer.sum_gradients(sum(values))
    if not math.isfinite(total):
        raise _diverged(total, step, config, optimizer.param_groups)
    synchronizer.clip(config.clip)
    optimizer.step()
    return total


def _shares(loss: Loss, step: int, config: TrainingConfig, device: str) -> Iterator[torch.Tensor]:
    """The parts' shares of a step's loss, computed one at a time, so that only one graph is in memory."""
    costs: list[Cost] = []
    for part in range(config.accumulate):
        with autocast(device, config.precision):
            cost = loss(step, part)
        if isinstance(cost, Cost):
            costs.append(cost)
        elif cost is not None:
            yield cost / config.accumulate
    counts = together(costs)
    for cost in costs:
        with autocast(device, config.precision):
            value = cost.share(counts)
        yield value


def _diverged(loss: float, step: int, config: TrainingConfig, groups: Sequence[dict[str, Any]]) -> InputError:
    rates = ", ".join(dict.fromkeys(f"{group['lr']:.3g}" for group in groups))
    return InputError(
        f"training diverged: the loss is {loss} at step {step + 1} of {config.steps} (learning rate {rates})",
        where=f"stage {config.stage}",
        hint="lower its learning rate, use more warm-up or a smaller clip, or use float32",
    )
