"""Behaviour vectors: item embeddings of a small sequential recommender trained on training interactions only.

The encoder is a DIN, as in the paper, or a SASRec. The released code takes its training windows from rows that end with
the validation item, which for most users is the only label, and selects a checkpoint by test items. Here no held-out
item is trained on, and validation selects the epoch (`choose`); `windows="released"` measures the effect of that leak.

During training items are numbered by raw ids and rows are sorted, so that equal training rows give bit-identical
vectors for any order of users and items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from eager.behavior_models import DIN, BehaviorConfig, SASRec
from harness.core.artifact_cache import Key
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed, generator
from harness.data.dataset import CanonicalOrder
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.decoding.generate import evenly_spaced
from harness.generative.tokenizers.embeddings import (
    EmbeddingSource,
    ItemVectors,
    Source,
    check_finite,
    unfinished,
    vectors_key,
)
from harness.generative.tokenizers.item_graph import graph_vectors
from harness.generative.training.checkpoint import Callback, EarlyStopping, random_state, set_random_state
from harness.generative.training.trainer import ParameterGroup, TrainingConfig, train
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext, Validation
from harness.protocol.predictions import Predictions
from harness.protocol.split import TrainingData

VERSION = "behavior/3"
METRIC, DEPTH, AT_ONCE = "ndcg@10", 10, 64
Encoder = DIN | SASRec


@dataclass(frozen=True)
class BehaviorEmbeddings(EmbeddingSource[BehaviorConfig]):
    """Item embedding table of the trained encoder, float32 (n_items, dim). With `choose="validation"` the key covers
    the validation requests; without validation the last epoch is used."""

    config: BehaviorConfig

    name: ClassVar[Source] = "behavior"
    setting: ClassVar[str] = "eager.behavior"

    @property
    def leaking(self) -> bool:
        return self.config.windows == "released"

    def fit(self, data: TrainingData, context: RunContext) -> ItemVectors:
        """Raises `InputError` for released windows without validation items."""
        if self.leaking and self.config.vectors is None and context.validation_items is None:
            message = "released windows need validation items, and the run has none"
            raise InputError(message, where="eager.behavior.windows")
        return super().fit(data, context)

    def key(self, data: TrainingData, context: RunContext) -> Key:
        order, rows = self._rows(data, context)
        length_prefixed = [np.concatenate([[len(row)], row]) for row in rows]
        parts = {
            "method": VERSION,
            "settings": self.config.model_dump(mode="json", exclude={"vectors", "vectors_rows"}),
            "rows": fingerprint(np.concatenate(length_prefixed)),
            "validation": _validation_mark(self.config, order, context),
            "seed": context.seed,
            "device": context.device.partition(":")[0],
        }
        return vectors_key("behaviour vectors", parts, data.items)

    def make(self, data: TrainingData, context: RunContext) -> tuple[np.ndarray, dict[str, Any], Provenance]:
        config, (order, rows) = self.config, self._rows(data, context)
        provenance = Provenance.of(data, VERSION, validation=self.leaking)
        if config.encoder == "graph":
            with context.stage("behaviour vectors"):
                seed = derive_seed(context.seed, "behavior") % (1 << 32)
                values = graph_vectors(rows, data.n_items, config.dim, config.graph, seed)
            return values, {"encoder": "graph"}, provenance
        folder = unfinished(self.name, self.key(data, context), context)
        model, details = train_encoder(rows, data.n_items, order, config, replace(context, checkpoint=folder))
        values = model.item.weight[: data.n_items].detach().float().cpu().numpy()
        check_finite(values, "the behaviour encoder")
        return values, details, provenance

    def _rows(self, data: TrainingData, context: RunContext) -> tuple[CanonicalOrder, list[np.ndarray]]:
        """Training rows under canonical ids, sorted; with released windows each ends with the user's validation item,
        where there is one."""
        order = CanonicalOrder.of((), data.items)
        rows = [order.item_ranks[row] for row in data.sequences]
        if self.leaking and context.validation_items is not None:
            rows = [
                np.append(row, order.item_ranks[item]) if item >= 0 else row
                for row, item in zip(rows, context.validation_items, strict=True)
            ]
        return order, sorted((row for row in rows if len(row)), key=lambda row: row.tolist())


def train_encoder(
    rows: list[np.ndarray], n_items: int, order: CanonicalOrder, config: BehaviorConfig, context: RunContext
) -> tuple[Encoder, dict[str, Any]]:
    """The encoder fitted on `rows` (ids under `order`), the number of epochs, the selected one, its metric."""
    torch.manual_seed(derive_seed(context.seed, "behavior"))
    model = (DIN if config.encoder == "din" else SASRec)(n_items, config).to(context.device)
    epochs = _Epochs(model, RaggedArray.of(rows), config, context)
    validation = context.validation if config.choose == "validation" else None
    stopping = None
    if validation is not None:
        stopping = EarlyStopping(lambda: _validate(model, order, validation, config), epochs.length, config.patience)
    plan = TrainingConfig(
        stage="behavior",
        steps=config.epochs * epochs.length,
        schedule="one_cycle",
        beta2=0.999,
        fused=False,
        reseed=False,
        title="behaviour vectors",
    )
    group = ParameterGroup(list(model.parameters()), config.learning_rate, config.weight_decay)
    result = train([group], epochs.loss, plan, context, stopping, epochs)
    count = result.steps // epochs.length
    if stopping is None:
        return model.eval(), {"passes": count, "chosen": "last"}
    step, value = stopping.best
    return model.eval(), {"passes": count, "chosen": step // epochs.length, f"valid_{METRIC}": value}


class _Epochs(Callback):
    """Batches of each epoch: new windows in random order. Negatives use the same random generator, dropout torch's, so
    that a checkpoint has the states of both."""

    def __init__(self, model: Encoder, sequences: RaggedArray, config: BehaviorConfig, context: RunContext) -> None:
        self.model, self.sequences, self.batch = model, sequences, config.batch
        self.seed, self.device, self.buffers = context.seed, context.device, list(model.buffers())
        self._begin(0)
        self.length = max(1, -(-len(self._windows) // self.batch))  # steps of an epoch

    def loss(self, step: int, part: int) -> torch.Tensor | None:
        """The loss of one batch; None if fewer than two windows are left, which have no batch statistics: an epoch's
        windows may be fewer than those of the first."""
        number = step % self.length
        if not number:
            self._begin(step // self.length)
        batch = self._windows[self._order[number * self.batch : (number + 1) * self.batch]]
        if len(batch) < 2:
            return None
        return self.model.train().loss(torch.from_numpy(batch).to(self.device), self._rng)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The epoch and the states of its random generators."""
        return {"epoch": self._epoch, "rng": self._rng.bit_generator.state}, random_state(self.device)

    def load_state_dict(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Loads what `state_dict` returned: windows and order of the epoch are sampled again."""
        self._begin(facts["epoch"])
        self._rng.bit_generator.state = facts["rng"]
        set_random_state(tensors, self.device)

    def _begin(self, epoch: int) -> None:
        self._epoch, self._rng = epoch, generator(self.seed, "behavior", epoch)
        self._windows = self.model.windows(self.sequences, self._rng)
        self._order = self._rng.permutation(len(self._windows))


@torch.no_grad()
def _validate(model: Encoder, order: CanonicalOrder, validation: Validation, config: BehaviorConfig) -> float:
    """ndcg@10 over some of the validation users."""
    requests = validation.requests.take(evenly_spaced(len(validation.requests), config.validation_users))
    histories, ranks = list(requests.histories), order.item_ranks
    model.eval()
    parts = [
        model.scores([ranks[history] for history in histories[begin : begin + AT_ONCE]]).float().cpu().numpy()
        for begin in range(0, len(histories), AT_ONCE)
    ]
    scores = np.concatenate(parts)[:, ranks]
    return validation.score(Predictions.best(requests.cases, scores, DEPTH))[METRIC]


def _validation_mark(config: BehaviorConfig, order: CanonicalOrder, context: RunContext) -> str | None:
    """Hash of what the selection of an epoch depends on; `digest`: hash of the held-out items."""
    if config.encoder == "graph" or config.choose == "last" or context.validation is None:
        return None
    requests = context.validation.requests
    return fingerprint(
        order.item_ranks[requests.histories.values], requests.histories.offsets, context.validation.digest
    )
