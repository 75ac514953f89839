"""Trains an engine's model with RecBole's own trainer, which hears the harness's validation score instead of its own.

RecBole keeps its loop, optimiser and early stopping. Added to it: a seed for every epoch, progress, the best weights in
memory, and a state on disk from which a resumed training goes on to the same digits. Runs in the worker's process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_samplers
from recbole.utils import get_trainer, init_seed

from baselines.recbole import checkpoint
from baselines.recbole.engine import Engine
from baselines.recbole.exchange import Link
from harness.seeding import derive_seed

NOTE_SECONDS = 0.5  # between two signs of progress
SEEDS = 2**32  # NumPy's old generator takes no larger seed


@dataclass(frozen=True)
class Order:
    """One training as the harness asks for it. `validation` is a file of requests; `mark` names what is trained, so
    that no other training's state is taken up."""

    seed: int
    mark: str
    max_samples: int | None
    depth: int
    validation: Path | None
    checkpoint: Path | None


def train(engine: Engine, link: Link, order: dict[str, Any]) -> dict[str, Any]:
    """Trains to the end and leaves the best weights in the engine. Returns what belongs in the record."""
    paths = {name: order[name] and Path(order[name]) for name in ("validation", "checkpoint")}
    asked = Order(**{**order, **paths})
    config, dataset = engine.config, engine.dataset
    sampler = create_samplers(config, dataset, [dataset] * 3)[0]
    loader = TrainDataLoader(config, dataset, sampler, shuffle=True)
    base = get_trainer(config["MODEL_TYPE"], config["model"])
    heard: Any = type("HeardTrainer", (Heard, base), {})
    trainer = heard(config, engine.model)
    trainer.prepare(engine, link, asked, loader)
    if not trainer.finished:
        trainer.fit(loader, valid_data=asked.validation, verbose=False, callback_fn=trainer.after_epoch)
    engine.model.load_state_dict(trainer.best)
    return {"epochs": trainer.start_epoch, "best_epoch": trainer.best_epoch, "best_valid": trainer.best_valid}


class Heard:
    """Laid over one of RecBole's trainers: its hooks, with the harness listening."""

    # RecBole's own
    model: Any
    optimizer: Any
    epochs: int
    start_epoch: int
    cur_step: int
    stopping_step: int
    best_valid_score: float

    def prepare(self, engine: Engine, link: Link, order: Order, loader: Any) -> None:
        """Says how long this takes at most, and takes up the state of an interrupted training."""
        self.engine, self.link, self.order, self.loader = engine, link, order, loader
        if order.max_samples is not None:
            self.epochs = max(1, min(self.epochs, order.max_samples // max(1, len(loader.dataset))))
        self.finished, self.best_epoch, self.loss, self.seconds = False, -1, 0.0, 0.0
        self.best = engine.state()
        if order.checkpoint is not None and (stored := checkpoint.latest(order.checkpoint, order.mark)) is not None:
            self._resume(*stored)
        link.note(steps=self.epochs * len(loader), done=self.start_epoch * len(loader), epoch=self.start_epoch)

    @property
    def best_valid(self) -> float | None:
        return self.best_valid_score if np.isfinite(self.best_valid_score) else None

    def _train_epoch(self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False) -> Any:
        seed = derive_seed(self.order.seed, "epoch", epoch_idx) % SEEDS
        init_seed(seed, reproducibility=True)
        train_data.generator.manual_seed(seed)
        begun = said = time.monotonic()
        steps = 0
        inner = loss_func or self.model.calculate_loss

        def heard_loss(interaction: Any) -> Any:
            nonlocal steps, said
            steps += 1
            if time.monotonic() - said > NOTE_SECONDS:
                self.link.note(advance=steps)
                steps, said = 0, time.monotonic()
            return inner(interaction)

        total = super()._train_epoch(train_data, epoch_idx, heard_loss, show_progress)  # type: ignore[misc]
        self.loss = float(np.sum(total)) / len(train_data)
        self.seconds = time.monotonic() - begun
        self.link.note(advance=steps)
        return total

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
            self._store(self.order.checkpoint, epoch)
        self.link.note(epoch=self.start_epoch, loss=self.loss, valid=valid, seconds=self.seconds)

    def _store(self, folder: Path, epoch: int) -> None:
        flat, groups = checkpoint.flat_optimizer(self.optimizer)
        facts = {
            "mark": self.order.mark,
            "finished": self.finished,
            "groups": groups,
            **{name: getattr(self, name) for name in ("start_epoch", "cur_step", "best_epoch", "best_valid")},
        }
        tensors = {"model": self.engine.state(), "best": self.best, "optimizer": flat}
        checkpoint.store(folder, epoch, facts, tensors)

    def _resume(self, facts: dict[str, Any], tensors: dict[str, checkpoint.Tensors]) -> None:
        self.start_epoch, self.cur_step = facts["start_epoch"], facts["cur_step"]
        self.best_epoch, self.finished = facts["best_epoch"], facts["finished"]
        if facts["best_valid"] is not None:
            self.best_valid_score = facts["best_valid"]
        self.model.load_state_dict(tensors["model"])
        self.best = tensors["best"]
        checkpoint.restore_optimizer(self.optimizer, tensors["optimizer"], facts["groups"])

    def _add_hparam_to_tensorboard(self, best_valid_result: Any) -> None:
        """Nobody reads it."""
