"""`Engine`: one RecTools transformer with its data in the worker process; `train`: its training.

RecTools provides the network, the samples, the negatives and the loss. Item ids of the interface are positions in the
data set; RecTools' ids, whose first are padding (and a mask), are internal. All items of the catalogue have embeddings,
so that items without training interactions can be ranked.

RecTools trains with Lightning, whose checkpoints are pickles and which resumes at the start of an epoch; the loop here
takes the same steps (Adam at a constant rate) with checkpoints from which a resumed training is bit-identical, and with
the harness's validation score after each epoch.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rectools.models
import torch
from pydantic import ValidationError
from rectools.dataset import IdMap
from rectools.dataset.dataset import DatasetSchema
from rectools.models.nn.transformers.similarity import DistanceSimilarityModule
from rectools.version import VERSION
from scipy import sparse
from torch.nn import functional

from baselines.library import Channel, RemoteError, read_ragged
from baselines.worker import NOTE_SECONDS, SEEDS, LibraryEngine, Order, TrainingCheckpoint, best
from harness.core.seeding import derive_seed
from harness.data.ragged import RaggedArray

ROWS = 4  # places scored at once; their candidates fit a core's cache
GROUPS = 4  # a batch is processed in this many groups of similar lengths, to reduce padding


class SampledSimilarity(DistanceSimilarityModule):
    """Scores sampled candidates without a vector for each candidate of each position, which dominates a step of
    RecTools' module on a CPU."""

    def _get_pos_neg_logits(
        self, session_embs: torch.Tensor, item_embs: torch.Tensor, candidate_item_ids: torch.Tensor
    ) -> torch.Tensor:
        if session_embs.device.type != "cpu":
            return super()._get_pos_neg_logits(session_embs, item_embs, candidate_item_ids)
        places = candidate_item_ids.shape[:-1]
        candidates = candidate_item_ids.reshape(-1, candidate_item_ids.shape[-1])
        return _Sampled.apply(session_embs.reshape(len(candidates), -1), item_embs, candidates).view(*places, -1)


