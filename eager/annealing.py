"""Annealing adapter tuning, the second stage: LoRA on the sequential task alone, at an annealed rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eager.config import AnnealingConfig
from harness.generative.models.lora import merge
from harness.generative.tasks.mixing import Tasks
from harness.generative.training.stages import Tuned, run_stage
from harness.protocol.context import RunContext


def annealing(tuned: Tuned, config: AnnealingConfig, context: RunContext) -> dict[str, Any]:
    """LoRA on the projections of attention and MLP, at an annealed rate, on sequential recommendation alone. The
    adapter is merged into the backbone at the end, or with `merge=false` stays on it. Gives what `run_stage` does."""
    tasks = Tasks.sequential(tuned.data.sequences, config, tuned.config.tasks, (context.seed, "annealing"))
    kept = tuned if config.contrast else replace(tuned, term=None)
    report = run_stage("annealing", config, tasks, kept, context)
    if config.merge:
        merge(tuned.model.body)
    return report
