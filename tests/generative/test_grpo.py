"""GRPO on item codes: rewards and advantages one by one, the gradient by hand, groups against exhaustive probabilities;
what a stage learns, records, chooses and resumes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from harness.core import timer
from harness.generative import grpo
from harness.generative.config import InstructConfig, ScoreNormalization
from harness.generative.decoding.beam_search import Search, score_all, search_codes
from harness.generative.grpo import GRPO, Group, GroupPolicy, GRPOConfig, advantages, rewards
from harness.generative.item_codes import CodeTable
from harness.generative.models.readers import PromptBatch
from harness.generative.tasks.prompts import Prompts
from harness.generative.training.losses import Losses
from harness.generative.training.stages import StageInputs
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from tests import toys
from tests.generative import toy_models
from tests.stops import StopAfter

CODES = toy_models.table(items=24)
SHORT: dict[str, Any] = {
    "enabled": True, "max_steps": 12, "targets": 6, "group": 5, "every": 0.25, "patience": 9, "learning_rate": 1e-3,
    "code_rate": 1e-3,
}  # fmt: skip
HISTORIES = [np.array([3, 5, 7]), np.array([1]), np.array([20, 4, 6, 9, 2])]


def stage_inputs(
    folder: Path, codes: CodeTable = CODES, validate: Callable[[int], float] | None = None, kind: str = "llama",
    **config: Any,
) -> StageInputs:  # fmt: skip
    model, data = toy_models.code_lm(folder, codes, kind), toys.split().train
    prompts = Prompts(toy_models.backbone(folder, kind), codes)
    settings = InstructConfig.model_validate(config)
    return StageInputs(
        model, prompts, None, data, cast(Any, None), settings, "float32", CodeTrie(codes), validate
    )  # fmt: skip


def policy(folder: Path, inputs: StageInputs | None = None, **settings: Any) -> GroupPolicy:
    config = GRPOConfig.model_validate({**SHORT, **settings})
    return GroupPolicy(config, stage_inputs(folder) if inputs is None else inputs, RunContext(1, folder))


@pytest.mark.parametrize("kind", ["rule", "ranking"])
def test_rewards_and_advantages_one_by_one(kind: grpo.Reward) -> None:
    hits = np.zeros((40, 6), bool)
    rng = np.random.default_rng(0)
    for row in range(30):
        hits[row, rng.integers(6)] = True
    real = np.arange(6) < np.maximum(hits.argmax(axis=1) + 1, rng.integers(2, 7, 40))[:, None]
    values = rewards(hits, real, kind)
    centred = advantages(values, real)
    norm = sum(1 / math.log2(rank + 1) for rank in range(1, 7))
    for row in range(40):
        length = int(real[row].sum())
        expected = []
        for rank in range(1, length + 1):
            penalised = int(kind == "ranking" and hits[row].any())
            expected.append(1.0 if hits[row, rank - 1] else -penalised / math.log2(rank + 1) / norm)
        np.testing.assert_allclose(values[row], [*expected, *[0] * (6 - length)])
        mean = sum(expected) / length
        deviation = math.sqrt(sum((value - mean) ** 2 for value in expected) / max(length - 1, 1))
        found = [(value - mean) / (deviation + 1e-4) for value in expected]
        np.testing.assert_allclose(centred[row], [*found, *[0] * (6 - length)], atol=1e-12)
        assert hits[row].any() or not centred[row].any(), "equal rewards: no advantage, exactly"


def group(advantage: torch.Tensor, reference: torch.Tensor, old: torch.Tensor | None) -> Group:
    weights = torch.full_like(advantage, 1 / advantage.shape[1])
    return Group(torch.zeros_like(advantage, dtype=torch.int64), advantage, weights, advantage[:, 0], reference, old)


def test_the_gradient_is_that_by_hand() -> None:
    """Of two prompts, three codes, two tokens: some ratios beyond the bound on either side, for either sign."""
    torch.manual_seed(0)
    logs = (torch.randn(2, 3, 2, dtype=torch.float64) - 2).requires_grad_()
    old, reference = (logs.detach() + 0.3 * torch.randn_like(logs) for _ in range(2))
    advantage = torch.tensor([[1.5, -0.5, -1.0], [-0.7, 1.4, -0.7]], dtype=torch.float64)
    beta, bound = 0.1, 0.2
    group(advantage, reference, old).costs(logs, bound, beta)[0].sum().backward()
    clipped, current = 0, logs.detach()
    for p, j, t in itertools.product(range(2), range(3), range(2)):
        ratio, a = math.exp(float(current[p, j, t] - old[p, j, t])), float(advantage[p, j])
        beyond = ratio > 1 + bound if a > 0 else ratio < 1 - bound
        clipped += beyond
        divergence = 1 - math.exp(float(reference[p, j, t] - current[p, j, t]))
        expected = (beta * divergence - (0 if beyond else ratio * a)) / 6
        assert logs.grad is not None and float(logs.grad[p, j, t]) == pytest.approx(expected, rel=1e-9)
    assert 0 < clipped < 12


def test_a_group_without_advantage_has_no_gradient_and_the_first_update_is_on_policy() -> None:
    logs = torch.randn(2, 3, 2, requires_grad=True)
    advantage = torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.0, -1.0]])
    unclipped = group(advantage, logs.detach(), None)
    loss, kl = unclipped.costs(logs, 0.2, beta=0.0)
    loss.sum().backward()
    assert logs.grad is not None and not logs.grad[0].any() and unclipped.old is not None
    torch.testing.assert_close(logs.grad[1], -advantage[1, :, None].expand(3, 2) / 6)
    assert not kl.any() and torch.equal(unclipped.old, logs)


@pytest.mark.parametrize("normalise", ["level", "children", "vocabulary"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_probabilities_of_a_group_are_those_it_was_found_by(
    normalise: ScoreNormalization, kind: str, tmp_path: Path
) -> None:
    """Computed in one pass with the prompt shared, a row each (`plain`), and token by token in the search."""
    decode, sums, gradients = {"normalise": normalise}, [], []
    inputs = stage_inputs(tmp_path, decode=decode, tuning={"normalise": normalise}, kind=kind)
    for engine in ("shared", "plain"):
        made = policy(tmp_path, inputs, normalise=normalise, engine=engine)
        nodes, scores = made._search(HISTORIES)
        items = made.item_of[nodes.numpy()]
        costs = made.losses.group_costs(HISTORIES, items)
        assert costs.shape == (3, 5, 3 + (normalise == "vocabulary"))
        torch.testing.assert_close(-costs.sum(dim=-1), scores.clone(), rtol=1e-4, atol=1e-4)
        inputs.model.zero_grad()
        (costs * torch.arange(15.0).reshape(3, 5, 1)).sum().backward()
        sums.append(costs.detach())
        gradients.append({name: p.grad.clone() for name, p in inputs.model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-3)


def test_a_sample_has_the_distribution_of_draws_without_replacement(tmp_path: Path) -> None:
    codes = toy_models.table(6, (2, 3, 2))
    inputs = stage_inputs(tmp_path, codes)
    trie, draws = CodeTrie(codes), 3000
    search = Search(inputs.model, trie, inputs.model.reader([], 9, 9), "children")
    one = PromptBatch.of([[1, 2, 3]], "cpu")
    p = score_all(search, one)[0].exp().double()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    torch.manual_seed(0)
    batch = PromptBatch(one.ids.expand(draws, -1), one.real.expand(draws, -1))
    nodes, scores = search_codes(search, batch, 3, sampled=True)
    assert all(len(set(row)) == 3 for row in nodes.tolist())
    torch.testing.assert_close(scores.exp().double(), p[nodes], rtol=1e-4, atol=1e-5)
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (nodes[:, 0].numpy(), nodes[:, 1].numpy()), 1 / draws)
    expected = (p[:, None] * p[None] / (1 - p[:, None])).fill_diagonal_(0).numpy()
    assert np.abs(pairs - expected).max() < 4 * math.sqrt(0.25 / draws)
    assert np.abs(pairs.sum(axis=1) - p.numpy()).max() < 4 * math.sqrt(0.25 / draws)


def test_groups_are_codes_not_items_and_leave_viewed_items_out(tmp_path: Path) -> None:
    """Items 0 and 12 share a code: it is one member, and correct for both."""
    digits = CODES.digits.copy()
    digits[12] = digits[0]
    inputs = stage_inputs(tmp_path, CodeTable(digits, CODES.sizes), decode={"filter_viewed": True})
    made = policy(tmp_path, inputs, group=24, reward="rule")
    found = made.generated([np.array([1, 2]), np.array([3])], np.array([0, 12]))
    assert found.weights.gt(0).sum(dim=1).tolist() == [21, 22], "23 codes without those viewed"
    assert found.reward.mul(torch.tensor([21, 22])).tolist() == pytest.approx([1, 1])
    listed = found.items[0][found.weights[0] > 0].tolist()
    assert len({*listed}) == 21 and not {1, 2} & {*listed}


def reward(folder: Path, inputs: StageInputs) -> float:
    """Mean over all training prompts."""
    made = policy(folder, inputs, targets=360, group=8)
    return float(made.generated(*made.samples.part(0, 0)).reward.mean())


def test_the_stage_raises_the_reward_of_a_planted_pattern(tmp_path: Path) -> None:
    inputs = stage_inputs(tmp_path)
    model, windows = inputs.model.train(), list(inputs.data.sequences)
    with torch.no_grad():
        model.scale.div_(4)
    losses = Losses(model, inputs.prompts, None, "cpu")
    optimizer = torch.optim.Adam([*model.body.layers.parameters(), model.code_in, model.code_out], lr=5e-3)
    for step in range(25):  # supervised, far from the end
        optimizer.zero_grad()
        losses.windows(windows[step % 4 :: 4], 0, np.empty(0, np.int64)).value().backward()
        optimizer.step()
    before = reward(tmp_path, inputs)
    settings = {"max_steps": 20, "epochs": 50, "targets": 24, "group": 8, "clip": 1, "beta": 0.05}
    report = GRPO(GRPOConfig.model_validate({**SHORT, **settings})).run(inputs, RunContext(1, tmp_path))
    assert reward(tmp_path, inputs) > 1.15 * before
    assert report["selected_on"] == "last" and 15 * 24 < report["groups"] <= 20 * 24 and len(report["curve"]) == 1
    assert 0 < report["zero_advantage_share"] < 1 and 0 < report["kl"] < 5 and report["reward"] > 0


@pytest.mark.parametrize("gains", [False, True])
def test_the_state_before_the_stage_is_a_candidate(gains: bool, tmp_path: Path) -> None:
    looks = iter([0.5, *([0.6, 0.4, 0.7, 0.3] if gains else [0.5, 0.2, 0.4, 0.1])])
    inputs = stage_inputs(tmp_path, validate=lambda users: next(looks))
    before = inputs.model.code_in.detach().clone()
    inputs.model.dropout = 0.25
    report = GRPO(GRPOConfig.model_validate(SHORT)).run(inputs, RunContext(1, tmp_path))
    assert [step for step, _ in report["looks"]] == [0, 3, 6, 9, 12]
    assert report["chosen_step"] == (9 if gains else 0)
    assert torch.equal(inputs.model.code_in, before) != gains
    assert inputs.model.dropout == 0.25


@pytest.mark.parametrize("settings", [{}, {"updates": 3, "accumulate": 2, "generate": "sample", "adapter": True}])
def test_a_killed_stage_resumes_to_the_same_weights(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is killed between two updates of the same groups."""
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(grpo, "LOG_EVERY", 3)
    stage = GRPO(GRPOConfig.model_validate({**SHORT, "max_steps": 6, **settings}))

    def run(folder: Path | None, at: int | None = None) -> tuple[torch.Tensor, dict[str, Any], int]:
        inputs, reporter = stage_inputs(tmp_path), StopAfter(at)
        report = stage.run(inputs, RunContext(1, tmp_path, checkpoint=folder, reporter=reporter))
        return inputs.model.code_in.detach(), {**report, "seconds": 0}, reporter.calls

    (kept := tmp_path / "kept").mkdir()
    weights, report, _ = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(kept, 5)  # with the checkpoint of step 4
    resumed, repeated, calls = run(kept)
    assert torch.equal(resumed, weights) and repeated == report and calls == 1 + 2


def test_settings_without_effect_are_refused() -> None:
    for name in ("rows", "item_targets"):
        with pytest.raises(ValueError, match=f"grpo.{name} has no effect"):
            GRPOConfig.model_validate({name: 3})
