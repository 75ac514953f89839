"""Training stages of a generative recommender: trained parameters, sampled tasks, loss, selection of a checkpoint.

A stage trains an adapter or all weights of the backbone, by its configuration. The code embeddings, their head, the
scale of their logits and the parameters of the auxiliary loss are always trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.core.seeding import derive_seed, generator
from harness.generative.config import InstructConfig, StageConfig
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.distributed import ShardedBlocks
from harness.generative.models.lora import attach
from harness.generative.models.precision import Precision
from harness.generative.tasks.batching import Augmentation, Batches
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.prompts import Prompts
from harness.generative.training.checkpoint import Callback, EarlyStopping
from harness.generative.training.losses import AuxiliaryLoss, Cost, Losses
from harness.generative.training.trainer import Loss, ParameterGroup, TrainingConfig, train
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData


@dataclass(frozen=True, eq=False)
class StageInputs:
    """The model, data and settings that the stages of a method share. `validate(users)`: the model's ndcg@10 on at most
    this many validation users; None if the run must not use validation."""

    model: CodeLM
    prompts: Prompts
    term: AuxiliaryLoss | None
    data: TrainingData
    pools: InstructionDataset
    config: InstructConfig
    precision: Precision
    trie: CodeTrie
    validate: Callable[[int], float] | None = None
    augmentation: Augmentation | None = None  # of the windows of stage 1


@dataclass(frozen=True, eq=False)
class Objective:
    """What a stage minimises: `loss` as `trainer.train` takes it, for `steps` steps, `steps_a_pass` in a pass over the
    data, evaluated after `every` steps where validation chooses. `initial`: the state before the stage is a candidate
    too."""

    loss: Loss
    steps: int
    steps_a_pass: float
    every: int
    callback: Callback | None = None
    initial: bool = False


def unfreeze_vocabulary(model: CodeLM) -> None:
    """Makes the text head a parameter: the embedding if the two are tied, else a parameter of its own."""
    head, rows = model.text_head, model.embedding.weight
    is_tied = head.shape == rows.shape and torch.equal(head, rows)
    del model.text_head
    model.text_head = rows if is_tied else nn.Parameter(head)


@contextmanager
def gradient_checkpointing(body: Any, on: bool) -> Iterator[None]:
    """Recomputes the activations of each block in the backward pass instead of storing them."""
    # "gradient" is its name in older versions of transformers
    kind = "activation" if hasattr(body, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(body, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        if on:
            getattr(body, f"{kind}_checkpointing_disable")()


def run_stage(
    name: str, config: StageConfig, batches: Batches, tuned: StageInputs, context: RunContext
) -> dict[str, Any]:
    """Runs one supervised stage: the loss of responses of the tasks, and the auxiliary loss. Its report is that of
    `train_stage`."""
    losses = Losses(
        tuned.model, tuned.prompts, tuned.term, context.device, config.engine, config.normalise, context.world,
        tuned.trie.on(context.device),
    )  # fmt: skip
    n_items, templates = tuned.data.n_items, tuned.config.tasks.templates

    def loss(step: int, part: int) -> Cost:
        rng = generator(context.seed, name, "step", step, part)
        samples = tuned.term.sample_negatives(n_items, rng) if tuned.term else np.empty(0, np.int64)
        template = int(rng.integers(templates))
        if batches.task(step) == "seqrec":
            return losses.windows(batches.windows(step, part), template, samples)
        return losses.rows(batches.samples(step, part, templates), samples)

    every = max(1, round(config.every * batches.steps_a_pass))
    objective = Objective(loss, batches.steps, batches.steps_a_pass, every)
    return train_stage(name, config, objective, tuned, context)


def train_stage(
    name: str, config: StageConfig, objective: Objective, tuned: StageInputs, context: RunContext
) -> dict[str, Any]:
    """Runs one stage. Its report: `StageResult`, passes over the data, trained parameters of the model, selection."""
    tuned.model.train()
    groups, blocks = _groups(name, config, tuned, context)
    backbone_ids = {id(parameter) for parameter in tuned.model.parameters()}
    trained = {id(p): p.numel() for group in groups for p in group.parameters if id(p) in backbone_ids}
    stopping, validate = None, tuned.validate
    if config.choose == "validation" and validate is not None:
        stopping = EarlyStopping(
            lambda: validate(config.validation_users), objective.every, config.patience, initial=objective.initial
        )
    shared = ("warmup", "floor", "clip", "accumulate", "beta2", "average", "max_seconds")
    settings = {setting: getattr(config, setting) for setting in shared}
    plan = TrainingConfig(name, objective.steps, precision=tuned.precision, **settings)
    with gradient_checkpointing(tuned.model.body, tuned.config.backbone.checkpointing):
        outcome = train(groups, objective.loss, plan, context, stopping, objective.callback)
    blocks.unshard()
    selection = {"selected_on": "last"} if stopping is None else {"selected_on": "validation", **stopping.record()}
    passes = outcome.steps / objective.steps_a_pass
    return {**vars(outcome), "passes": passes, "trainable_parameters": sum(trained.values()), **selection}


def _groups(
    name: str, config: StageConfig, tuned: StageInputs, context: RunContext
) -> tuple[list[ParameterGroup], ShardedBlocks]:
    """Parameter groups: the backbone or an adapter, with its vocabulary if that is trained; the code embeddings; the
    scale of their logits and the auxiliary loss. The backbone's blocks are sharded if configured."""
    model = tuned.model
    if config.adapter:
        seed = derive_seed(context.seed, name, "adapter")
        attach(model.body, rank=config.rank, alpha=config.alpha, dropout=config.dropout, seed=seed)
    else:
        for parameter in model.body.parameters():
            parameter.requires_grad_(True)
    model.embedding.weight.requires_grad_(False)
    blocks = ShardedBlocks(model.body, context.world, context.device)
    body = [parameter for parameter in model.body.parameters() if parameter.requires_grad]
    opened = tuned.config.backbone.vocabulary == "trained"
    words = list({id(rows): rows for rows in (model.embedding.weight, model.text_head)}.values()) if opened else []
    model.embedding.weight.requires_grad_(opened)
    codes = [model.code_in] if model.code_out is model.code_in else [model.code_in, model.code_out]
    extra = [] if tuned.term is None else list(tuned.term.parameters())
    return [
        ParameterGroup([*body, *words], config.learning_rate, config.weight_decay),  # type: ignore[list-item]
        ParameterGroup(codes, config.code_rate, config.weight_decay),
        ParameterGroup([model.scale, *extra], config.code_rate / 3),
    ], blocks
