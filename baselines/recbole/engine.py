"""`Engine`: one RecBole model with its data in the worker process; `train`: its training by RecBole's trainer, with the
harness's validation score in place of RecBole's. RecBole's ids (0 is padding) are internal.

RecBole's loop, optimizer and early stopping are unchanged. Added are a seed for every epoch, progress, best weights in
memory, and checkpoints from which a resumed training is bit-identical.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.data.utils import create_samplers
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_seed

from baselines.library import Channel, RemoteError, read_ragged
from baselines.recbole import data
from baselines.recbole.data import Batches, MaskedItems, PretrainingData, append_items, padded_left
from baselines.recbole.model_table import recbole_model
from baselines.worker import NOTE_SECONDS, SEEDS, LibraryEngine, Order, TrainingCheckpoint, best
from harness.core.seeding import derive_seed
from harness.data.ragged import RaggedArray


class Engine(LibraryEngine):
    """`files`: the training sequences as `training`, and each item feature by name. `extra`: names of settings given by
    the user, which RecBole must have. The seed in `run` determines the initial weights."""

    library, version = "recbole", recbole.__version__

    def __init__(
        self,
        model: str,
        settings: dict[str, Any],
        extra: list[str],
        files: dict[str, str],
        n_items: int,
        run: dict[str, Any],
    ) -> None:
        logging.basicConfig(level=logging.WARNING)
        self.name, self.entry = model, recbole_model(model)
        self.samples = self.entry.samples
        self.sequences = read_ragged(Path(files.pop("training")))
        features = {name: read_ragged(Path(path)) for name, path in files.items()}
        data.write(Path.cwd(), self.sequences, n_items, features)
        if "selected_features" in settings:  # a data set may have no brands
            settings = {**settings, "selected_features": list(features)}
        self.config: Any = _config(model, {**settings, **data.fields(features), **_device(run["device"])}, extra)
        self.rows, self.lengths = data.ITEM + self.config["LIST_SUFFIX"], self.config["ITEM_LIST_LENGTH_FIELD"]
        self.dataset = create_dataset(self.config)
        self.dataset._change_feat_format()  # RecBole's own augmentation: every prefix becomes a sample
        samples = self.dataset.inter_feat
        if self.samples == "masked":
            rows, lengths = append_items(samples[self.rows], samples[self.lengths], samples[data.ITEM])
            samples.update(Interaction({self.rows: rows, self.lengths: lengths}))
        self._to_left(samples)
        # a masked model needs a place for the mask
        self.longest = self.config["MAX_ITEM_LIST_LENGTH"] - (self.samples == "masked")
        self.n_users, self.n_items = len(self.sequences), n_items
        self.items = data.positions(self.dataset, data.ITEM, n_items)
        self.users = data.positions(self.dataset, data.USER, self.n_users)
        self.transform = construct_transform(self.config)  # before the model, which reads its settings
        init_seed(run["seed"], reproducibility=True)
        model_class = get_model(model)
        # The import of recbole.model.sequential_recommender.sine turns on torch's anomaly detection, which nearly
        # doubles the time of a SASRec step. RecBole's trainer looks at the loss for NaN.
        torch.autograd.set_detect_anomaly(False)
        self.network = model_class(self.config, self.dataset).to(self.config["device"])
        if isinstance(self.config["reg_weight"], list):  # already read; RecBole's optimizer expects a number
            self.config["reg_weight"] = None

    def ranked(self, users: np.ndarray, histories: RaggedArray, k: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(users), min(k, self.n_items))
        items, scores = np.empty(shape, np.int64), np.empty(shape, np.float32)
        step = self.config["eval_batch_size"]
        for start in range(0, len(users), step):
            rows = slice(start, start + step)
            items[rows], scores[rows] = best(self.scores(users[rows], histories, start), k)
        return items, scores

    @torch.no_grad()
    def scores(self, users: np.ndarray, histories: RaggedArray, first: int) -> torch.Tensor:
        """Scores of all items by position after `histories[first:first + len(users)]`; float32 (n, n_items) on the CPU,
        without RecBole's padding item."""
        rows, lengths = self.padded([histories[first + row] for row in range(len(users))], self.longest)
        lengths = lengths.clamp(min=1)  # an empty history is one padding item
        known_mask = (users >= 0) & (users < self.n_users)
        batch = Interaction({
            data.USER: torch.from_numpy(np.where(known_mask, self.users[np.where(known_mask, users, 0)], 0)),
            data.ITEM: torch.ones_like(lengths),  # some models compute a loss, whose item is irrelevant
            self.rows: rows,
            self.lengths: lengths,
        })  # fmt: skip
        self._to_left(batch)
        if self.samples != "masked":
            batch = self.transform(self.dataset, batch)
        self.network.eval()
        scores = self.network.full_sort_predict(batch.to(self.config["device"])).view(len(users), -1)
        return scores[:, torch.from_numpy(self.items).to(scores.device)].float().cpu()

    def padded(self, sequences: Sequence[np.ndarray], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The latest items of each sequence in RecBole's numbering, int64 (n, L), padded with 0 on the right; and their
        numbers."""
        rows = np.zeros((len(sequences), self.config["MAX_ITEM_LIST_LENGTH"]), dtype=np.int64)
        lengths = np.zeros(len(sequences), dtype=np.int64)
        for row, sequence in enumerate(sequences):
            latest = self.items[sequence[-longest:]]
            rows[row, : len(latest)] = latest
            lengths[row] = len(latest)
        return torch.from_numpy(rows), torch.from_numpy(lengths)

    def feature_table(self) -> torch.Tensor:
        """1 where an item (RecBole's number, and one row for the mask) has a feature of the model's one field, float32
        (n_items + 2, n_features)."""
        name = self.config["item_attribute"]
        tokens = self.dataset.get_item_feature()[name]
        table = torch.zeros(len(tokens) + 1, self.dataset.num(name))
        table[: len(tokens)].scatter_(1, tokens, 1.0)
        return table[:, 1:].contiguous().to(self.config["device"])  # without the padding token

    def _to_left(self, batch: Any) -> None:
        """For models that need it: histories padded on the left, with matching lengths, in place."""
        if self.entry.left:
            rows, lengths = batch[self.rows], batch[self.lengths]
            batch.update(Interaction({
                self.rows: padded_left(rows, lengths), self.lengths: torch.full_like(lengths, rows.shape[1])
            }))  # fmt: skip


def _config(model: str, settings: dict[str, Any], extra: list[str]) -> Config:
    needed = ("loss_type", "train_neg_sample_args", "gpu_id", "use_gpu")
    subset = {name: settings[name] for name in needed if name in settings}
    config = Config(model=model, dataset=data.NAME, config_dict=subset)
    names = set(config.final_config_dict) | {name for group in config.parameters.values() for name in group}
    for name in extra:
        if name not in names:
            raise RemoteError(name=name, known=sorted(names))
    return Config(model=model, dataset=data.NAME, config_dict=settings)


def _device(name: str) -> dict[str, Any]:
    """RecBole's settings for a torch device. RecBole writes `gpu_id` to CUDA_VISIBLE_DEVICES, so that the number is
    looked up among the visible devices."""
    kind, _, number = name.partition(":")
    if kind != "cuda":
        return {"use_gpu": False, "gpu_id": ""}
    index = int(number or 0)
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    return {"use_gpu": True, "gpu_id": visible[index] if index < len(visible) else str(index)}


SEED_NAMES = {"train": "epoch", "pretrain": "pretraining epoch"}


def train(engine: Engine, link: Channel, order: Order) -> dict[str, Any]:
    """Trains to the end and leaves the best weights in the engine. Returns what belongs in the record."""
    pretrained = {}
    if engine.samples == "pretrained":
        pretrained = {"pretrain_epochs": _pretrain(engine, link, order)}
    loader = _loader(engine, engine.dataset)
    if engine.samples == "masked":
        loader.transform = MaskedItems(engine.config, engine.rows)
    base = get_trainer(engine.config["MODEL_TYPE"], engine.config["model"])
    trainer = _run(base, engine, link, order, loader)
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
    epochs, network = 0, engine.network
    if engine.config["pretrain_epochs"]:
        network.reconstruct_pretrain_data = PretrainingData(engine.feature_table(), network.mask_ratio)
        path = order.checkpoint and f"{order.checkpoint}/pretraining"
        stage = replace(order, validation=None, checkpoint=path, stage="pretrain")
        loader = _loader(engine, engine.dataset.copy(interaction))
        epochs = _run(Trainer, engine, link, stage, loader, engine.config["pretrain_epochs"]).start_epoch
    network.train_stage, network.loss_fct = "finetune", torch.nn.CrossEntropyLoss()
    return epochs


def _loader(engine: Engine, dataset: Any) -> Any:
    sampler = create_samplers(engine.config, dataset, [dataset] * 3)[0]
    return TrainDataLoader(engine.config, dataset, sampler, shuffle=True)


def _run(base: type, engine: Engine, link: Channel, order: Order, loader: Any, epochs: int | None = None) -> Any:
    """One stage with one of RecBole's trainers; the best weights are in the engine's model afterwards."""
    received: Any = type("HeardTrainer", (HarnessTrainerMixin, base), {})
    trainer = received(engine.config, engine.network)
    trainer.epochs = trainer.epochs if epochs is None else epochs
    trainer.prepare(engine, link, order, loader)
    if not trainer.finished:
        trainer.fit(loader, valid_data=order.validation, verbose=False, callback_fn=trainer.after_epoch)
    engine.network.load_state_dict(trainer.best)
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
        self.best, self.batch, self.summed = engine.state(), 0, 0.0
        self.checkpoint = TrainingCheckpoint(order, engine, self.optimizer, str(engine.config["device"]))
        if (stored := self.checkpoint.load()) is not None:
            facts, self.best = stored
            self.start_epoch, self.cur_step = facts["start_epoch"], facts["cur_step"]
            self.best_epoch, self.finished = facts["best_epoch"], facts["finished"]
            if facts["best_valid"] is not None:
                self.best_valid_score = facts["best_valid"]
            self.batch, self.summed = facts["batch"], facts["summed"]
        steps = len(loader)
        completed = self.start_epoch * steps + self.batch
        link.note(stage=order.stage, steps=self.epochs * steps, done=completed, epoch=self.start_epoch)

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

        batches = Batches(train_data, self.batch, self.checkpoint.restore_random_states, self._within)
        total = super()._train_epoch(batches, epoch_idx, heard_loss, show_progress)  # type: ignore[misc]
        self.loss = (self.summed + float(self.running)) / len(train_data)
        self.batch, self.summed = 0, 0.0
        self.seconds = time.monotonic() - start_time
        self.link.note(advance=steps)
        return total

    def _within(self, number: int) -> None:
        """Between two batches of an epoch."""
        if self.checkpoint.due:
            self._store((number, self.summed + float(self.running)))

    def _valid_epoch(self, valid_data: str, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        """RecBole's hook for its own evaluation; here the harness scores the lists, and the answers stay with it."""
        score = self.order.score(self.engine, self.link)
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
        self._store()
        fields = {"loss": self.loss, "valid": valid, "seconds": self.seconds}
        self.link.note(stage=self.order.stage, epoch=self.start_epoch, **fields)

    def _store(self, inside: tuple[int, float] | None = None) -> None:
        names = ("finished", "start_epoch", "cur_step", "best_epoch", "best_valid")
        self.checkpoint.save({name: getattr(self, name) for name in names}, self.best, inside)

    def _add_hparam_to_tensorboard(self, best_valid_result: Any) -> None:
        """Nobody reads it."""
