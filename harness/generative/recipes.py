"""Recipes: how a sequence model is trained on item codes, one stage after the other.

`InstructionTuning` runs the stages of a language model on task samples, with comprehension measured in between;
`PrefixTraining` is the one stage of an encoder-decoder on all prefixes of the training sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from harness.data.dataset import ItemText, require_text
from harness.generative.comprehension import CheckpointScores, Comprehension, ComprehensionItems, sample_items
from harness.generative.config import InstructConfig
from harness.generative.encoder_decoder_config import PrefixTrainingConfig
from harness.generative.item_codes import CodeTable
from harness.generative.models.readers import PromptBatch
from harness.generative.sequence_models import EncoderDecoder, LanguageModel
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.item_texts import held_out_items, task_texts
from harness.generative.tasks.prefix_samples import Samples, target_tokens
from harness.generative.tokenizers.index import SourceIndex, Vectors
from harness.generative.training.early_stopping import EarlyStopping
from harness.generative.training.losses import AuxiliaryLoss
from harness.generative.training.stages import StageInputs, alignment
from harness.generative.training.step_cost import Cost, Counts
from harness.generative.training.trainer import ParameterGroup, TrainingConfig, train
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.distributed import shard
from harness.protocol.split import TrainingData

MIN_EVALUATIONS = 4  # on validation, however short the training is


@dataclass(frozen=True, eq=False)
class RecipeInputs:
    """What all stages work on, besides the sequence model. `validate(users)` is the ndcg@10 of the model in its current
    state on at most so many validation users; None where the caller offers no validation."""

    data: TrainingData
    index: SourceIndex
    vectors: Vectors
    trie: CodeTrie
    validate: Callable[[int], float] | None = None


class Recipe(Protocol):
    """Trains the sequence model that it was composed with."""

    def prepare(self, data: TrainingData) -> None:
        """Raises `InputError` for what can be seen to be wrong before anything is loaded or trained."""
        ...

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        """Runs all stages; gives fields of the run's record."""
        ...


class TrainingStage(Protocol):
    """One stage of instruction tuning. `checkpoint` names the comprehension scores that are measured after it."""

    @property
    def name(self) -> str: ...

    @property
    def checkpoint(self) -> CheckpointScores: ...

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any] | None:
        """The stage's report, as `run_stage` gives it; None where the configuration leaves the stage out."""
        ...


@dataclass(frozen=True)
class Alignment:
    """Supervised tuning on all tasks."""

    name: str = "alignment"
    checkpoint: CheckpointScores = "aligned"

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any]:
        return alignment(inputs, context)


AuxiliaryFactory = Callable[[LanguageModel, Vectors, RunContext], AuxiliaryLoss | None]


class InstructionTuning:
    """Runs `stages` on the tasks of `config`, with the loss that `auxiliary` makes added to that of responses."""

    _text: tuple[ItemText, ...]
    _texts: Any

    def __init__(
        self,
        model: LanguageModel,
        config: InstructConfig,
        stages: Sequence[TrainingStage] = (Alignment(),),
        auxiliary: AuxiliaryFactory | None = None,
    ) -> None:
        self.model, self.config, self.stages, self.auxiliary = model, config, stages, auxiliary

    def prepare(self, data: TrainingData) -> None:
        """Raises `InputError` for items without text and for a file of generated texts that cannot be read."""
        self._text = tuple(require_text(data.text, data.items, location=data.dataset))
        self._texts = task_texts(data, self._text, self.config.tasks)

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        """The fields `tasks`, `stages` (a report a stage, by name) and `comprehension`."""
        model, config = self.model, self.config
        auxiliary = None if self.auxiliary is None else self.auxiliary(model, inputs.vectors, context)
        samples = InstructionDataset(model.prompts, self._texts, config.tasks, context.seed)
        stage_inputs = StageInputs(
            model.network, model.prompts, auxiliary, inputs.data, samples, config, model.precision, inputs.trie,
            inputs.validate,
        )  # fmt: skip
        comprehension = self._comprehension(inputs)
        comprehension.measure("before", context)
        reports: dict[str, Any] = {}
        for stage in self.stages:
            reports[stage.name] = stage.run(stage_inputs, context)
            if reports[stage.name] is not None:
                comprehension.measure(stage.checkpoint, context)
        return {"tasks": samples.record(), "stages": reports, "comprehension": comprehension.record()}

    def _comprehension(self, inputs: RecipeInputs) -> Comprehension:
        """Questions about some items of the text tasks, and some of those held out from them."""
        model, items, limit = self.model, inputs.data.items, self.config.comprehension.items
        held_out = held_out_items(items, self.config.tasks.held_out)
        known, unknown = (sample_items(items, mask, limit) for mask in (~held_out, held_out))
        questions = ComprehensionItems(self._text, known, unknown)
        return Comprehension(
            model.network, inputs.trie, model.prompts, model.backbone.tokenizer, questions, model.precision
        )


