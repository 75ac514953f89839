"""Training by RecBole's trainer, with the harness's validation score in place of RecBole's.

RecBole's loop, optimizer and early stopping are unchanged. Added are a seed for every epoch, progress, best weights in
memory, and checkpoints from which a resumed training is bit-identical. Runs in the worker process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers
from recbole.trainer import Trainer
from recbole.utils import get_trainer, init_seed

from baselines.library import Channel
from baselines.recbole import checkpoint, data
from baselines.recbole.data import MaskedItems, PretrainingData
from baselines.recbole.engine import Engine
from harness.core.seeding import derive_seed
from harness.core.timer import CheckpointTimer
from harness.generative.training.checkpoint import Tensors, flat_optimizer, restore_optimizer

NOTE_SECONDS = 0.5  # between two signs of progress
SEED_NAMES = {"train": "epoch", "pretrain": "pretraining epoch"}
SEEDS = 2**32  # NumPy's old generator takes no larger seed


@dataclass(frozen=True)
class Order:
    """One training as the harness asks for it. `validation` is a file of requests; `mark` names what is trained, so
    that no other training's state is taken up. `stage` is `train` or `pretrain`. A state is kept after each epoch, and
    within one after `keep_seconds`."""

    seed: int
    mark: str
    max_samples: int | None
    depth: int
    validation: Path | None
    checkpoint: Path | None
    stage: str = "train"
    keep_seconds: float | None = None


def train(engine: Engine, link: Channel, order: dict[str, Any]) -> dict[str, Any]:
    """Trains to the end and leaves the best weights in the engine. Returns what belongs in the record."""
    paths = {name: order[name] and Path(order[name]) for name in ("validation", "checkpoint")}
    current_order = Order(**{**order, **paths})
    pretrained = {}
    if engine.samples == "pretrained":
        pretrained = {"pretrain_epochs": _pretrain(engine, link, current_order)}
    loader = _loader(engine, engine.dataset)
    if engine.samples == "masked":
        loader.transform = MaskedItems(engine.config, engine.rows)
    base = get_trainer(engine.config["MODEL_TYPE"], engine.config["model"])
    trainer = _run(base, engine, link, current_order, loader)
    return {
        **pretrained,
        "epochs": trainer.start_epoch,
        "best_epoch": trainer.best_epoch,
        "best_valid": trainer.best_valid,
    }


def _pretrain(engine: Engine, link: Channel, order: Order) -> int:
    """S3Rec's first stage, on each user's whole sequence; then the same network, its weights in memory, is set to what
    RecBole calls fine-tuning. Returns the number of epochs."""
    rows, lengths = engine.padded([sequence for sequence in engine.sequences if len(sequence)], engine.longest)
    users = torch.from_numpy(engine.users[engine.sequences.lengths > 0])
    interaction = Interaction({data.USER: users, data.ITEM: rows[:, 0], engine.rows: rows, engine.lengths: lengths})
    epochs = 0
    if engine.config["pretrain_epochs"]:
        engine.model.reconstruct_pretrain_data = PretrainingData(engine.feature_table(), engine.model.mask_ratio)
        path = order.checkpoint and order.checkpoint / "pretraining"
        stage = replace(order, validation=None, checkpoint=path, stage="pretrain")
        loader = _loader(engine, engine.dataset.copy(interaction))
        epochs = _run(Trainer, engine, link, stage, loader, engine.config["pretrain_epochs"]).start_epoch
    engine.model.train_stage, engine.model.loss_fct = "finetune", torch.nn.CrossEntropyLoss()
    return epochs


def _loader(engine: Engine, dataset: Any) -> Any:
    sampler = create_samplers(engine.config, dataset, [dataset] * 3)[0]
    return TrainDataLoader(engine.config, dataset, sampler, shuffle=True)


def _run(base: type, engine: Engine, link: Channel, order: Order, loader: Any, epochs: int | None = None) -> Any:
    """One stage with one of RecBole's trainers; the best weights are in the engine's model afterwards."""
    received: Any = type("HeardTrainer", (HarnessTrainerMixin, base), {})
    trainer = received(engine.config, engine.model)
    trainer.epochs = trainer.epochs if epochs is None else epochs
    trainer.prepare(engine, link, order, loader)
    if not trainer.finished:
        trainer.fit(loader, valid_data=order.validation, verbose=False, callback_fn=trainer.after_epoch)
    engine.model.load_state_dict(trainer.best)
    return trainer


class HarnessTrainerMixin:
    """Laid over one of RecBole's trainers: its hooks, with the harness listening."""

    # RecBole's own
    model: Any
    optimizer: Any
    epochs: int
    start_epoch: int
    cur_step: int
    stopping_step: int
    best_valid_score: float

    def prepare(self, engine: Engine, link: Channel, order: Order, loader: Any) -> None:
        """Says how long this takes at most, and takes up the state of an interrupted training."""
        self.engine, self.link, self.order, self.loader = engine, link, order, loader
        if order.max_samples is not None:
            self.epochs = max(1, min(self.epochs, order.max_samples // max(1, len(loader.dataset))))
        self.finished, self.best_epoch, self.loss, self.seconds = False, -1, 0.0, 0.0
        self.best, self.batch, self.summed, self.drawn = engine.state(), 0, 0.0, None
        self.pace = CheckpointTimer(order.keep_seconds)
        if order.checkpoint is not None and (stored := checkpoint.latest(order.checkpoint, order.mark)) is not None:
            self._resume(*stored)
        steps = len(loader)
        done = self.start_epoch * steps + self.batch
        link.note(stage=order.stage, steps=self.epochs * steps, done=done, epoch=self.start_epoch)

    @property
    def best_valid(self) -> float | None:
        return self.best_valid_score if np.isfinite(self.best_valid_score) else None

    def _train_epoch(self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False) -> Any:
        seed = derive_seed(self.order.seed, SEED_NAMES[self.order.stage], epoch_idx) % SEEDS
        init_seed(seed, reproducibility=True)
        train_data.generator.manual_seed(seed)
        start_time = last_message = time.monotonic()
        steps = 0
        inner = loss_func or self.model.calculate_loss
        self.running: Any = 0.0

        def heard_loss(interaction: Any) -> Any:
            nonlocal steps, last_message
            steps += 1
            if time.monotonic() - last_message > NOTE_SECONDS:
                self.link.note(advance=steps)
                steps, last_message = 0, time.monotonic()
            losses = inner(interaction)
            parts = losses if isinstance(losses, tuple) else (losses,)
            self.running = self.running + torch.stack([part.detach() for part in parts]).sum()
            return losses

        batches = checkpoint.Batches(train_data, self.batch, self._redraw, self._within)
        total = super()._train_epoch(batches, epoch_idx, heard_loss, show_progress)  # type: ignore[misc]
        self.loss = (self.summed + float(self.running)) / len(train_data)
        self.batch, self.summed = 0, 0.0
        self.seconds = time.monotonic() - start_time
        self.link.note(advance=steps)
        return total

    def _redraw(self) -> None:
        """A continued epoch has come to where it stopped: so do all generators."""
        assert self.drawn is not None
        facts, tensors = self.drawn
        checkpoint.set_draws(facts, tensors, str(self.engine.config["device"]))

    def _within(self, number: int) -> None:
        """Between two batches of an epoch."""
        if self.order.checkpoint is not None and self.pace.due:
            facts, tensors = checkpoint.rng_state(str(self.engine.config["device"]))
            inside = {"batch": number, "summed": self.summed + float(self.running), "draws": facts}
            self._store(self.order.checkpoint, inside, tensors)

    def _valid_epoch(self, valid_data: Path, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        """RecBole's hook for its own evaluation; here the harness scores the lists, and the answers stay with it."""
        lists = Path.cwd() / "valid-lists.npz"
        self.engine.recommend(valid_data, self.order.depth, lists)
        score = float(self.link.ask(lists=str(lists))["score"])
        return score, {"score": score}

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """RecBole calls it for a new best epoch, and for every epoch where nothing is validated."""
        self.best, self.best_epoch = self.engine.state(), epoch + 1
        if self.order.validation is None:
            self.after_epoch(epoch, None)

    def after_epoch(self, epoch: int, valid: float | None) -> None:
        """The last word on an epoch: reported, and kept for a resumed training."""
        self.start_epoch = epoch + 1
        self.finished = self.cur_step > self.stopping_step or self.start_epoch >= self.epochs
        if self.order.checkpoint is not None:
            self._store(self.order.checkpoint, {"batch": 0, "summed": 0.0, "draws": None}, {})
        fields = {"loss": self.loss, "valid": valid, "seconds": self.seconds}
        self.link.note(stage=self.order.stage, epoch=self.start_epoch, **fields)

    def _store(self, folder: Path, inside: dict[str, Any], draws: Tensors) -> None:
        flat, groups = flat_optimizer(self.optimizer)
        facts = {
            "mark": self.order.mark,
            "finished": self.finished,
            "groups": groups,
            **inside,
            **{name: getattr(self, name) for name in ("start_epoch", "cur_step", "best_epoch", "best_valid")},
        }
        parts = {"model": self.engine.state(), "best": self.best, "optimizer": flat, "draws": draws}
        with self.pace.timed():
            checkpoint.store(folder, facts, parts)

    def _resume(self, facts: dict[str, Any], tensors: dict[str, Tensors]) -> None:
        self.start_epoch, self.cur_step = facts["start_epoch"], facts["cur_step"]
        self.best_epoch, self.finished = facts["best_epoch"], facts["finished"]
        if facts["best_valid"] is not None:
            self.best_valid_score = facts["best_valid"]
        self.model.load_state_dict(tensors["model"])
        self.best = tensors["best"]
        restore_optimizer(self.optimizer, tensors.get("optimizer", {}), facts["groups"])
        self.batch, self.summed = facts["batch"], facts["summed"]
        self.drawn = facts["draws"] and (facts["draws"], tensors["draws"])

    def _add_hparam_to_tensorboard(self, best_valid_result: Any) -> None:
        """Nobody reads it."""
