"""The behaviour source: item vectors that a small sequential recommender learns from training interactions alone.

The encoder is a DIN, as in the paper, or a SASRec. The released code cuts its training windows from rows that end with
the validation item, which for most users is the only label, and picks a checkpoint by hand on test items; here nothing
held out is trained on, and validation chooses the pass (`choose`). `windows="released"` shows what that leak is worth.

Items are numbered by their raw ids and rows sorted while training, so that equal training rows give equal vectors bit
for bit in whatever order a source lists users, items and what is held out.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eager.behavior_graph import graph_vectors
from eager.din import DIN
from eager.index_config import BehaviorConfig
from eager.sasrec import SASRec
from harness.core.artifact_cache import CacheEntry, Key
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed, generator
from harness.data.dataset import CanonicalOrder
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.decoding.generate import evenly_spaced
from harness.generative.tokenizers.embeddings import (
    ItemVectors,
    Source,
    artefact,
    cached,
    check_finite,
    load_user_vectors,
    unfinished,
    vectors_key,
)
from harness.generative.training.checkpoint import LoopCheckpointer, random_state, set_random_state
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.split import TrainingData

VERSION = "behavior/3"
SOURCE: Source = "behavior"
METRIC, DEPTH, AT_ONCE = "ndcg@10", 10, 64
SHORTEST = 60  # steps of the shortest schedule: torch divides by the length of its warm-up less one
Encoder = DIN | SASRec


def behavior_vectors(data: TrainingData, config: BehaviorConfig, context: RunContext) -> ItemVectors:
    """Item embedding table of the trained encoder, float32 (n_items, dim); cached in `context.cache`.

    With `choose="validation"` the key covers the validation questions; where the caller offers none, the last pass is
    taken. Raises `InputError` for released windows where the caller shows no validation items.
    """
    leaking = config.windows == "released"
    if config.vectors is not None:
        return load_user_vectors(
            config.vectors, data, declared=leaking, rows=config.vectors_rows, setting="eager.behavior.vectors_rows"
        )
    if leaking and context.validation_items is None:
        raise InputError("released windows need validation items, and none are shown", where="eager.behavior.windows")
    order = CanonicalOrder.of((), data.items)
    rows = _rows(data, order, context.validation_items if leaking else None)
    key = _key(data, rows, order, config, context)

    def make() -> tuple[np.ndarray, dict[str, Any], Provenance]:
        if config.encoder == "graph":
            with context.stage("behaviour vectors"):
                seed = derive_seed(context.seed, "behavior") % (1 << 32)
                values = graph_vectors(rows, data.n_items, config.dim, config.graph, seed)
            return values, {"encoder": "graph"}, Provenance.of(data, VERSION, validation=leaking)
        path = unfinished("behavior", key, context) / "training.safetensors"
        model, details = train(rows, data.n_items, order, config, context, path)
        values = model.item.weight[: data.n_items].detach().float().cpu().numpy()
        check_finite(values, "the behaviour encoder")
        return values, details, Provenance.of(data, VERSION, validation=leaking)

    return cached(SOURCE, key, data.items, context, make)


def behavior_artefacts(data: TrainingData, config: BehaviorConfig, context: RunContext) -> tuple[CacheEntry, ...]:
    """Where `behavior_vectors` would look for its vectors; nowhere where they come from a file. Nothing is made."""
    if config.vectors is not None:
        return ()
    order = CanonicalOrder.of((), data.items)
    rows = _rows(data, order, context.validation_items if config.windows == "released" else None)
    return (artefact(SOURCE, _key(data, rows, order, config, context), context),)


@dataclass(frozen=True)
class BehaviorEmbeddings:
    """The behaviour source as an `EmbeddingSource`."""

    config: BehaviorConfig
    name: Source = SOURCE

    def fit(self, data: TrainingData, context: RunContext) -> ItemVectors:
        """As `behavior_vectors`."""
        return behavior_vectors(data, self.config, context)

    def cache_entries(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """Empty for vectors from a file."""
        return behavior_artefacts(data, self.config, context)


def _key(
    data: TrainingData, rows: list[np.ndarray], order: CanonicalOrder, config: BehaviorConfig, context: RunContext
) -> Key:
    nd_arrays = [np.concatenate([[len(row)], row]) for row in rows]
    parts = {
        "method": VERSION,
        "settings": config.model_dump(mode="json", exclude={"vectors", "vectors_rows"}),
        "rows": fingerprint(np.concatenate(nd_arrays)),
        "validation": _validation_mark(config, order, context),
        "seed": context.seed,
        "device": context.device.partition(":")[0],
    }
    return vectors_key("behaviour vectors", parts, data.items)


def train(
    rows: list[np.ndarray],
    n_items: int,
    order: CanonicalOrder,
    config: BehaviorConfig,
    context: RunContext,
    path: Path | None = None,
) -> tuple[Encoder, dict[str, Any]]:
    """The encoder fitted on `rows` (ids under `order`), and what was measured on the way. `path` is the file from which
    an interrupted training goes on."""
    torch.manual_seed(derive_seed(context.seed, "behavior"))
    model = (DIN if config.encoder == "din" else SASRec)(n_items, config).to(context.device)
    sequences = RaggedArray.of(rows)
    judge = _ValidationTracker(model, order, config, context)
    per_epoch = max(1, -(-len(model.windows(sequences, generator(context.seed, "behavior", 0))) // config.batch))
    steps = config.epochs * per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = max(steps, SHORTEST)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=total, pct_start=0.05)
    keeper = LoopCheckpointer(path, "", model, optimizer, schedule)
    at, draws = 0, None
    if (pair := keeper.restore()) is not None:
        at, draws = int(pair[0]["at"]), pair[0]["draws"]
        judge.restore(pair[0]["judge"], pair[1])
        set_random_state(pair[1], context.device)
    with context.stage("behaviour vectors", steps) as stage:
        stage.advance(at)
        for epoch in range(at // per_epoch, config.epochs):
            rng = generator(context.seed, "behavior", epoch)
            windows = model.windows(sequences, rng)
            chosen = rng.permutation(len(windows))
            if draws is not None:
                rng.bit_generator.state, draws = draws, None
            loss = torch.zeros(())
            for number in range(at % per_epoch, per_epoch):
                if keeper.due:
                    fields, tensors = judge.state()
                    own = {"at": at, "draws": rng.bit_generator.state, "judge": fields}
                    keeper.save(own, {**tensors, **random_state(context.device)})
                at, begin = at + 1, number * config.batch
                batch = torch.from_numpy(windows[chosen[begin : begin + config.batch]]).to(context.device)
                if len(batch) < 2:  # a shifted cut may give fewer windows than the first; one has no batch statistics
                    continue
                loss = model.train().loss(batch, rng)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                if schedule.last_epoch < steps:
                    schedule.step()
                stage.advance(1, loss=float(loss.detach()))
            context.event(stage="behavior", step=epoch + 1, loss=float(loss.detach()), **judge.evaluate(epoch + 1))
            if judge.should_stop:
                break
    return model.eval(), judge.restore_best()


class _ValidationTracker:
    """Looks at validation after each pass, keeps the best state; does nothing where the last pass is to be taken."""

    def __init__(self, model: Encoder, order: CanonicalOrder, config: BehaviorConfig, context: RunContext) -> None:
        self.model, self.order, self.config = model, order, config
        self.validation = context.validation if config.choose == "validation" else None
        self.best, self.kept, self.at, self.passes = -1.0, model.state_dict(), 0, 0

    def evaluate(self, epoch: int) -> dict[str, float]:
        self.passes = epoch
        if self.validation is None:
            return {}
        value = self._measure()
        if value > self.best:
            self.best, self.at = value, epoch
            self.kept = copy.deepcopy(self.model.state_dict())
        return {METRIC: value}

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What has been seen so far, for `restore`."""
        entries = (
            {f"best/{name}": value for name, value in self.kept.items()} if self.at else {}
        )  # else the model itself
        return {"best": self.best, "at": self.at, "passes": self.passes}, entries

    def restore(self, fields: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Takes `state` back."""
        self.best, self.at, self.passes = fields["best"], fields["at"], fields["passes"]
        entries = {name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")}
        self.kept = entries or self.kept

    @property
    def should_stop(self) -> bool:
        return self.validation is not None and self.passes - self.at >= self.config.patience

    def restore_best(self) -> dict[str, Any]:
        """The model takes its best state; what is worth keeping of the choice."""
        if self.validation is None:
            return {"passes": self.passes, "chosen": "last"}
        self.model.load_state_dict(self.kept)
        return {"passes": self.passes, "chosen": self.at, f"valid_{METRIC}": self.best}

    @torch.no_grad()
    def _measure(self) -> float:
        assert self.validation is not None
        requests = self.validation.requests
        current_requests = requests.take(evenly_spaced(len(requests), self.config.validation_users))
        histories, ranks = list(current_requests.histories), self.order.item_ranks
        self.model.eval()
        parts = [
            self.model.scores([ranks[history] for history in histories[begin : begin + AT_ONCE]]).float().cpu().numpy()
            for begin in range(0, len(histories), AT_ONCE)
        ]
        scores = np.concatenate(parts)[:, ranks]
        return self.validation.score(Predictions.best(current_requests.users, scores, DEPTH))[METRIC]


def _rows(data: TrainingData, order: CanonicalOrder, held_out: np.ndarray | None) -> list[np.ndarray]:
    """Training rows under canonical ids, sorted; with `held_out` (n_users,) each ends with that item, where >= 0."""
    rows = [order.item_ranks[row] for row in data.sequences]
    if held_out is not None:
        rows = [
            np.append(row, order.item_ranks[item]) if item >= 0 else row
            for row, item in zip(rows, held_out, strict=True)
        ]
    return sorted((row for row in rows if len(row)), key=lambda row: row.tolist())


def _validation_mark(config: BehaviorConfig, order: CanonicalOrder, context: RunContext) -> str | None:
    """What the choice of a pass depends on; the mark stands for the answers, which nobody here knows."""
    if config.encoder == "graph" or config.choose == "last" or context.validation is None:
        return None
    requests = context.validation.requests
    return fingerprint(
        order.item_ranks[requests.histories.values], requests.histories.offsets, context.validation.digest
    )
