"""Estimates memory and time of each training stage from shapes only, before anything is loaded.

- A stage that trains all weights costs 6 N operations a token (Kaplan et al. 2020, section 2.1): 2 N forward, 4 N
  backward. An adapter saves the gradients of the weights, 2 N; gradient checkpointing adds a forward, 2 N. N counts the
  weights that a token is multiplied with: blocks and code embeddings, the text head if probabilities are over the
  complete vocabulary, never the table of embeddings.
- Weights, gradients and two moments have the dtype `backbone.storage`; only trained weights have gradients and moments.
- Activations of a block are about 34 values of two bytes a token and unit of width (Korthikanti et al. 2022, table 2,
  without attention scores, which are not stored); with checkpointing the input of each block, and one block.

It is a lower bound: steps are assumed to run at the speed of large matrix products, and nothing else is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eager.config import EagerConfig
from eager.tree_tokenizer import PAPER_K
from harness.core.seeding import generator
from harness.generative.config import StageConfig
from harness.generative.models.backbone import blank_backbone
from harness.generative.models.lora import attach
from harness.generative.models.precision import measured_flops
from harness.generative.tasks.batching import Batches, subsample
from harness.protocol.split import TrainingData

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}
PER_TOKEN = 34  # activations of a block, in units of two bytes a token and unit of width
LEAD = 24  # tokens of a template, about


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters: of the backbone with its head, of its table of embeddings, of that and a head of its own,
    of all code rows; its blocks and their width."""

    backbone: int
    words: int
    vocabulary: int
    codes: int
    blocks: int
    width: int

    def adapter(self, config: EagerConfig, stage: StageConfig) -> int:
        """Numbers of an adapter of this stage's rank."""
        shape = {"rank": stage.rank, "alpha": stage.alpha, "dropout": stage.dropout}
        return sum(p.numel() for p in attach(_blank(config).base_model, **shape, seed=0))


def estimate(config: EagerConfig, data: TrainingData | None, device: str) -> dict[str, Any]:
    """Sizes, this device's speed, and a row a stage; hours are None where no data tell how many tokens there are."""
    config = config.resolved(device)
    precision = config.backbone.precision
    assert precision != "auto", "resolved"
    sizes, speed = sizes_of(config, data), measured_flops(device, precision)
    by_name: dict[str, StageConfig] = {"alignment": config.tuning}
    if config.annealing.enabled:
        by_name["annealing"] = config.annealing
    return {
        "backbone": config.backbone.name,
        "parameters": sizes.backbone + sizes.codes,
        "device": device,
        "precision": precision,
        "flops_per_second": speed,
        "stages": [_stage(name, stage, config, sizes, data, speed) for name, stage in by_name.items()],
    }


def sizes_of(config: EagerConfig, data: TrainingData | None) -> Sizes:
    """Counted on torch's meta device; codes for trees of `k` (without it the smallest that holds the catalogue).
    Without data, tokens of single items (`leaf_tokens=own`) are left out."""
    total = _blank(config)
    words = total.get_input_embeddings().weight.numel()  # type: ignore[union-attr]
    every = sum(p.numel() for p in total.parameters())
    is_tied = total.get_output_embeddings().weight is total.get_input_embeddings().weight  # type: ignore[union-attr]
    index, width = config.index, int(total.config.hidden_size)
    k = (index.k or PAPER_K) if data is None else index.tokens_of_level(data.n_items)
    items = 0 if data is None else data.n_items
    leaves = items if index.own_leaves else k
    tokens = sum(k * (height - 1) + leaves for height in index.heights)
    return Sizes(
        backbone=every,
        words=words,
        vocabulary=words if is_tied else 2 * words,
        codes=(1 if config.backbone.ties_codes(items) else 2) * tokens * width + 1,
        blocks=int(total.config.num_hidden_layers),
        width=width,
    )


def _blank(config: EagerConfig) -> Any:
    return blank_backbone(config.backbone.name, config.backbone.layers, config.backbone.width)


def _stage(
    name: str, stage: StageConfig, config: EagerConfig, sizes: Sizes, data: TrainingData | None, speed: float
) -> dict[str, Any]:
    opened = config.backbone.vocabulary == "trained"
    adapter = sizes.adapter(config, stage) if stage.adapter else 0
    body = adapter or sizes.backbone - sizes.vocabulary
    trained = body + sizes.codes + (sizes.vocabulary if opened else 0)
    lock = BYTES[config.backbone.storage]
    part = _tokens_of_step(stage, config) / stage.accumulate
    block = PER_TOKEN * part * sizes.width * BYTES[str(config.backbone.precision)] / 2
    saved = part * sizes.width * lock * sizes.blocks + block if config.backbone.checkpointing else block * sizes.blocks
    memory = {
        "weights": lock * (sizes.backbone + adapter) + 4 * sizes.codes,
        "gradients": lock * trained,
        "moments": 2 * lock * trained,
        "activations": saved,
    }
    operations = (4 if stage.adapter else 6) + (2 if config.backbone.checkpointing else 0)
    text = sizes.words if stage.normalise == "vocabulary" else 0
    multiplied = sizes.backbone - sizes.vocabulary + sizes.codes // 2 + text  # N
    tokens = None if data is None else _steps(name, stage, config, data) * _tokens_of_step(stage, config)
    return {
        "stage": name,
        "trained": trained,
        **{f"{message}_gib": value / GIB for message, value in memory.items()},
        "total_gib": sum(memory.values()) / GIB,
        "tokens": tokens,
        "hours": None if tokens is None else operations * multiplied * tokens / speed / 3600,
    }


def _tokens_of_step(stage: StageConfig, config: EagerConfig) -> float:
    """Of a step of sequential recommendation: windows share their items but the first."""
    window, levels = config.tasks.window, sum(config.index.heights)
    return stage.targets / (window - 1) * (window * levels) + LEAD


def _steps(name: str, stage: StageConfig, config: EagerConfig, data: TrainingData) -> int:
    """Steps of the stage; with mixing=samples of its sequential recommendation alone."""
    is_alone = name == "annealing"
    rows = (
        data.sequences
        if is_alone
        else subsample(data.sequences, config.tasks.caps.seqrec, generator(0, "cap", "seqrec"))
    )
    steps = Batches(rows, config.tasks.window, stage, {"seqrec": 1.0}, (0, name)).steps
    if is_alone or config.tasks.mixing == "samples":
        return steps
    weights = config.tasks.weights()
    expected = round(steps * sum(weights.values()) / weights["seqrec"])
    return min(expected, stage.max_steps or expected)
