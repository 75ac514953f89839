"""Group relative policy optimisation (GRPO) on item codes, a training stage behind supervised fine-tuning: the second
stage of MiniOneRec (arXiv 2510.24431).

For each training prompt (a history and its next item) a search along the trie of codes generates a group of G distinct
codes. With h the code of the next item, j = 1..G the rank of a code by its probability, and p, p_old and p_ref the
probability of a token now, at generation and before the stage, q = p / p_old:

    rule      r_j = 1 if j is h, else 0
    ranking   r_j = rule - w_j / Σ w if j is not h, w_j = 1 / log2(j + 1), in groups with h; 0 in groups without
    A_j  = (r_j - mean r) / (std r + 1e-4)
    KL   = p_ref / p - log(p_ref / p) - 1
    loss = mean over prompts, codes, tokens of  β KL - min(q A_j, clip(q, 1 - ε, 1 + ε) A_j)

The objective is that of Shao et al. (arXiv 2402.03300, eq. 3 and 4), the ranking reward that of the released code. A
group whose rewards are equal has no advantage and adds its KL alone. The released code mixes the present weights into
p_ref during training; here p_ref stays.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from harness.generative.comprehension import CheckpointScores
from harness.generative.config import StageConfig
from harness.generative.decoding.beam_search import Search, search_codes
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.lora import merge
from harness.generative.models.packing import can_pack
from harness.generative.models.readers import PromptBatch
from harness.generative.tasks.batching import Samples
from harness.generative.training.checkpoint import Callback
from harness.generative.training.losses import Cost, Counts, Losses
from harness.generative.training.stages import Objective, StageInputs, train_stage
from harness.generative.training.trainer import LOG_EVERY, total_steps
from harness.protocol.context import RunContext

EPSILON = 1e-4  # added to the standard deviation of rewards
LIMIT = 20.0  # nats
FIGURES = ("zero_advantage_share", "reward", "kl")  # means over groups
Reward = Literal["rule", "ranking"]


class GRPOConfig(StageConfig):
    """Reinforcement learning behind supervised fine-tuning; off by default. The defaults are those released."""

    enabled: bool = Field(default=False, description="run the stage")
    epochs: float = Field(default=2, gt=0, description="passes over all next items")
    targets: int = Field(default=64, ge=1, description="prompts of a step; each has a group")
    group: int = Field(default=16, ge=2, description="distinct codes generated for a prompt")
    generate: Literal["beam", "sample"] = Field(
        default="beam",
        description="beam: the codes that beam search finds; sample: codes drawn by their probability without "
        "replacement",
    )
    reward: Reward = Field(
        default="ranking",
        description="rule: 1 for the target, 0 for others; ranking: likely wrong codes beside the target also lose",
    )
    beta: float = Field(default=1e-3, ge=0, description="weight of the KL divergence from the weights before the stage")
    updates: int = Field(default=1, ge=1, description="steps on the same groups; 1: on-policy")
    clip_ratio: float = Field(default=0.2, gt=0, lt=1, description="bound of the ratio's distance from 1 (updates > 1)")
    learning_rate: float = Field(default=1e-5, gt=0, description="peak learning rate of the backbone")
    code_rate: float = Field(default=1e-5, gt=0, description="peak learning rate of code embeddings and their scale")
    warmup: float = Field(default=0.03, ge=0, le=1)
    clip: float = Field(default=0.3, gt=0)
    choose: Literal["last", "validation"] = Field(
        default="validation",
        description="final state: the last, or the best by ndcg@10 on validation, the one before the stage included",
    )
    every: float = Field(default=0.1, gt=0, le=1, description="share of the stage's steps between evaluations")

    @model_validator(mode="after")
    def _no_effect(self) -> GRPOConfig:
        for name in ("rows", "item_targets"):
            if getattr(self, name) != StageConfig.model_fields[name].default:
                raise ValueError(f"grpo.{name} has no effect: the stage has no text tasks; set epochs or max_steps")
        return self


def rewards(hits: np.ndarray, real: np.ndarray, kind: Reward) -> np.ndarray:
    """Rewards float64 (prompts, group) of codes by rank. `hits`: the code is the target's; `real`: False behind the end
    of a shorter group, where rewards are 0; both bool (prompts, group)."""
    values = (hits & real).astype(np.float64)
    if kind == "ranking":
        weights = 1 / np.log2(np.arange(hits.shape[1]) + 2)
        values -= weights / weights.sum() * (values.any(axis=1, keepdims=True) & (values == 0))
    return values * real


def advantages(rewards: np.ndarray, real: np.ndarray) -> np.ndarray:
    """`rewards` (prompts, group) less the mean of their group, over its standard deviation (n - 1); 0 where not
    `real`."""
    counts = real.sum(axis=1, keepdims=True)
    distance = (rewards - (rewards * real).sum(axis=1, keepdims=True) / counts) * real
    deviation = np.sqrt((distance**2).sum(axis=1, keepdims=True) / np.maximum(counts - 1, 1))
    return distance / (deviation + EPSILON)


def divergence(logs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL divergence of each token from its log-probabilities, estimated as p_ref / p - log(p_ref / p) - 1 (Schulman
    2020), which is never negative. log(p_ref / p) counts as at most `LIMIT`, so that it stays finite."""
    distance = (reference - logs).clamp(max=LIMIT)
    return distance.expm1() - distance


