"""`Tasks`: what each step of a stage trains on. The order of steps and the texts of samples, put together."""

from __future__ import annotations

from harness.core.seeding import generator
from harness.data.ragged import Ragged
from harness.generative.config import StageConfig
from harness.generative.task_config import Task, TasksConfig
from harness.generative.tasks.batching import Batches, capped
from harness.generative.tasks.instruction_dataset import Pools
from harness.generative.tasks.prompts import Sample


class Tasks:
    """One stage's tasks, a function of the seed and the step: a resumed stage sees what an undisturbed one sees.

    `batches` says which task a step has and which windows a seqrec step sees; `samples` gives those of the others. Each
    sample draws one of its task's first `templates` for itself. `stream`: the seed and the stage's name.
    """

    def __init__(self, batches: Batches, pools: Pools | None, templates: int, stream: tuple[int, str]) -> None:
        self.batches = batches
        self._pools, self._templates, self._stream = pools, templates, stream

    @classmethod
    def every(
        cls, sequences: Ragged, pools: Pools, stage: StageConfig, config: TasksConfig, stream: tuple[int, str]
    ) -> Tasks:
        """Stage 1: sequential recommendation within its cap, and every text task that has samples."""
        kept = capped(sequences, config.caps.seqrec, generator(stream[0], "cap", "seqrec"))
        weights = pools.weights(stage, int((kept.lengths - 1).clip(min=0).sum()))
        return cls(Batches(kept, config.window, stage, weights, stream, pools.sizes), pools, config.templates, stream)

    @classmethod
    def sequential(cls, sequences: Ragged, stage: StageConfig, config: TasksConfig, stream: tuple[int, str]) -> Tasks:
        """Sequential recommendation alone, without a cap."""
        return cls(Batches(sequences, config.window, stage, {"seqrec": 1.0}, stream), None, config.templates, stream)

    def samples(self, task: Task, step: int, part: int = 0) -> list[Sample]:
        """The samples of one part of a step whose task is `task`, any but seqrec."""
        if self._pools is None or task != self.batches.task(step):
            raise ValueError(f"step {step} is one of {self.batches.task(step)}, not of {task}")
        numbers = self.batches.numbers(step, part)
        seed, name = self._stream
        templates = generator(seed, name, "templates", step, part).integers(self._templates, size=len(numbers))
        return self._pools.samples(task, numbers, templates)
