"""What `harness bench` measures of this method: one optimiser step's work, both ways, over given histories.

Owns how a step's loss and gradients are computed for the benchmark; timing and printing are `harness.bench`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.core.seeding import derive_seed, generator
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import EMBEDDED, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.precision import Precision, autocast
from harness.generative.models.random_models import RANDOM_LLAMA
from harness.generative.tasks.prompts import Prompts, Sample
from harness.generative.training.losses import Losses
from harness.protocol.context import RunContext

SIZES = (256, 256, 256, 256)  # the paper's codes: two tokens of each of two trees


@dataclass(frozen=True)
class Step:
    """Loss of one step and its gradients by every trained parameter."""

    loss: float
    gradients: dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Training:
    """The same targets both ways. `tokens` are what each way puts through the model, `weights` the numbers that a token
    is multiplied with: 6 operations each for forward and backward."""

    samples: int
    shared: Callable[[], Step]
    plain: Callable[[], Step]
    states: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    logits: Callable[[torch.Tensor], torch.Tensor]
    tokens: dict[str, int]
    weights: int


class TrainingBench:
    """A model over random distinct codes, built once for several sets of histories: SmolLM2, or with `width` a Llama of
    random weights."""

    def __init__(self, n_items: int, layers: int | None, width: int | None, context: RunContext) -> None:
        digits = generator(context.seed, "bench", "codes").choice(np.prod(SIZES), n_items, replace=False)
        table = CodeTable(np.stack(np.unravel_index(digits, SIZES), axis=1), SIZES)
        name = EMBEDDED if width is None else RANDOM_LLAMA
        backbone = load_backbone(name, layers, "pretrained", context, width=width)
        torch.manual_seed(derive_seed(context.seed, "bench", "rows"))
        self.model, self.device = CodeLM(backbone, SIZES).to(context.device).train(), context.device
        self.model.embedding.requires_grad_(False)
        self.shared = Losses(self.model, Prompts(backbone, table), None, context.device)
        self.plain = replace(self.shared, engine="plain")

    def training(self, sequences: Sequence[np.ndarray], batch: int, precision: Precision) -> Training:
        """Every item of `sequences` (item ids) but the first is a target. The plain way sorts the samples by length and
        takes `batch` of them at once; gradients add up over its batches to those of the whole step."""
        samples = sorted(self.plain.alone(sequences, self.plain.prompts.lead()), key=lambda sample: len(sample.ids))
        batches = [samples[i : i + batch] for i in range(0, len(samples), batch)]
        lead = len(self.shared.prompts.lead())
        padded = sum(len(part) * len(part[-1].ids) for part in batches)
        return Training(
            len(samples),
            lambda: self._step([lambda: self.shared.windows(sequences, 0, np.empty(0)).value()], [1.0], precision),
            lambda: self._plain(batches, precision),
            lambda: self._states(sequences),
            torch.no_grad()(self.model.vocabulary_logits),
            {"shared": lead + sum(map(len, sequences)) * len(SIZES), "plain": padded},
            sum(p.numel() for p in self.model.body.parameters() if p.requires_grad and p.ndim == 2),
        )

    def _plain(self, batches: list[list[Sample]], precision: Precision) -> Step:
        total = sum(map(len, batches))
        losses = [lambda part=part: self.plain.rows(part, np.empty(0)).value() for part in batches]
        return self._step(losses, [len(part) / total for part in batches], precision)

    def _step(self, losses: list[Callable[[], torch.Tensor]], shares: list[float], precision: Precision) -> Step:
        self.model.zero_grad(set_to_none=True)
        whole = 0.0
        for loss, share in zip(losses, shares, strict=True):
            with autocast(self.device, precision):
                value = loss() * share
            value.backward()
            whole += float(value.detach())
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        named = self.model.named_parameters()
        return Step(whole, {name: p.grad for name, p in named if p.grad is not None})

    @torch.no_grad()
    def _states(self, sequences: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """The states that predict each response token, both ways, in one order: (tokens, width) each."""
        made = []
        for losses in (self.shared, self.plain):
            read, targets = losses.read_windows(sequences, 0)
            made.append(read[targets.places])
        return made[0], made[1]