class PrefixTraining:
    """Cross-entropy of the target's code tokens, for every prefix of every training sequence. `name` is the stage's in
    progress, checkpoints and events."""

    def __init__(self, model: EncoderDecoder, config: PrefixTrainingConfig, name: str) -> None:
        self.model, self.config, self.name = model, config, name

    def prepare(self, data: TrainingData) -> None:
        """Whether there are sequences to train on is checked for every recipe."""

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        """The field `training`."""
        config, data, network = self.config, inputs.data, self.model.network
        samples = Samples(
            data.sequences, data.max_history, config.batch, config.accumulate, context.seed, self.model.users
        )
        steps = min(config.epochs * samples.steps, config.max_steps or 1 << 62)
        stopping = self._early_stopping(samples.steps, steps, inputs)
        group = ParameterGroup(list(network.parameters()), config.learning_rate, config.weight_decay)
        network.train()
        loss = self._step_loss(samples, inputs.index.table, context)
        result = train([group], loss, self._training_config(steps), context, stopping)
        selected = {"selected_on": "last"} if stopping is None else {"selected_on": "valid", **stopping.record()}
        report = {**vars(result), "samples": len(samples.targets), "steps_a_pass": samples.steps, **selected}
        return {"training": report}

    def _early_stopping(self, steps_a_pass: int, steps: int, inputs: RecipeInputs) -> EarlyStopping | None:
        config, validate = self.config, inputs.validate
        if config.choose == "last" or validate is None:
            return None
        every = min(max(1, round(config.every * steps_a_pass)), -(-steps // MIN_EVALUATIONS))
        return EarlyStopping(lambda: validate(config.validation_users), every, config.patience)

    def _training_config(self, steps: int) -> TrainingConfig:
        config = self.config
        return TrainingConfig(
            self.name,
            steps,
            warmup=config.warmup,
            warmup_steps=config.warmup_steps,
            schedule="inverse_sqrt" if config.schedule == "inverse_sqrt" else "cosine",
            floor=1.0 if config.schedule == "constant" else 0.0,
            optimiser=config.optimiser,
            clip=config.clip,
            precision=self.model.precision,
            accumulate=config.accumulate,
            beta2=0.999,
        )

    def _step_loss(self, samples: Samples, table: CodeTable, context: RunContext) -> Callable[[int, int], Cost]:
        """The loss of one part of a step, shared among the processes."""

        def loss(step: int, part: int) -> Cost:
            histories, items = samples.part(step, part)
            own = shard(context.world, len(items))
            rows = own if len(own) else np.zeros(1, np.int64)  # a process without samples still runs the network once

            def share(counts: Counts) -> torch.Tensor:
                mean = self._loss([histories[row] for row in rows], items[rows], table, context.device)
                return mean * (len(own) / counts[0])

            return Cost((len(items),), share)

        return loss

    def _loss(self, histories: list[np.ndarray], items: np.ndarray, table: CodeTable, device: str) -> torch.Tensor:
        """Mean negative log-likelihood a token of the codes of `items`, given `histories`."""
        model, network = self.model, self.model.network
        prompts = PromptBatch.of([model.prompt(history) for history in histories], device)
        scores_end = self.config.normalise == "vocabulary"
        targets = target_tokens(model.pieces.codes[items], device, end=scores_end)
        states = network.states(prompts.ids, prompts.real, targets)
        if scores_end:
            return functional.cross_entropy(network.vocabulary_logits(states).flatten(0, 1), targets.flatten())
        codes = torch.from_numpy(table.digits[items]).to(device)
        levels = range(table.levels)
        losses = [functional.cross_entropy(network.level_logits(states[:, n], n), codes[:, n]) for n in levels]
        return torch.stack(losses).mean()
