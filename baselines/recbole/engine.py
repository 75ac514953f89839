"""`Engine`: one RecBole model with its data, in the worker's process: builds it, scores with it, keeps it on disk.

Training is `training`'s business. Item and user ids at this module's surface are ours (positions); RecBole's own ids,
where 0 is padding, stay inside.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.interaction import Interaction
from recbole.utils import get_model, init_seed
from safetensors.torch import load_file, save_file

from baselines.recbole import atomic, patches
from baselines.recbole.exchange import Refusal, read_arrays, read_requests, write_arrays
from baselines.recbole.ranking import best
from harness.data.ragged import Ragged

WEIGHTS, FACTS = "model.safetensors", "recbole.json"


class Engine:
    """`training`: file with `values` and `offsets` of the training sequences. `extra`: names of the settings that came
    from the user, which must be RecBole's. `seed` settles the initial weights."""

    def __init__(
        self, model: str, settings: dict[str, Any], extra: list[str], training: str, n_items: int, run: dict[str, Any]
    ) -> None:
        logging.basicConfig(level=logging.WARNING)
        arrays = read_arrays(Path(training))
        sequences = Ragged(arrays["values"], arrays["offsets"])
        atomic.write(Path.cwd(), sequences, n_items)
        self.config: Any = _config(model, {**settings, **atomic.FIELDS, **_device(run["device"])}, extra)
        self.dataset = create_dataset(self.config)
        self.dataset._change_feat_format()  # RecBole's own augmentation: every prefix becomes a sample
        self.n_users, self.n_items = len(sequences), n_items
        self.items = atomic.positions(self.dataset, atomic.ITEM, n_items)
        self.users = atomic.positions(self.dataset, atomic.USER, self.n_users)
        init_seed(run["seed"], reproducibility=True)
        patches.undo_imports()
        self.model = get_model(model)(self.config, self.dataset).to(self.config["device"])

    def answer(self, command: str, message: dict[str, Any]) -> dict[str, Any]:
        """The commands that need no talk in between."""
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
        """Reads questions, writes `items` and `scores` of the `k` best, shape (n, min(k, n_items))."""
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
    def scores(self, users: np.ndarray, histories: Ragged, first: int) -> torch.Tensor:
        """Scores of every item, in our order, after `histories[first:first + len(users)]`; float32 (n, n_items) on the
        CPU. RecBole's padding item is left out."""
        longest = self.config["MAX_ITEM_LIST_LENGTH"]
        rows = np.zeros((len(users), longest), dtype=np.int64)
        lengths = np.ones(len(users), dtype=np.int64)  # an empty history is read as one padding item
        for row in range(len(users)):
            history = histories[first + row][-longest:]
            rows[row, : len(history)] = self.items[history]
            lengths[row] = max(1, len(history))
        known = (users >= 0) & (users < self.n_users)
        batch = Interaction({
            atomic.USER: torch.from_numpy(np.where(known, self.users[np.where(known, users, 0)], 0)),
            atomic.ITEM + self.config["LIST_SUFFIX"]: torch.from_numpy(rows),
            self.config["ITEM_LIST_LENGTH_FIELD"]: torch.from_numpy(lengths),
        })  # fmt: skip
        self.model.eval()
        scores = self.model.full_sort_predict(batch.to(self.config["device"])).view(len(users), -1)
        return scores[:, torch.from_numpy(self.items).to(scores.device)].float().cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the weights on the CPU."""
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.model.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Weights as safetensors, and what they belong to as JSON."""
        save_file(self.state(), folder / WEIGHTS)
        facts = {"model": self.config["model"], "n_items": self.n_items, "recbole": recbole.__version__}
        (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """What `save` wrote, of the same model over a catalogue of the same size."""
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if (facts["model"], facts["n_items"]) != (self.config["model"], self.n_items):
            what = f"holds {facts['model']} over {facts['n_items']} items"
            mend = f"give one of {self.config['model']} over {self.n_items}"
            raise Refusal(what=what, where=str(folder), mend=mend)
        self.model.load_state_dict(load_file(folder / WEIGHTS))


def _config(model: str, settings: dict[str, Any], extra: list[str]) -> Config:
    known = Config(model=model, dataset=atomic.NAME, config_dict={**_loss(settings), **_devices(settings)})
    names = set(known.final_config_dict) | {name for group in known.parameters.values() for name in group}
    for name in extra:
        if name not in names:
            raise Refusal(name=name, known=sorted(names))
    return Config(model=model, dataset=atomic.NAME, config_dict=settings)


def _loss(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("loss_type", "train_neg_sample_args") if name in settings}


def _devices(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("gpu_id", "use_gpu")}


def _device(name: str) -> dict[str, Any]:
    """RecBole's settings for a torch device name. RecBole writes its `gpu_id` into CUDA_VISIBLE_DEVICES, so the number
    is looked up in what is visible now."""
    kind, _, number = name.partition(":")
    if kind != "cuda":
        return {"use_gpu": False, "gpu_id": ""}
    index = int(number or 0)
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    return {"use_gpu": True, "gpu_id": visible[index] if index < len(visible) else str(index)}
