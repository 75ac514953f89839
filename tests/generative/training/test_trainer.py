"""The tuning loop: schedule, accumulation, resume to the last digit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from harness.core import timer
from harness.errors import InputError
from harness.generative.training import checkpoint, trainer
from harness.generative.training.checkpoint import Callback, EarlyStopping
from harness.generative.training.losses import Cost, Counts
from harness.generative.training.trainer import (
    ParameterGroup,
    StageResult,
    TrainingConfig,
    lr_factor,
    one_cycle,
    schedule_step,
    train,
)
from harness.protocol.context import RunContext, SilentReporter

PLAN = TrainingConfig("stage", 60, warmup=0.1, precision="float32")


class Stop(SilentReporter):
    """Ctrl-C at the event of one step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def event(self, **fields: Any) -> None:
        if fields.get("step") == self.at:
            raise KeyboardInterrupt


def problem(seed: int = 0) -> tuple[nn.Module, Any]:
    """A small regression with dropout, so that a resume needs the random state too."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))

    def loss(step: int, part: int) -> torch.Tensor:
        rows = inputs[(step * 4) % 32 : (step * 4) % 32 + 4]
        return (model(rows).squeeze(-1) - rows.sum(1)).pow(2).mean()

    return model, loss


def tuned(context: RunContext, plan: TrainingConfig = PLAN) -> list[torch.Tensor]:
    model, loss = problem()
    train([ParameterGroup(list(model.parameters()), 1e-2, 0.1)], loss, plan, context)
    return [parameter.detach().clone() for parameter in model.parameters()]


def facts(folder: Path) -> dict[str, Any]:
    """What the stage has kept, besides tensors."""
    result = checkpoint.read_snapshot(folder / "kept/stage.safetensors")
    assert result is not None
    return result[0]


def test_an_interrupted_stage_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    complete = tuned(RunContext(3, tmp_path))
    with pytest.raises(KeyboardInterrupt):
        tuned(RunContext(3, tmp_path, checkpoint=tmp_path / "kept", reporter=Stop(40)))
    assert facts(tmp_path)["step"] == 39
    repeated = tuned(RunContext(3, tmp_path, checkpoint=tmp_path / "kept"))
    assert all(torch.equal(one, other) for one, other in zip(complete, repeated, strict=True))


def test_a_complete_stage_is_not_run_again(tmp_path: Path) -> None:
    context = RunContext(3, tmp_path, checkpoint=tmp_path / "kept")
    first = tuned(context)
    model, _ = problem()

    def never(step: int, part: int) -> torch.Tensor:
        raise AssertionError("asked for a loss")

    outcome = train([ParameterGroup(list(model.parameters()), 1e-2)], never, PLAN, context)
    assert outcome.steps == 60
    assert all(torch.equal(one, other) for one, other in zip(first, model.parameters(), strict=True))


def test_a_damaged_checkpoint_is_none(tmp_path: Path) -> None:
    context = RunContext(3, tmp_path, checkpoint=tmp_path / "kept")
    first = tuned(context)
    path = tmp_path / "kept/stage.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert all(torch.equal(one, other) for one, other in zip(first, tuned(context), strict=True))
    assert facts(tmp_path)["step"] == 60


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    context, complete = RunContext(3, tmp_path, checkpoint=tmp_path / "kept"), tuned(RunContext(3, tmp_path))
    writes, save = 0, checkpoint.save_file

    def full(tensors: Any, path: Path, **rest: Any) -> None:
        nonlocal writes
        if (writes := writes + 1) == 10:
            path.write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path, **rest)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match="cannot write: No space left on device; free some space; the same command"):
        tuned(context)
    assert facts(tmp_path)["step"] == 9 and len(list((tmp_path / "kept").iterdir())) == 1
    assert all(torch.equal(one, other) for one, other in zip(complete, tuned(context), strict=True))


def test_the_seed_is_read(tmp_path: Path) -> None:
    one, other = tuned(RunContext(3, tmp_path)), tuned(RunContext(4, tmp_path))
    assert not torch.equal(one[0], other[0])


def test_accumulated_parts_equal_one_whole_step(tmp_path: Path) -> None:
    def run(parts: int) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(4, 1)
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))

        def loss(step: int, part: int) -> torch.Tensor:
            return layer(inputs[part * (8 // parts) : (part + 1) * (8 // parts)]).pow(2).mean()

        plan = TrainingConfig("stage", 5, accumulate=parts)
        train([ParameterGroup(list(layer.parameters()), 1e-2)], loss, plan, RunContext(1, tmp_path))
        return layer.weight.detach()

    torch.testing.assert_close(run(1), run(4), rtol=1e-5, atol=1e-7)


def test_parts_of_unequal_size_add_up_to_the_whole_step(tmp_path: Path) -> None:
    """Two means over different terms, as responses and those of them that name an item."""
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))

    def run(*sizes: int) -> tuple[torch.Tensor, float]:
        torch.manual_seed(0)
        layer = nn.Linear(4, 1)

        def loss(step: int, part: int) -> Cost:
            actual = inputs.roll(step, 0)[sum(sizes[:part]) : sum(sizes[: part + 1])]
            named = actual[actual[:, 0] > 0]

            def share(counts: Counts) -> torch.Tensor:
                return layer(actual).pow(2).sum() / counts[0] + layer(named).abs().sum() / counts[1]

            return Cost((len(actual), len(named)), share)

        plan = TrainingConfig("stage", 5, accumulate=len(sizes))
        outcome = train([ParameterGroup(list(layer.parameters()), 1e-2)], loss, plan, RunContext(1, tmp_path))
        return layer.weight.detach(), outcome.loss

    (complete, mean), (parts, other) = run(12), run(1, 8, 3)
    torch.testing.assert_close(complete, parts, rtol=1e-5, atol=1e-7)
    assert mean == pytest.approx(other, rel=1e-5)


def test_the_schedule_rises_and_falls() -> None:
    rates = [lr_factor(step, PLAN) for step in range(60)]
    assert max(rates) == rates[5] == 1.0 and rates[0] < rates[1] < rates[5]
    assert rates[6:] == sorted(rates[6:], reverse=True) and rates[-1] < 0.01
    assert lr_factor(59, replace(PLAN, floor=1.0)) == 1.0


@pytest.mark.parametrize("steps", [7, 60, 333])
def test_one_cycle_is_torchs_scheduler_to_the_last_digit(steps: int) -> None:
    plan = TrainingConfig("stage", steps, schedule="one_cycle")
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=3e-3)
    total = max(steps, trainer.ONE_CYCLE_STEPS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total, pct_start=plan.warmup)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert one_cycle(step, 3e-3, plan) == (group["lr"], group["betas"][0])
        optimizer.step()
        if step < steps - 1:
            schedule.step()


class Counter(Callback):
    """Adds the number of steps to a buffer, and draws from torch's generator, which the trainer leaves alone."""

    def __init__(self) -> None:
        self.buffers, self.drawn, self.seen = [torch.zeros(1)], torch.get_rng_state(), 0

    def on_step_end(self, step: int) -> dict[str, Any]:
        self.seen += 1
        self.buffers[0].add_(step)
        return {"seen": self.seen} if step % 10 == 0 else {}

    def state_dict(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return {"seen": self.seen}, checkpoint.random_state("cpu")

    def load_state_dict(self, facts: Any, tensors: Any) -> None:
        self.seen = facts["seen"]
        checkpoint.set_random_state(tensors, "cpu")


def counted(context: RunContext, plan: TrainingConfig) -> tuple[Counter, StageResult, list[torch.Tensor]]:
    """A stage whose steps 3, 6, … have no samples, and whose best state is that of step 20."""
    model, full = problem()
    counter, stopping = Counter(), EarlyStopping(lambda: -abs(20 - counter.seen), 10, 9)
    outcome = train(
        [ParameterGroup(list(model.parameters()), 1e-2)],
        lambda step, part: None if step % 3 == 0 else full(step, part),
        plan,
        context,
        stopping,
        counter,
    )
    return counter, outcome, [parameter.detach().clone() for parameter in model.parameters()]


def test_a_callbacks_state_is_part_of_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    plan = replace(PLAN, reseed=False, fused=False, schedule="one_cycle", fingerprint="a")
    complete, outcome, values = counted(RunContext(3, tmp_path), plan)
    assert complete.seen == 60 and float(complete.buffers[0]) == 210, "the best state, with its buffers, is restored"
    with pytest.raises(KeyboardInterrupt):
        counted(RunContext(3, tmp_path, checkpoint=tmp_path / "kept", reporter=Stop(40)), plan)
    assert facts(tmp_path)["skipped"] == 13
    counter, repeated, weights = counted(RunContext(3, tmp_path, checkpoint=tmp_path / "kept"), plan)
    assert counter.seen == 60 and torch.equal(counter.buffers[0], complete.buffers[0]) and repeated.loss == outcome.loss
    assert all(torch.equal(one, other) for one, other in zip(values, weights, strict=True))
    new = replace(plan, fingerprint="b")
    first, _, _ = counted(RunContext(3, tmp_path, checkpoint=tmp_path / "kept", reporter=(events := Heard())), new)
    assert first.seen == 60 and events.steps[0] == 10, "another fingerprint: from the start"


class Heard(SilentReporter):
    """The steps of the events."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def event(self, **fields: Any) -> None:
        self.steps.append(fields["step"])


class Clock:
    """Each look at it costs a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def test_seconds_end_a_stage_and_count_over_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "time", Clock())
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    plan = replace(PLAN, max_seconds=20.0)
    model, loss = problem()
    groups = [ParameterGroup(list(model.parameters()), 1e-2)]
    complete = train(groups, loss, plan, RunContext(3, tmp_path))
    assert 0 < complete.steps < 60 and complete.seconds >= 20
    unbound = train(groups, loss, PLAN, RunContext(3, tmp_path))
    assert unbound.steps == 60 and unbound.seconds > 40

    stored = RunContext(3, tmp_path, checkpoint=tmp_path / "kept")
    longer = replace(plan, max_seconds=40.0)
    with pytest.raises(KeyboardInterrupt):
        train(groups, loss, longer, replace(stored, reporter=Stop(20)))
    state = facts(tmp_path)
    assert state["step"] == 19 and state["seconds"] > 10
    second = train(groups, loss, longer, stored)
    assert 40 <= second.seconds < 45 and second.steps < 60
    third = train(groups, loss, longer, stored)
    assert (third.steps, third.loss) == (second.steps, second.loss), "a complete stage is not run again"


