"""Recipes: how a sequence model is trained on item codes, one stage after the other.

`InstructionTuning` runs the stages of a language model on task samples, with comprehension measured in between. The
one stage of a network over code tokens alone: `PrefixTraining` of an encoder-decoder, on all prefixes of the training
sequences, and `WindowTraining` of a causal transformer, on windows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from harness.core.plugins import warn
from harness.data.dataset import ItemText, require_text
from harness.generative.comprehension import CheckpointScores, Comprehension, sample_items
from harness.generative.config import InstructConfig, StageConfig
from harness.generative.models.heads import SampledRows
from harness.generative.models.lora import merge
from harness.generative.models.readers import PromptBatch
from harness.generative.sequence_models import (
    DecoderOnly,
    EncoderDecoder,
    LanguageModel,
    PrefixTrainingConfig,
    RandomNetwork,
)
from harness.generative.tasks.batching import (
    Augmentation,
    Batches,
    Samples,
    allowed_passes,
    instruction_batches,
    next_items,
    target_tokens,
)
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.item_texts import held_out_items, task_texts
from harness.generative.tokenizers.base import ItemIndex, Vectors
from harness.generative.training.checkpoint import EarlyStopping
from harness.generative.training.losses import AuxiliaryLoss, Cost, Counts, Losses, child_cross_entropy
from harness.generative.training.stages import StageInputs, run_stage
from harness.generative.training.trainer import Loss, ParameterGroup, TrainingConfig, total_steps, train
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext, shard
from harness.protocol.split import TrainingData

FEW_PASSES = 10  # over the samples, below which a warning is printed


@dataclass(frozen=True, eq=False)
class RecipeInputs:
    """What all stages work on, besides the sequence model. `validate(users)` is the ndcg@10 of the model in its current
    state on at most so many validation users; None where the caller offers no validation."""

    data: TrainingData
    index: ItemIndex
    vectors: Vectors
    trie: CodeTrie
    validate: Callable[[int], float] | None = None


class Recipe:
    """Trains the sequence model that it was composed with."""

    def prepare(self, data: TrainingData) -> None:
        """Raises `InputError` for what can be seen to be wrong before anything is loaded or trained. That there are
        sequences to train on is checked for every recipe."""

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        """Runs all stages; gives fields of the run's record."""
        raise NotImplementedError


class TrainingStage(Protocol):
    """One stage of instruction tuning. `checkpoint` names the comprehension scores that are measured after it."""

    name: ClassVar[str]
    checkpoint: ClassVar[CheckpointScores]

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any] | None:
        """The stage's report, as `run_stage` gives it; None where the configuration leaves the stage out."""
        ...


class Alignment:
    """The stage `tuning` with all tasks and the auxiliary loss: trains all weights of the backbone but its vocabulary,
    or with `tuning.adapter` an adapter that is merged at the end."""

    name: ClassVar[str] = "alignment"
    checkpoint: ClassVar[CheckpointScores] = "aligned"

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any]:
        config, stream = inputs.config.tuning, (context.seed, self.name)
        sequences, augmentation = inputs.data.sequences, inputs.augmentation
        batches = instruction_batches(sequences, inputs.pools, config, inputs.config.tasks, stream, augmentation)
        report = run_stage(self.name, config, batches, inputs, context)
        merge(inputs.model.body)
        return report


AuxiliaryFactory = Callable[[LanguageModel, Vectors, RunContext], AuxiliaryLoss | None]
AugmentationFactory = Callable[[RecipeInputs], Augmentation | None]


class InstructionTuning(Recipe):
    """Runs `stages` on the tasks of `config`, with the loss that `auxiliary` makes added to that of responses, and
    with the `augmentation` of training windows."""

    _text: tuple[ItemText, ...]
    _texts: Any

    def __init__(
        self,
        model: LanguageModel,
        config: InstructConfig,
        stages: Sequence[TrainingStage] = (Alignment(),),
        auxiliary: AuxiliaryFactory | None = None,
        augmentation: AugmentationFactory | None = None,
    ) -> None:
        self.model, self.config, self.stages = model, config, stages
        self.auxiliary, self.augmentation = auxiliary, augmentation

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
            inputs.validate, None if self.augmentation is None else self.augmentation(inputs),
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
        trained, unknown = (sample_items(items, mask, limit) for mask in (~held_out, held_out))
        return Comprehension(
            model.network, inputs.trie, model.prompts, model.backbone.tokenizer, self._text, trained, unknown,
            model.precision,
        )  # fmt: skip


NetworkT = TypeVar("NetworkT", bound=RandomNetwork)
MeanLoss = Callable[[list[np.ndarray], np.ndarray, int, int], torch.Tensor]


