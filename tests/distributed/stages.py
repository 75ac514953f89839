"""One stage of tuning by several processes: interrupted by some and continued by others, ended by a clock, chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.core import timer
from harness.errors import AbortedByMain, InputError
from harness.generative.training.checkpoint import EarlyStopping
from harness.generative.training.losses import Cost
from harness.generative.training.trainer import ParameterGroup, StageResult, TrainingConfig, train
from harness.protocol.context import (
    ProcessGroup,
    RunContext,
    SilentReporter,
    assert_equal_on_all,
    compute_on_main,
    run_on_all,
    shard,
)

PLAN = TrainingConfig("stage", 30, warmup=0.1, accumulate=2)
STOPPED = 17
UNEVEN = (1, 8, 3)


class Stop(SilentReporter):
    """A kill, in all processes, behind step `STOPPED`."""

    steps = 0

    def advance(self, steps: int = 1, **output: Any) -> None:
        self.steps += steps
        if "loss" in output and self.steps == STOPPED + 1:
            raise KeyboardInterrupt


@dataclass
class Stage:
    """A small regression whose samples are dealt out; its weights, what came of it, and what was measured of it."""

    world: ProcessGroup
    folder: Path | None = None
    plan: TrainingConfig = PLAN
    parts: int = 3  # samples of a part: the last process of four has none
    uneven: tuple[int, ...] = ()  # samples of each part of a step, instead

    def run(self, *, stop: bool = False) -> tuple[list[torch.Tensor], StageResult, EarlyStopping]:
        torch.manual_seed(self.world.rank)  # only the first's weights may count
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Linear(1, 1))
        if not self.world.rank:
            torch.manual_seed(0)
            for parameter in model.parameters():
                nn.init.normal_(parameter)
        used = nn.Sequential(*list(model)[:3])
        inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))

        def cost(step: int, part: int) -> Cost:
            begin = 12 * step + sum(self.uneven[:part])
            complete = inputs.roll(-begin, 0)[: self.uneven[part]]
            rows = complete[torch.from_numpy(shard(self.world, len(complete)))]
            return Cost(
                (len(complete),), lambda counts: (used(rows).squeeze(-1) - rows.sum(1)).pow(2).sum() / counts[0]
            )

        def loss(step: int, part: int) -> torch.Tensor:
            complete = inputs.roll(-(2 * step + part) * self.parts, 0)[: self.parts]
            rows = complete[torch.from_numpy(shard(self.world, len(complete)))]
            expected = rows.sum(1)
            return (used(rows).squeeze(-1) - expected).pow(2).sum() / len(complete)

        def measure() -> float:
            return float(self.world.broadcast_object(-sum(float(p.detach().abs().sum()) for p in used.parameters())))

        parameters = list(model.parameters())  # the last two have no part in the loss
        choice, groups = EarlyStopping(measure, 5, 9), [ParameterGroup(parameters, 1e-2, 0.1)]
        context = RunContext(3, Path(), reporter=Stop() if stop else SilentReporter(), world=self.world)
        if self.folder is not None and not self.world.rank:
            context = replace(context, checkpoint=self.folder)
        previous, timer.KEEP_SECONDS = timer.KEEP_SECONDS, 0.0
        try:
            outcome = train(groups, cost if self.uneven else loss, self.plan, context, choice)
        finally:
            timer.KEEP_SECONDS = previous
        return [parameter.detach().clone() for parameter in parameters], outcome, choice


def interrupted(stage: Stage) -> None:
    """The stage up to where it is killed."""
    try:
        stage.run(stop=True)
    except KeyboardInterrupt:
        return
    raise AssertionError("it was to be killed")


def found(stage: Stage) -> dict[str, Any]:
    """What a whole stage amounts to, JSON-able."""
    values, outcome, choice = stage.run()
    numbers = [value.flatten().tolist() for value in values]
    return {"values": numbers, "steps": outcome.steps, "loss": outcome.loss, "seen": choice.history}


def talk(world: ProcessGroup) -> dict[str, Any]:
    """Every way to say something, with what the process makes of it."""
    actual = np.arange(3 + 2 * world.rank, dtype=np.float64)[:, None] + 10 * world.rank
    handed = world.broadcast_object(None if world.rank else np.arange(6, dtype=np.int32).reshape(2, 3))
    summed, spread = torch.full((2,), 1.0 + world.rank), torch.full((2, 2), float(world.rank)).t()
    world.all_reduce([summed])
    world.broadcast([spread])
    refusals: list[str] = []

    def refuse(when: bool) -> int:
        if when:
            raise InputError("no such file", hint="name another")
        return 7

    def broken(alone: bool) -> Any:
        return compute_on_main(world, lambda: refuse(alone))

    trials = (
        lambda: run_on_all(world, lambda: refuse(world.rank == 1)),
        lambda: run_on_all(world, lambda: refuse(world.rank == 0)),
        lambda: run_on_all(world, lambda: refuse(True)),
        lambda: assert_equal_on_all(world, f"run-{world.rank}"),
        lambda: broken(True),
    )
    for trial in trials:
        try:
            trial()
        except (InputError, AbortedByMain) as error:
            refusals.append(f"{type(error).__name__}: {error}")
    assert_equal_on_all(world, "run")
    return {
        "told": world.broadcast_object({"rank": world.rank, "text": "é" * 40}),
        "handed": [str(handed.dtype), handed.tolist()],
        "empty": [part.shape for part in world.all_gather(np.empty((0, 4)))],
        "gathered": [part[:, 0].tolist() for part in world.all_gather(actual)],
        "nobody": world.broadcast_object(np.empty((0, 3), np.float32)).shape,
        "summed": summed.tolist(),
        "spread": spread.tolist(),
        "agreed": run_on_all(world, lambda: refuse(False)),
        "once": broken(False),
        "refused": refusals,
    }


def main(folder: Path, world: ProcessGroup) -> None:
    """The part of one process."""
    complete = found(Stage(world))
    interrupted(Stage(world, folder / "by-two"))
    clocked = Stage(world, plan=replace(PLAN, steps=100_000, max_seconds=0.1))
    document = {
        "whole": complete,
        "small": found(Stage(world, parts=1)),
        "uneven": found(Stage(world, plan=replace(PLAN, accumulate=3), uneven=UNEVEN)),
        "continued": found(Stage(world, folder / "by-one")),
        "again": found(Stage(world, folder / "by-one")),
        "clocked": found(clocked),
        "talk": talk(world),
    }
    (folder / f"stages-{world.rank}.json").write_text(json.dumps(document))
