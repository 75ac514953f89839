"""Training of an engine's model, with the harness's validation score after each epoch.

RecTools trains with Lightning, whose checkpoints are pickles and which resumes at the start of an epoch; this loop
takes the same steps (Adam at a constant rate) with checkpoints from which a resumed training is bit-identical. Runs in
the worker process.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.library import Channel
from baselines.recbole import checkpoint
from baselines.rectools.engine import Engine
from harness.core.seeding import derive_seed
from harness.core.timer import CheckpointTimer
from harness.generative.training.checkpoint import flat_optimizer, restore_optimizer

NOTE_SECONDS = 0.5  # between two progress messages
SEEDS = 2**32  # NumPy's old generator takes no larger seed


@dataclass(frozen=True)
class Order:
    """One training requested by the harness. `validation` is a file of requests; `mark` identifies the training, so
    that the checkpoint of another one is not used. A checkpoint is written after each epoch, and within an epoch after
    `keep_seconds`.
    """

    seed: int
    mark: str
    max_samples: int | None
    depth: int
    validation: Path | None
    checkpoint: Path | None
    keep_seconds: float | None
    epochs: int
    patience: int


def train(engine: Engine, link: Channel, order: dict[str, Any]) -> dict[str, Any]:
    """Trains to the end and leaves the best weights in the engine. Returns the entries for the record."""
    paths = {name: order[name] and Path(order[name]) for name in ("validation", "checkpoint")}
    training = Training(engine, link, Order(**{**order, **paths}))
    training.run()
    return {"epochs": training.epoch, "best_epoch": training.best_epoch, "best_valid": training.best_valid}


class Training:
    """The state of one training: `epoch` epochs are done, and `batch` batches of the next one."""

    def __init__(self, engine: Engine, link: Channel, order: Order) -> None:
        self.engine, self.link, self.order = engine, link, order
        self.sessions = engine.sessions()
        self.batches = -(-len(self.sessions) // engine.batch_size)
        self.epochs = order.epochs
        if order.max_samples is not None:
            shared = engine.preparator.train_session_max_len_addition
            targets = sum(len(session) - shared for session in self.sessions)
            self.epochs = max(1, min(self.epochs, order.max_samples // targets))
        self.optimizer = engine.module.configure_optimizers()
        self.epoch, self.batch, self.summed, self.waited, self.finished = 0, 0, 0.0, 0, False
        self.best, self.best_epoch, self.best_valid = engine.state(), 0, None
        self.drawn: tuple[dict[str, Any], dict[str, torch.Tensor]] | None = None
        self.pace = CheckpointTimer(order.keep_seconds)
        if order.checkpoint is not None and (stored := checkpoint.latest(order.checkpoint, order.mark)) is not None:
            self._resume(*stored)

    def run(self) -> None:
        """Trains the remaining epochs; the best weights are in the engine afterwards."""
        done = self.epoch * self.batches + self.batch
        self.link.note(stage="train", steps=self.epochs * self.batches, done=done, epoch=self.epoch)
        while not self.finished:
            start_time = time.monotonic()
            loss = self._epoch()
            seconds = time.monotonic() - start_time
            valid = self._judge()
            if self.order.checkpoint is not None:
                self._store(self.order.checkpoint, None)
            self.link.note(stage="train", epoch=self.epoch, loss=loss, valid=valid, seconds=seconds)
        self.engine.network.load_state_dict(self.best)

    def _epoch(self) -> float:
        """One pass over all sessions in an order of its own; the mean loss of its batches."""
        seed = derive_seed(self.order.seed, "epoch", self.epoch) % SEEDS
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        order = np.random.default_rng(seed).permutation(len(self.sessions))
        if self.drawn is not None:
            checkpoint.set_draws(*self.drawn, self.engine.device)
            self.drawn = None
        self.engine.network.train()
        running, message, reported = torch.zeros((), device=self.engine.device), time.monotonic(), self.batch
        size = self.engine.batch_size
        for number in range(self.batch, self.batches):
            if self.order.checkpoint is not None and number > self.batch and self.pace.due:
                self._store(self.order.checkpoint, (number, self.summed + float(running)))
            self.optimizer.zero_grad()
            loss = self.engine.loss([self.sessions[row] for row in order[number * size : (number + 1) * size]])
            if loss is not None:
                loss.backward()
                self.optimizer.step()
                running += loss.detach()
            if time.monotonic() - message > NOTE_SECONDS or number + 1 == self.batches:
                self.link.note(advance=number + 1 - reported)
                message, reported = time.monotonic(), number + 1
        mean = (self.summed + float(running)) / self.batches
        self.epoch, self.batch, self.summed = self.epoch + 1, 0, 0.0
        return mean

    def _judge(self) -> float | None:
        """Scores the current weights by the harness; keeps the best ones (ties: the later epoch; without validation:
        the last epoch) and returns whether training is over."""
        valid = None
        if self.order.validation is not None:
            lists = Path.cwd() / "valid-lists.npz"
            self.engine.recommend(self.order.validation, self.order.depth, lists)
            valid = float(self.link.ask(lists=str(lists))["score"])
        if valid is None or self.best_valid is None or valid >= self.best_valid:
            self.best, self.best_epoch, self.best_valid, self.waited = self.engine.state(), self.epoch, valid, 0
        else:
            self.waited += 1
        self.finished = self.epoch >= self.epochs or self.waited > self.order.patience
        return valid

    def _store(self, folder: Path, inside: tuple[int, float] | None) -> None:
        """Writes the checkpoint between two epochs, or `inside` one: batches done and the sum of their losses."""
        facts, draws = checkpoint.rng_state(self.engine.device) if inside else (None, {})
        batch, summed = inside or (0, 0.0)
        flat, groups = flat_optimizer(self.optimizer)
        names = ("finished", "waited", "best_epoch", "best_valid")
        fields = {"mark": self.order.mark, "groups": groups, "start_epoch": self.epoch, "draws": facts}
        fields |= {"batch": batch, "summed": summed, **{name: getattr(self, name) for name in names}}
        parts = {"model": self.engine.state(), "best": self.best, "optimizer": flat, "draws": draws}
        with self.pace.timed():
            checkpoint.store(folder, fields, parts)

    def _resume(self, facts: dict[str, Any], tensors: dict[str, dict[str, torch.Tensor]]) -> None:
        self.epoch, self.batch, self.summed = facts["start_epoch"], facts["batch"], facts["summed"]
        self.finished, self.waited = facts["finished"], facts["waited"]
        self.best, self.best_epoch, self.best_valid = tensors["best"], facts["best_epoch"], facts["best_valid"]
        self.engine.network.load_state_dict(tensors["model"])
        restore_optimizer(self.optimizer, tensors.get("optimizer", {}), facts["groups"])
        self.drawn = facts["draws"] and (facts["draws"], tensors["draws"])
