"""`Engine`: one RecBole model with its data in the worker process: builds, scores, saves and loads it.

Item and user ids of its interface are positions in the data set; RecBole's ids (0 is padding) are internal. The top
items of dense scores are selected without sorting the catalogue, ties by item id.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import get_model, init_seed
from safetensors.torch import load_file, save_file

from baselines.library import RemoteError, read_ragged, read_requests, write_arrays
from baselines.recbole import data, patches
from baselines.recbole.data import append_items, padded_left
from baselines.recbole.model_table import recbole_model
from harness.data.ragged import RaggedArray

WEIGHTS, FACTS = "model.safetensors", "recbole.json"


def best(scores: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (int64) and scores (float32) of the `k` best of each row, shape (n, min(k, n_items)).

    Equals a stable sort of the row, which only rows with a tie at the end of their list need.
    """
    k = min(k, scores.shape[1])
    values, items = scores.topk(k, dim=1)
    values, items = values.numpy(), items.numpy()
    order = np.lexsort((items, -values), axis=1)
    items, values = np.take_along_axis(items, order, axis=1), np.take_along_axis(values, order, axis=1)
    for row in np.flatnonzero((scores.numpy() >= values[:, -1:]).sum(axis=1) > k):
        full = scores[row].numpy()
        items[row] = np.argsort(-full, kind="stable")[:k]
        values[row] = full[items[row]]
    return items, values


class Engine:
    """`files`: the training sequences as `training`, and each item feature by name. `extra`: names of settings given by
    the user, which RecBole must have. The seed in `run` determines the initial weights."""

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
        self.entry = recbole_model(model)
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
        patches.undo_imports()
        self.model = get_model(model)(self.config, self.dataset).to(self.config["device"])
        if isinstance(self.config["reg_weight"], list):  # already read; RecBole's optimizer expects a number
            self.config["reg_weight"] = None

    def answer(self, command: str, message: dict[str, Any]) -> dict[str, Any]:
        """Executes the commands that need no dialogue."""
        if command == "recommend":
            self.recommend(Path(message["requests"]), message["k"], Path(message["lists"]))
        elif command == "save":
            self.save(Path(message["folder"]))
        elif command == "load":
            self.load(Path(message["folder"]))
        else:
            raise ValueError(f"unknown command {command!r}")
        return {}

    def size(self) -> dict[str, Any]:
        """Numbers of parameters, and RecBole's version."""
        count = [(parameter.numel(), parameter.requires_grad) for parameter in self.model.parameters()]
        return {
            "parameters": sum(number for number, _ in count),
            "trainable": sum(number for number, trained in count if trained),
            "version": recbole.__version__,
        }

    def recommend(self, requests: Path, k: int, lists: Path) -> None:
        """Reads requests, writes `items` and `scores` of the `k` best, shape (n, min(k, n_items))."""
        users, histories = read_requests(requests)
        step = self.config["eval_batch_size"]
        parts = [
            best(self.scores(users[start : start + step], histories, start), k) for start in range(0, len(users), step)
        ]
        width = min(k, self.n_items)
        items = np.concatenate([np.empty((0, width), np.int64), *(items for items, _ in parts)])
        scores = np.concatenate([np.empty((0, width), np.float32), *(scores for _, scores in parts)])
        write_arrays(lists, items=items, scores=scores)

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
        self.model.eval()
        scores = self.model.full_sort_predict(batch.to(self.config["device"])).view(len(users), -1)
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

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the weights on the CPU."""
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.model.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Weights as safetensors, and their facts as JSON."""
        save_file(self.state(), folder / WEIGHTS)
        facts = {"model": self.config["model"], "n_items": self.n_items, "recbole": recbole.__version__}
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Loads the state of `save`, of the same model over a catalogue of the same size."""
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if (facts["model"], facts["n_items"]) != (self.config["model"], self.n_items):
            message = f"holds {facts['model']} over {facts['n_items']} items"
            hint = f"give one of {self.config['model']} over {self.n_items}"
            raise RemoteError(what=message, where=str(folder), hint=hint, code="incompatible")
        self.model.load_state_dict(load_file(folder / WEIGHTS))


def _config(model: str, settings: dict[str, Any], extra: list[str]) -> Config:
    config = Config(model=model, dataset=data.NAME, config_dict={**_loss(settings), **_devices(settings)})
    names = set(config.final_config_dict) | {name for group in config.parameters.values() for name in group}
    for name in extra:
        if name not in names:
            raise RemoteError(name=name, known=sorted(names))
    return Config(model=model, dataset=data.NAME, config_dict=settings)


def _loss(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("loss_type", "train_neg_sample_args") if name in settings}


def _devices(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("gpu_id", "use_gpu")}


def _device(name: str) -> dict[str, Any]:
    """RecBole's settings for a torch device. RecBole writes `gpu_id` to CUDA_VISIBLE_DEVICES, so that the number is
    looked up among the visible devices."""
    kind, _, number = name.partition(":")
    if kind != "cuda":
        return {"use_gpu": False, "gpu_id": ""}
    index = int(number or 0)
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    return {"use_gpu": True, "gpu_id": visible[index] if index < len(visible) else str(index)}