class CodeTraining(Recipe, Generic[NetworkT]):
    """Base of the one stage of a network over code tokens alone. A sample is one next item: a pass has every item of
    every training sequence but the first of each once as a target. `name` is the stage's in progress, checkpoints and
    events. `run` gives the field `training`."""

    def __init__(self, model: NetworkT, config: PrefixTrainingConfig, name: str) -> None:
        self.model, self.config, self.name = model, config, name

    def passes(self, data: TrainingData) -> float:
        """Passes over all samples that `epochs` and `item_targets` allow."""
        return allowed_passes(data.sequences, self.config.epochs, self.config.item_targets)

    def train(
        self, loss: Loss, steps_a_pass: float, inputs: RecipeInputs, context: RunContext, steps: int,
        others: Sequence[nn.Parameter] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """Trains all weights of the network, and `others`, which only the loss reads; gives the field `training`.
        `loss` is as `trainer.train` takes it."""
        config, network = self.config, self.model.network
        stopping, validate = None, inputs.validate
        if config.choose == "validation" and validate is not None:
            # often enough that `patience` can end a stage at its half
            every = min(max(1, round(config.every * steps_a_pass)), -(-steps // (2 * config.patience)))
            stopping = EarlyStopping(lambda: validate(config.validation_users), every, config.patience)
        if (passes := steps / steps_a_pass) < FEW_PASSES and context.world.rank == 0:
            warn(
                f"{self.name}: {passes:.1f} passes over the samples at most; with fewer than {FEW_PASSES} a network "
                "with random initial weights learns little (epochs, item_targets and max_steps set how many)"
            )
        group = ParameterGroup([*network.parameters(), *others], config.learning_rate, config.weight_decay)
        network.train()
        plan = TrainingConfig(
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
            average=config.average,
        )
        result = train([group], loss, plan, context, stopping)
        selected = {"selected_on": "last"} if stopping is None else {"selected_on": "valid", **stopping.record()}
        counts = {
            "samples": next_items(inputs.data.sequences),
            "steps_a_pass": steps_a_pass,
            "passes": result.steps / steps_a_pass,
        }
        return {"training": {**vars(result), **counts, **selected}}

    def train_prefixes(
        self, mean: MeanLoss, inputs: RecipeInputs, context: RunContext, users: np.ndarray | None = None,
        others: Sequence[nn.Parameter] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """`train` on all prefixes of the training sequences. `mean(histories, items, step, part)` is the mean loss of
        the next `items` after `histories`; `users`: as in `Samples`. The processes share the samples of a part."""
        config, data = self.config, inputs.data
        samples = Samples(data.sequences, data.max_history, config.batch, config.accumulate, context.seed, users)

        def loss(step: int, part: int) -> Cost:
            histories, items = samples.part(step, part)
            shard_rows = shard(context.world, len(items))
            # a process without samples still runs the network once
            rows = shard_rows if len(shard_rows) else np.zeros(1, np.int64)

            def share(counts: Counts) -> torch.Tensor:
                loss = mean([histories[row] for row in rows], items[rows], step, part)
                return loss * (len(shard_rows) / counts[0])

            return Cost((len(items),), share)

        steps = total_steps(self.passes(data), samples.steps, config.max_steps)
        return self.train(loss, samples.steps, inputs, context, steps, others)


class PrefixTraining(CodeTraining[EncoderDecoder]):
    """Of an encoder-decoder: every prefix of a training sequence is encoded for its one next item."""

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        trie = inputs.trie.on(context.device)

        def mean(histories: list[np.ndarray], items: np.ndarray, step: int, part: int) -> torch.Tensor:
            return self._loss(histories, items, trie, context.device)

        return self.train_prefixes(mean, inputs, context, self.model.users)

    def _loss(self, histories: list[np.ndarray], items: np.ndarray, trie: CodeTrie, device: str) -> torch.Tensor:
        """Mean negative log-likelihood a token of the codes of `items`, given `histories`."""
        model, network, rule = self.model, self.model.network, self.config.normalise
        prompts = PromptBatch.of([model.prompt(history) for history in histories], device)
        scores_end = rule == "vocabulary"
        targets = target_tokens(model.prompts.codes[items], device, end=scores_end)
        states = network.states(prompts.ids, prompts.real, targets)
        temperature = self.config.temperature
        if scores_end:
            logits = network.vocabulary_logits(states) / temperature
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

        def level_logits(states: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor:
            return network.level_logits(states, level, sampled) / temperature

        offsets = torch.tensor(network.offsets[:-1], device=device) + network.vocabulary
        digits, prefixes = targets - offsets, trie.prefixes[torch.from_numpy(items).to(device)]
        losses = []
        for level in range(trie.levels):
            predicting, level_digits = states[:, level], digits[:, level]
            if rule == "children":
                cost = child_cross_entropy(trie, level_logits, predicting, level, prefixes[:, level], level_digits)
                losses.append(cost.mean())
            else:
                losses.append(functional.cross_entropy(level_logits(predicting, level), level_digits))
        return torch.stack(losses).mean()


class WindowTraining(CodeTraining[DecoderOnly]):
    """Of a causal transformer: all next items of a window in one pass. Sequences longer than the history that the
    protocol gives are cut into windows of that length at random places, anew each pass (`batching.Batches`); windows
    share rows (`models/packing.py`). A step has about `batch` next items."""

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        config, data = self.config, inputs.data
        stage = StageConfig(
            epochs=self.passes(data),
            max_steps=config.max_steps,
            targets=config.batch * config.accumulate,
            accumulate=config.accumulate,
        )
        batches = Batches(data.sequences, data.max_history + 1, stage, {"seqrec": 1.0}, (context.seed, self.name))
        losses = Losses(
            self.model.network, self.model.prompts, None, context.device, normalise=config.normalise,
            world=context.world, trie=inputs.trie.on(context.device), temperature=config.temperature,
        )  # fmt: skip

        def loss(step: int, part: int) -> Cost:
            return losses.windows(batches.windows(step, part), 0, np.empty(0, np.int64))

        return self.train(loss, batches.steps_a_pass, inputs, context, batches.steps)
