"""The two stages of tuning: all tasks on all weights, then the annealing adapter on the sequential task alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from eager.config import AnnealingConfig, EagerConfig, StageConfig
from eager.contrast import Contrast
from eager.losses import Losses
from eager.pools import Pools
from eager.prompts import Prompts
from eager.tasks import Tasks
from harness.data.dataset import ItemText
from harness.generative.code_lm import CodeLM
from harness.generative.tuning import Group, Outcome, Plan, Precision, tune
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.seeding import generator


@dataclass(frozen=True, eq=False)
class Tuned:
    """What both stages work on."""

    model: CodeLM
    prompts: Prompts
    contrast: Contrast | None
    data: TrainingData
    text: tuple[ItemText, ...]
    pools: Pools
    config: EagerConfig
    precision: Precision


def stage_one(tuned: Tuned, context: RunContext) -> Outcome:
    """Alignment and recommendation tasks with the contrastive loss; every weight of the backbone but its vocabulary."""
    model, config = tuned.model, tuned.config.tuning
    model.train()
    for parameter in model.embedding.parameters():
        parameter.requires_grad_(False)
    body = [parameter for parameter in model.body.parameters() if parameter.requires_grad]
    groups = [Group(body, config.learning_rate, config.weight_decay), *_code_groups(tuned, config)]
    stream = (context.seed, "alignment")
    tasks = Tasks.every(tuned.data.sequences, tuned.pools, config, tuned.config.tasks, stream)
    return _run("alignment", groups, config, tasks, tuned, context)


def annealing(tuned: Tuned, context: RunContext) -> Outcome:
    """Annealing adapter tuning: LoRA on the projections of attention and MLP, code rows and head trained in full; the
    adapter is merged into the backbone at the end."""
    from peft import LoraConfig, get_peft_model

    config: AnnealingConfig = tuned.config.annealing
    torch.manual_seed(context.seed)  # the adapter's first weights
    lora = LoraConfig(
        r=config.rank, lora_alpha=cast(int, config.alpha), lora_dropout=config.dropout, target_modules="all-linear"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is on its way out
        adapter = cast(Any, get_peft_model(tuned.model.body, lora))
    tuned.model.body = adapter
    tuned.model.train()
    added = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    kept = tuned if config.contrast else replace(tuned, contrast=None)
    groups = [Group(added, config.learning_rate, config.weight_decay), *_code_groups(kept, config)]
    tasks = Tasks.sequential(tuned.data.sequences, config, tuned.config.tasks, (context.seed, "annealing"))
    outcome = _run("annealing", groups, config, tasks, kept, context)
    tuned.model.body = adapter.merge_and_unload()
    return outcome


def trained_parameters(model: CodeLM) -> int:
    """How many numbers the stages train: everything but the backbone's vocabulary."""
    frozen = {id(parameter) for parameter in model.embedding.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in frozen)


def _code_groups(tuned: Tuned, config: StageConfig) -> list[Group]:
    """Code rows, and what is learned with them: the scale of their logits, the projectors."""
    model = tuned.model
    projectors = [] if tuned.contrast is None else list(tuned.contrast.parameters())
    return [
        Group([model.code_in, model.code_out], config.code_rate, config.weight_decay),
        Group([model.scale, *projectors], config.code_rate / 3),
    ]


def _run(
    name: str, groups: list[Group], config: StageConfig, tasks: Tasks, tuned: Tuned, context: RunContext
) -> Outcome:
    batches = tasks.batches
    losses = Losses(tuned.model, tuned.prompts, tuned.contrast, context.device, config.engine, config.normalise)
    n_items, templates = tuned.data.n_items, tuned.config.tasks.templates

    def loss(step: int, part: int) -> torch.Tensor:
        rng = generator(context.seed, name, "step", step, part)
        drawn = tuned.contrast.draw(n_items, rng) if tuned.contrast else np.empty(0, np.int64)
        template = int(rng.integers(templates))
        task = batches.task(step)
        if task == "seqrec":
            return losses.windows(batches.windows(step, part), template, drawn)
        return losses.rows(tasks.samples(task, step, part), drawn)

    plan = Plan(name, batches.steps, config.warmup, config.floor, config.clip, tuned.precision, config.accumulate)
    return tune(groups, loss, plan, context)