class _Sampled(torch.autograd.Function):
    """`states` (n, width) times the rows of `table` (items, width) that `candidates` (n, c) names: (n, c)."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, table: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(states, table, candidates)
        scores = states.new_empty(candidates.shape)
        for begin in range(0, len(states), ROWS):
            rows = slice(begin, begin + ROWS)
            torch.bmm(functional.embedding(candidates[rows], table), states[rows, :, None], out=scores[rows, :, None])
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        states, table, candidates = ctx.saved_tensors
        (of_scores,) = gradients
        of_scores = of_scores.contiguous()
        of_states = functional.embedding_bag(candidates, table, per_sample_weights=of_scores, mode="sum")
        # the transposed product: each item sums the states of the places that have it as candidate
        shape, ends = (len(candidates), len(table)), np.arange(len(candidates) + 1) * candidates.shape[1]
        by_place = sparse.csr_array((of_scores.numpy().ravel(), candidates.numpy().ravel(), ends), shape=shape)
        by_item = by_place.tocsc()
        places, begins, weights = map(torch.from_numpy, (by_item.indices, by_item.indptr[:-1], by_item.data))
        of_table = functional.embedding_bag(places, states, begins, mode="sum", per_sample_weights=weights)
        return of_states, of_table, None


class Engine(LibraryEngine):
    """`files` names the training sequences. `extra`: names of the user's settings, which RecTools must know. The seed
    in `run` determines the initial weights."""

    library, version = "rectools", VERSION

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
        self.name, self.n_items, self.device = model, n_items, run["device"]
        self.sequences = read_ragged(Path(files["training"]))
        self.batch_size, self.eval_batch_size = settings["batch_size"], settings["recommend_batch_size"]
        self.fixed_length = model == "HSTU"  # its layers support one length only
        self.filter_viewed = settings.pop("filter_viewed")
        wrapped = _model(model, settings, extra)
        torch.manual_seed(run["seed"])
        self.preparator = wrapped.data_preparator
        ids = [*self.preparator.item_extra_tokens, *range(n_items)]
        self.preparator.item_id_map = IdMap(np.array(ids, dtype=object))
        self.preparator._init_extra_token_ids()
        self.offset = self.preparator.n_item_extra_tokens
        self.sampler, self.preparator.negative_sampler = self.preparator.negative_sampler, None  # for unpadded places
        self.module = _module(wrapped, self.offset + n_items)
        self.network = self.module.torch_model.to(self.device)

    def sessions(self) -> list[np.ndarray]:
        """The training sequences of at least two items, in RecTools' numbering. Sequences longer than the model's input
        are cut into windows from the end, so that every item is a target once (RecTools drops the older ones)."""
        windows = []
        shared = self.preparator.train_session_max_len_addition  # a window begins with the last item before it
        longest = self.preparator.session_max_len
        for sequence in self.sequences:
            end = len(sequence)
            while end > 1:
                windows.append(sequence[max(0, end - longest - shared) : end] + self.offset)
                end -= longest
        return windows

    def loss(self, sessions: Sequence[np.ndarray]) -> torch.Tensor | None:
        """RecTools' loss of one batch, over all of its targets; None if it has none (possible for masked models)."""
        order = np.argsort([len(session) for session in sessions], kind="stable")
        groups = [order] if self.fixed_length else np.array_split(order, GROUPS)
        batches = [self._batch([sessions[row] for row in group]) for group in groups if len(group)]
        table = self.network.item_model.get_all_embeddings()
        # reads only the items of this batch, so that a group's gradient does not cover the whole table
        padding = torch.zeros(1, dtype=torch.int64)
        read = torch.unique(torch.cat([padding, *(batch["x"].flatten() for batch in batches)]))
        few = table[read.to(self.device)]
        states, answers = [], []
        for batch in batches:
            x, y = torch.searchsorted(read, batch["x"]).to(self.device), batch["y"].to(self.device)
            states.append(self.network.encode_sessions({"x": x}, few)[y != 0])
            answers.append(y[y != 0])
        target, state = torch.cat(answers)[None], torch.cat(states)[None]
        if not target.numel():
            return None
        candidates = None
        if self.sampler is not None:
            last = self.preparator.item_id_map.size
            sample = self.sampler.get_negatives({"x": target[0, :, None]}, lowest_id=self.offset, highest_id=last)
            candidates = torch.cat([target[0, :, None], sample[:, 0].to(self.device)], dim=1)[None]
        scores = self.network.similarity_module(state, table, candidates) / self.module.logits_t
        return self.module.loss_calculator(scores, target, torch.ones_like(target, dtype=scores.dtype))

    def ranked(self, users: np.ndarray, histories: RaggedArray, k: int) -> tuple[np.ndarray, np.ndarray]:
        longest = self.preparator.session_max_len
        lengths = np.minimum(histories.lengths, longest)
        shape = (len(users), min(k, self.n_items))
        items, scores = np.empty(shape, np.int64), np.empty(shape, np.float32)
        self.network.eval()
        with torch.inference_mode():
            table = self.network.item_model.get_all_embeddings()
            for length in np.unique(lengths):  # equal lengths: lists do not depend on the batch
                rows = np.flatnonzero(lengths == length)
                for part in np.split(rows, np.arange(self.eval_batch_size, len(rows), self.eval_batch_size)):
                    values = [histories[row][-longest:] for row in part]
                    items[part], scores[part] = best(self.scores(values, table), k)
        return items, scores

    def scores(self, histories: Sequence[np.ndarray], table: torch.Tensor) -> torch.Tensor:
        """Scores of every item, in our order, after histories of one length; float32 (n, n_items) on the CPU. `table`
        has all item vectors. An empty history is one padding item."""
        rows = [((history + self.offset).tolist() or [0], [], {}) for history in histories]
        batch = self._trimmed(self.preparator._collate_fn_recommend(rows))
        states = self.network.encode_sessions({"x": batch["x"].to(self.device)}, table)[:, -1:]
        scores = self.network.similarity_module(states, table)[:, 0, self.offset :].float().cpu()
        if self.filter_viewed and histories[0].size:
            last = scores.amin(dim=1, keepdim=True) - 1
            scores.scatter_(1, torch.from_numpy(np.stack(histories)), last.expand(-1, len(histories[0])))
        return scores

    def _batch(self, sessions: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """RecTools' samples of some sessions: inputs `x`, and the target of each place `y` (0: none)."""
        rows = [(session.tolist(), [1.0] * len(session), {}) for session in sessions]
        return self._trimmed(self.preparator._collate_fn_train(rows))

    def _trimmed(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch without the places that are padding in every row. Results are equal, since RecTools counts positions
        from the end and its attention masks padding."""
        real = (batch["x"] != 0).any(dim=0).nonzero()
        begin = 0 if self.fixed_length else int(real[0]) if len(real) else batch["x"].shape[1] - 1
        return {name: value[:, begin:] for name, value in batch.items()}


def _model(name: str, settings: dict[str, Any], extra: list[str]) -> Any:
    """RecTools' model object, which holds the settings; its trainer is not created."""
    kind = getattr(rectools.models, f"{name}Model")
    for setting in extra:
        if setting not in kind.config_class.model_fields:
            raise RemoteError(name=setting, known=sorted(kind.config_class.model_fields))
    arguments: dict[str, Any] = {"get_trainer_func": lambda: None, "similarity_module_type": SampledSimilarity}
    if "relative_time_attention" in kind.config_class.model_fields:
        arguments["relative_time_attention"] = False  # requests have no timestamps
    try:
        model = kind.from_config({**settings, **arguments})
    except ValidationError as error:
        first = error.errors()[0]
        message = f"RecTools refuses {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise RemoteError(what=message, where="rectools.extra", code="bad-setting") from error
    mask = 1 - model.data_preparator.train_session_max_len_addition  # a masked model needs a place for the mask
    if mask:
        model = kind.from_config({**settings, **arguments, "session_max_len": settings["session_max_len"] + mask})
    return model


def _module(model: Any, size: int) -> Any:
    """RecTools' network and loss over `size` items, padding and mask included, with RecTools' initial weights, built as
    RecTools does when it loads a model."""
    part = {"n_hot": size, "id_map": {"size": size, "dtype": "|O"}, "features": None}
    schema = DatasetSchema.model_validate({"n_interactions": 1, "users": part, "items": part})
    network = model._init_torch_model(model._construct_item_net_from_dataset_schema(schema))
    ids = model.data_preparator.item_id_map.external_ids
    model._init_lightning_model(network, schema.model_dump(), ids, model_config={})
    model.lightning_model._xavier_normal_init()
    return model.lightning_model


def train(engine: Engine, link: Channel, order: Order) -> dict[str, Any]:
    """Trains to the end and leaves the best weights in the engine. Returns the entries for the record."""
    return Training(engine, link, order).run()


class Training:
    """The state of one training: `epoch` epochs are done, and `batch` batches of the next one."""

    def __init__(self, engine: Engine, link: Channel, order: Order) -> None:
        self.engine, self.link, self.order = engine, link, order
        self.sessions = engine.sessions()
        self.batches = -(-len(self.sessions) // engine.batch_size)
        assert order.epochs is not None and order.patience is not None
        self.epochs, self.patience = order.epochs, order.patience
        if order.max_samples is not None:
            shared = engine.preparator.train_session_max_len_addition
            targets = sum(len(session) - shared for session in self.sessions)
            self.epochs = max(1, min(self.epochs, order.max_samples // targets))
        self.optimizer = engine.module.configure_optimizers()
        self.epoch, self.batch, self.summed, self.waited, self.finished = 0, 0, 0.0, 0, False
        self.best, self.best_epoch, self.best_valid = engine.state(), 0, None
        self.checkpoint = TrainingCheckpoint(order, engine, self.optimizer, engine.device)
        if (stored := self.checkpoint.load()) is not None:
            facts, self.best = stored
            self.epoch, self.batch, self.summed = facts["start_epoch"], facts["batch"], facts["summed"]
            self.finished, self.waited = facts["finished"], facts["waited"]
            self.best_epoch, self.best_valid = facts["best_epoch"], facts["best_valid"]

    def run(self) -> dict[str, Any]:
        """Trains the remaining epochs; the best weights are in the engine afterwards."""
        completed = self.epoch * self.batches + self.batch
        self.link.note(stage="train", steps=self.epochs * self.batches, done=completed, epoch=self.epoch)
        while not self.finished:
            start_time = time.monotonic()
            loss = self._epoch()
            seconds = time.monotonic() - start_time
            valid = self._judge()
            self._store()
            self.link.note(stage="train", epoch=self.epoch, loss=loss, valid=valid, seconds=seconds)
        self.engine.network.load_state_dict(self.best)
        return {"epochs": self.epoch, "best_epoch": self.best_epoch, "best_valid": self.best_valid}

    def _epoch(self) -> float:
        """One pass over all sessions in an order of its own; the mean loss of its batches."""
        seed = derive_seed(self.order.seed, "epoch", self.epoch) % SEEDS
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        order = np.random.default_rng(seed).permutation(len(self.sessions))
        self.checkpoint.restore_random_states()
        self.engine.network.train()
        running, message, reported = torch.zeros((), device=self.engine.device), time.monotonic(), self.batch
        size = self.engine.batch_size
        for number in range(self.batch, self.batches):
            if number > self.batch and self.checkpoint.due:
                self._store((number, self.summed + float(running)))
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
            valid = self.order.score(self.engine, self.link)
        if valid is None or self.best_valid is None or valid >= self.best_valid:
            self.best, self.best_epoch, self.best_valid, self.waited = self.engine.state(), self.epoch, valid, 0
        else:
            self.waited += 1
        self.finished = self.epoch >= self.epochs or self.waited > self.patience
        return valid

    def _store(self, inside: tuple[int, float] | None = None) -> None:
        """Writes the checkpoint between two epochs, or `inside` one: batches done and the sum of their losses."""
        names = ("finished", "waited", "best_epoch", "best_valid")
        facts = {"start_epoch": self.epoch, **{name: getattr(self, name) for name in names}}
        self.checkpoint.save(facts, self.best, inside)