def test_the_schedule_of_a_timed_stage_is_whole() -> None:
    plan = replace(PLAN, steps=1000, max_seconds=10.0)
    rates = [lr_factor(schedule_step(step, step / 10, plan), plan) for step in range(100)]
    assert schedule_step(100, 10.0, plan) == 1000 and schedule_step(5, 0.0, plan) == 5
    assert max(rates) > 0.99 and rates[0] < 0.1 and rates[-1] < 0.01


def test_the_second_decay_of_adam_is_read(tmp_path: Path) -> None:
    one, other = tuned(RunContext(3, tmp_path)), tuned(RunContext(3, tmp_path), replace(PLAN, beta2=0.9))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("runs_away", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_the_users_error(tmp_path: Path, runs_away: float) -> None:
    layer = nn.Linear(1, 1)
    message = (
        rf"stage stage: training diverged: the loss is -?{runs_away} at step 4 of 60 \(learning rate 0.667\); lower"
    )
    with pytest.raises(InputError, match=message):
        train(
            [ParameterGroup(list(layer.parameters()), 1.0)],
            lambda step, part: layer.weight.sum() * (runs_away if step == 3 else 1.0),
            PLAN,
            RunContext(1, tmp_path),
        )


def choosing(
    context: RunContext, answers: list[float], patience: int = 9
) -> tuple[EarlyStopping, StageResult, list[torch.Tensor]]:
    """A stage that is looked at every ten steps; `answers` from the first look on."""
    model, loss = problem()
    parameters = list(model.parameters())
    choice = EarlyStopping(lambda: answers[len(choice.history)], 10, patience)
    outcome = train([ParameterGroup(parameters, 1e-2, 0.1)], loss, PLAN, context, choice)
    return choice, outcome, [parameter.detach().clone() for parameter in parameters]


ANSWERS = [0.1, 0.4, 0.3, 0.4, 0.2, 0.1]


def test_a_stage_ends_in_the_state_that_validation_likes_best(tmp_path: Path) -> None:
    choice, outcome, values = choosing(RunContext(3, tmp_path), ANSWERS)
    assert choice.best == (20, 0.4) and outcome.steps == 60 and len(choice.history) == 6
    assert choice.record()["chosen_step"] == 20 and choice.record()["valid"] == 0.4
    _, _, other = choosing(RunContext(3, tmp_path), [0.1, 0.2, 0.9, 0.4, 0.2, 0.1])
    assert not torch.equal(values[0], other[0])
    first = tuned(RunContext(3, tmp_path))
    assert not torch.equal(values[0], first[0])


def test_a_stage_that_gets_no_better_ends(tmp_path: Path) -> None:
    _, outcome, _ = choosing(RunContext(3, tmp_path), ANSWERS, patience=2)
    assert outcome.steps == 40


def test_a_choice_survives_an_interruption(tmp_path: Path) -> None:
    complete, _, values = choosing(RunContext(3, tmp_path), ANSWERS)
    with pytest.raises(KeyboardInterrupt):
        choosing(RunContext(3, tmp_path, checkpoint=tmp_path / "kept", reporter=Stop(40)), ANSWERS)
    for _ in range(2):  # the second finds a complete stage
        choice, outcome, repeated = choosing(RunContext(3, tmp_path, checkpoint=tmp_path / "kept"), ANSWERS)
        assert choice.history == complete.history and outcome.steps == 60
        assert all(torch.equal(one, other) for one, other in zip(values, repeated, strict=True))


@pytest.mark.parametrize("optimiser", ["adam", "adafactor"])
def test_other_optimisers_resume_too(optimiser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    plan = replace(PLAN, optimiser=optimiser, schedule="inverse_sqrt", warmup_steps=5)
    complete = tuned(RunContext(3, tmp_path), plan)
    assert not torch.equal(complete[0], tuned(RunContext(3, tmp_path))[0])
    with pytest.raises(KeyboardInterrupt):
        tuned(RunContext(3, tmp_path, checkpoint=tmp_path / "kept", reporter=Stop(40)), plan)
    repeated = tuned(RunContext(3, tmp_path, checkpoint=tmp_path / "kept"), plan)
    assert all(torch.equal(one, other) for one, other in zip(complete, repeated, strict=True))


def test_the_average_of_weights_is_validated_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(PLAN, average=0.9)
    model, loss = problem()
    weights = list(model.parameters())
    before: list[list[torch.Tensor]] = []  # the weights at the beginning of each step

    def watched(step: int, part: int) -> torch.Tensor:
        before.append([parameter.detach().clone() for parameter in weights])
        return loss(step, part)

    validated: list[list[torch.Tensor]] = []

    def measure() -> float:
        validated.append([parameter.detach().clone() for parameter in weights])
        return float(len(validated))

    train([ParameterGroup(weights, 1e-2, 0.1)], watched, plan, RunContext(3, tmp_path), EarlyStopping(measure, 20, 9))
    expected = before[1]  # the weights after the first step, then those after each eighth one
    for step in range(trainer.AVERAGE_EVERY, 20, trainer.AVERAGE_EVERY):
        weight = 1 - min(0.9, (1 + step) / (10 + step)) ** trainer.AVERAGE_EVERY
        expected = [old + weight * (new - old) for old, new in zip(expected, before[step + 1], strict=True)]
    for value, other in zip(validated[0], expected, strict=True):
        torch.testing.assert_close(value, other)
    assert all(torch.equal(value, kept) for value, kept in zip(validated[-1], weights, strict=True))

    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    complete = tuned(RunContext(3, tmp_path), plan)
    assert not torch.equal(complete[0], tuned(RunContext(3, tmp_path))[0])
    with pytest.raises(KeyboardInterrupt):
        tuned(RunContext(3, tmp_path, checkpoint=tmp_path / "kept", reporter=Stop(40)), plan)
    for _ in range(2):  # the second finds a complete stage
        repeated = tuned(RunContext(3, tmp_path, checkpoint=tmp_path / "kept"), plan)
        assert all(torch.equal(one, other) for one, other in zip(complete, repeated, strict=True))