@dataclass
class Group:
    """Groups of n prompts. (n, group): `items`, one item of each code; `advantages`; `weights`, which sum to 1 over the
    real codes of a prompt. (n,): mean `reward`. (n, group, tokens): log-probabilities `reference` before the stage, and
    `old` at generation, None until the first update."""

    items: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor
    reward: torch.Tensor
    reference: torch.Tensor
    old: torch.Tensor | None = None

    def costs(self, logs: torch.Tensor, clip_ratio: float, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss and the KL divergence of each prompt, (n,), at the log-probabilities `logs` (n, group, tokens)."""
        if self.old is None:
            self.old = logs.detach()
        ratio, advantage = (logs - self.old).exp(), self.advantages[..., None]
        gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_ratio, 1 + clip_ratio) * advantage)
        kl = divergence(logs, self.reference)
        return tuple((part.mean(dim=-1) * self.weights).sum(dim=-1) for part in (beta * kl - gain, kl))  # pyright: ignore


class GroupPolicy(Callback):
    """The loss of a step, on groups of the model's own codes. A callback, so that the figures, and groups that have
    updates left, are part of the checkpoints. Made before the stage: it copies the weights as the reference."""

    def __init__(self, config: GRPOConfig, inputs: StageInputs, context: RunContext) -> None:
        self.config, self.inputs, self.context = config, inputs, context
        model, prompts, data = inputs.model, inputs.prompts, inputs.data
        can_pack(model)  # cached now, because the test ends in plain training mode
        levels = prompts.codes.shape[1]
        fitting = (model.limit - len(prompts.lead()) - levels - 1) // levels
        history = max(1, min(inputs.config.tasks.window - 1, fitting))
        batch = max(1, config.targets // config.accumulate)
        self.samples = Samples(data.sequences, history, batch, config.accumulate, context.seed)
        self.trie = inputs.trie.on(context.device)
        self.item_of = np.unique(self.trie.leaves, return_index=True)[1]  # an item of each leaf
        self.filters = data.excludes_viewed(inputs.config.decode.filter_viewed)
        self.losses = Losses(model, prompts, None, context.device, config.engine, config.normalise, trie=self.trie)
        self.reference = replace(self.losses, model=copy.deepcopy(model).eval().requires_grad_(False))
        self.groups: dict[int, Group] = {}
        self.sums: list[list[float]] = [[0.0] * (1 + len(FIGURES))]  # of each `LOG_EVERY` steps: groups, then figures

    @property
    def steps_a_pass(self) -> int:
        return self.samples.steps * self.config.updates

    def loss(self, step: int, part: int) -> Cost:
        """As `trainer.train` takes it: generates the groups in the first of their updates."""
        config, model = self.config, self.inputs.model
        turn, update = divmod(step, config.updates)
        histories, targets = self.samples.part(turn, part)
        if not update:
            self.groups[part] = self.generated(histories, targets)
        group = self.groups[part]

        def share(counts: Counts) -> torch.Tensor:
            without_dropout(model)
            logs = -self.losses.group_costs(histories, group.items.numpy())
            costs, kl = group.costs(logs, config.clip_ratio, config.beta)
            zero = (group.advantages == 0).all(dim=1)
            figures = [len(zero), *(float(values.sum()) for values in (zero, group.reward, kl.detach()))]
            self.sums[-1] = [one + other for one, other in zip(self.sums[-1], figures, strict=True)]
            return costs.sum() / counts[0]

        return Cost((len(targets),), share)

    def generated(self, histories: Sequence[np.ndarray], targets: np.ndarray) -> Group:
        """The groups of these prompts: item ids `histories`, oldest first, and `targets` (n,)."""
        config, trie = self.config, self.trie
        nodes, scores = self._search(histories)
        if config.generate == "sample":
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            nodes = nodes.gather(1, order)
        leaves, real = nodes.cpu().numpy(), torch.isfinite(scores).cpu().numpy()
        values = rewards(leaves == trie.leaves[targets][:, None], real, config.reward)
        items = np.where(real, self.item_of[leaves], targets[:, None])
        with torch.no_grad():
            reference = -self.reference.group_costs(histories, items)
        weights = real / real.sum(axis=1, keepdims=True)
        arrays = (advantages(values, real), weights, (values * weights).sum(axis=1))
        advantage, weight, reward = (torch.from_numpy(array).to(reference) for array in arrays)
        return Group(torch.from_numpy(items), advantage, weight, reward, reference)

    @torch.inference_mode()
    def _search(self, histories: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        config, model, prompts = self.config, self.inputs.model.eval(), self.inputs.prompts
        lead, sampled = prompts.lead(), config.generate == "sample"
        tokens = [prompts.codes[history].reshape(-1).tolist() for history in histories]
        depth = self.trie.levels + 1
        reader = model.reader(lead, len(lead) + max(map(len, tokens)) + depth, config.group * depth)
        search = Search(model, self.trie, reader, "children" if sampled else config.normalise)
        viewed = histories if self.filters else None
        return search_codes(search, PromptBatch.of(tokens, self.context.device), config.group, viewed, sampled=sampled)

    def on_step_end(self, step: int) -> dict[str, float]:
        if step % self.config.updates == 0:
            self.groups.clear()
        if step % LOG_EVERY:
            return {}
        self.sums.append([0.0] * (1 + len(FIGURES)))
        return _means(self.sums[-2])

    def state_dict(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        groups = self.groups.items()
        return {"sums": self.sums}, {f"{part}.{name}": value for part, g in groups for name, value in vars(g).items()}

    def load_state_dict(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        self.sums = facts["sums"]
        for part in {name.partition(".")[0] for name in tensors}:
            fields = {name: tensors[f"{part}.{name}"].to(self.context.device) for name in Group.__dataclass_fields__}
            self.groups[int(part)] = Group(**{**fields, "items": fields["items"].cpu()})

    def record(self) -> dict[str, Any]:
        """Means over all groups, and over those of each `LOG_EVERY` steps (`curve`)."""
        total = [sum(column) for column in zip(*self.sums, strict=True)]
        return {"groups": int(total[0]), **_means(total), "curve": [_means(sums) for sums in self.sums if sums[0]]}


def _means(sums: Sequence[float]) -> dict[str, float]:
    return {name: value / max(sums[0], 1) for name, value in zip(FIGURES, sums[1:], strict=True)}


def without_dropout(model: CodeLM) -> None:
    """Training mode (the kernels of training, gradient checkpointing) without dropout, whose noise would count as
    divergence from the reference."""
    model.eval()
    model.dropout = 0.0
    model.training = True
    for module in model.body.modules():
        module.training = bool(getattr(module, "gradient_checkpointing", False))


@dataclass(frozen=True)
class GRPO:
    """The stage, in one process. An adapter is merged at its end."""

    config: GRPOConfig
    name: ClassVar[str] = "grpo"
    checkpoint: ClassVar[CheckpointScores] = "reinforced"

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any]:
        """The report of `train_stage`, `groups`, and the means over them: `zero_advantage_share`, `reward`, `kl`."""
        config, inputs = self.config, replace(inputs, term=None)
        policy = GroupPolicy(config, inputs, context)
        steps = total_steps(config.epochs, policy.steps_a_pass, config.max_steps)
        every = max(1, round(config.every * steps))
        objective = Objective(policy.loss, steps, policy.steps_a_pass, every, policy, initial=True)
        rate = inputs.model.dropout
        try:
            report = train_stage(self.name, config, objective, inputs, context)
        finally:
            inputs.model.dropout = rate
        merge(inputs.model.body)
        return {**report, **policy.record()}
