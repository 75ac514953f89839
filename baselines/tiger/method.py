"""`Tiger`: text vectors → RQ-VAE codes → an encoder-decoder trained from scratch → search along the trie of codes.

Item codes: an RQ-VAE over text vectors, then a token that numbers the items which share a code.

Items are numbered by a hash of their raw ids, so that neither the order of a source nor popularity, let alone a target,
decides who is first.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from baselines.tiger.config import FILE, TigerConfig
from harness.core.artifact_cache import CacheEntry
from harness.core.seeding import derive_seed
from harness.data.dataset import CanonicalOrder, require_text
from harness.generative.decoding.generate import DecodeReport, Decoding, distributed_recommend, evenly_spaced
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import CodeT5, T5Shape
from harness.generative.models.precision import Precision, best_precision
from harness.generative.models.readers import PromptBatch
from harness.generative.tasks.prefix_samples import Pieces, Samples, hash_users, target_tokens, with_users
from harness.generative.tokenizers.broadcast import made_codes
from harness.generative.tokenizers.index import INDEX_FILE, ItemIndex, index_file, ready_index
from harness.generative.tokenizers.rqvae import rqvae_codes
from harness.generative.tokenizers.text_embeddings import semantic_artefacts, semantic_vectors
from harness.generative.training.early_stopping import EarlyStopping
from harness.generative.training.step_cost import Cost, Counts
from harness.generative.training.trainer import ParameterGroup, TrainingConfig, train
from harness.generative.trie import CodeTrie
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.distributed import shard
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH, MAIN_METRIC
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

VERSION = "tiger/1"


def item_index(data: TrainingData, config: TigerConfig, context: RunContext) -> ItemIndex:
    """The codes that a run with this configuration and seed has. `details` holds the share of items that shared a code
    before the distinguishing token (`collisions_before`). Raises `InputError` for missing text, for vectors that are
    not finite and for an index file that does not fit."""
    index = config.index
    if index.kind == "file":
        return ready_index(index_file(index.file, data, FILE), data, declared=False)
    if config.reads_text():
        require_text(data.text, data.items, location=data.dataset)
    vectors = semantic_vectors(data, config.semantic, context)
    order = CanonicalOrder.of(
        (), data.items
    )  # equal vectors give equal codes in whatever order a source lists its items
    rq_codes = rqvae_codes(vectors.values[order.items], index.levels, index.size, index.rqvae, context, "tiger rqvae")
    digits, sizes = rq_codes.digits[order.item_ranks], (index.size,) * index.levels
    if index.distinct == "token":
        numbers = places_in_group(digits, data.items)
        digits, sizes = np.column_stack([digits, numbers]), (*sizes, int(numbers.max()) + 1)
    return ItemIndex(
        table=CodeTable(digits, sizes),
        provenance=Provenance.joined(VERSION, vectors.provenance),
        details={
            "kind": "rqvae",
            "collisions_before": rq_codes.collisions,
            "rqvae": rq_codes.record(),
            "vectors": vectors.record(),
        },
    )


def places_in_group(digits: np.ndarray, items: tuple[str, ...]) -> np.ndarray:
    """For each item its number, from 0, among those with equal rows of `digits` (n_items, levels), by the hash of their
    raw ids; int64 (n_items,).

    >>> sorted(places_in_group(np.array([[1], [2], [1], [1]]), ("a", "b", "c", "d"))[[0, 2, 3]].tolist())
    [0, 1, 2]
    """
    hashed = np.array([hashlib.sha256(item.encode()).hexdigest() for item in items])
    _, group = np.unique(digits, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.lexsort((hashed, group))
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))
    places = np.empty(len(items), dtype=np.int64)
    places[order] = np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items))))
    return places


MODEL, ABOUT, STAGE = "model.safetensors", "model.json", "tiger"


MIN_EVALUATIONS = 4  # at validation, at least, however few passes there are


class Tiger(Recommender[TigerConfig]):
    """TIGER (arXiv 2305.05065). Needs item text, or ready codes."""

    config_class: ClassVar[type[ModelConfig]] = TigerConfig
    code_version: ClassVar[int] = 2
    distributed: ClassVar[bool] = True

    _record: dict[str, Any]
    _precision: Precision

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        data.require_next_items()
        index = made_codes(context, lambda run_context: self.item_codes(data, run_context))
        if context.run_dir is not None:
            index.write(context.run_dir / INDEX_FILE, data)
        self._record = {"index": index.record()}
        self._build(index.table, data, context)
        self._record["training"] = self._train(data, context)

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        predictions, report = self._ranked(requests, k, context, resume=True)
        self._record.setdefault("decode", {})[requests.fold] = vars(report)
        return predictions

    def _save(self, folder: Path) -> None:
        ties = {name: value for name, value in self.model.state_dict().items() if name in self._own()}
        save_file({name: value.cpu().contiguous() for name, value in ties.items()}, folder / MODEL)
        index = {"digits": self._table.digits.tolist(), "sizes": self._table.sizes}
        (folder / ABOUT).write_text(json.dumps({"index": index, "record": self._record}))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        saved = json.loads((folder / ABOUT).read_text())
        self._build(CodeTable(np.array(saved["index"]["digits"]), tuple(saved["index"]["sizes"])), data, context)
        self._record = saved["record"]
        state = load_file(folder / MODEL)
        if set(state) != self._own():
            raise ValueError(f"{folder} holds another model: {sorted(set(state) ^ self._own())}")
        self.model.load_state_dict(state, strict=False)

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        return () if self.config.index.kind == "file" else semantic_artefacts(data, self.config.semantic, context)

    def size(self) -> ModelSize:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return ModelSize(count, count)

    def record(self) -> dict[str, Any]:
        return self._record

    def code_groups(self) -> np.ndarray:
        return self._table.groups

    def item_codes(self, data: TrainingData, context: RunContext) -> ItemIndex:
        """The item index alone, as a run with this configuration and seed has it: for `harness index build`."""
        return item_index(data, self.config, context)

    def _build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        """The model with the codes of `table`, untrained."""
        config = self.config
        self._table, self._trie = table, CodeTrie(table)
        self._pieces = Pieces(table, config.user_tokens, separator=config.network.separator)
        self._users = data.n_items + hash_users(data, config.user_tokens) if config.user_tokens else None
        torch.manual_seed(derive_seed(context.seed, "tiger", "weights"))
        shape = config.network.model_dump(exclude={"separator"})
        self.model = CodeT5(table.sizes, T5Shape(**shape), extra=self._pieces.extra).to(context.device)
        precision = config.training.precision
        self._precision = best_precision(context.device) if precision == "auto" else precision

    def _train(self, data: TrainingData, context: RunContext) -> dict[str, Any]:
        """What became of the training, for the record."""
        config = self.config.training
        samples = Samples(data.sequences, data.max_history, config.batch, config.accumulate, context.seed, self._users)
        steps = min(config.epochs * samples.steps, config.max_steps or 1 << 62)
        plan = TrainingConfig(
            STAGE,
            steps,
            warmup=config.warmup,
            warmup_steps=config.warmup_steps,
            schedule="inverse_sqrt" if config.schedule == "inverse_sqrt" else "cosine",
            floor=1.0 if config.schedule == "constant" else 0.0,
            optimiser=config.optimiser,
            clip=config.clip,
            precision=self._precision,
            accumulate=config.accumulate,
            beta2=0.999,
        )

        def loss(step: int, part: int) -> Cost:
            histories, items = samples.part(step, part)
            own = shard(context.world, len(items))
            own_rows = own if len(own) else np.zeros(1, np.int64)  # a process without samples computes one for nothing

            def share(counts: Counts) -> torch.Tensor:
                mean = self._loss([histories[n] for n in own_rows], items[own_rows], context.device)
                return mean * (len(own) / counts[0])

            return Cost((len(items),), share)

        choice = None
        if config.choose == "validation" and context.validation is not None:
            every = min(max(1, round(config.every * samples.steps)), -(-steps // MIN_EVALUATIONS))
            choice = EarlyStopping(lambda: self._valid(context), every, config.patience)
        group = ParameterGroup(list(self.model.parameters()), config.learning_rate, config.weight_decay)
        self.model.train()
        outcome = train([group], loss, plan, context, choice)
        chosen = {"selected_on": "last"} if choice is None else {"selected_on": "valid", **choice.record()}
        return {**vars(outcome), "samples": len(samples.targets), "steps_a_pass": samples.steps, **chosen}

    def _loss(self, histories: list[np.ndarray], items: np.ndarray, device: str) -> torch.Tensor:
        """Mean negative log-likelihood a token of the targets' codes."""
        prompts = PromptBatch.of([self._pieces.prompt(history) for history in histories], device)
        is_whole = self.config.training.normalise == "vocabulary"
        mask = target_tokens(self._pieces.codes[items], device, end=is_whole)
        states = self.model.states(prompts.ids, prompts.real, mask)
        if is_whole:
            return functional.cross_entropy(self.model.vocabulary_logits(states).flatten(0, 1), mask.flatten())
        digits = torch.from_numpy(self._table.digits[items]).to(device)
        levels = range(self._table.levels)
        parts = [functional.cross_entropy(self.model.level_logits(states[:, n], n), digits[:, n]) for n in levels]
        return torch.stack(parts).mean()

    def _valid(self, context: RunContext) -> float:
        """ndcg@10 of the model as it stands, over some of the validation users."""
        assert context.validation is not None
        requests = context.validation.requests
        current_requests = requests.take(evenly_spaced(len(requests), self.config.training.validation_users))
        value = context.validation.score(self._ranked(current_requests, DEPTH, context)[0])[MAIN_METRIC]
        self.model.train()
        return float(context.world.broadcast_object(value))

    def _ranked(
        self, requests: Requests, k: int, context: RunContext, *, resume: bool = False
    ) -> tuple[Predictions, DecodeReport]:
        decode = self.config.decode
        decoding = Decoding(decode.beams, decode.batch, self._precision, decode.normalise, resume=resume)
        current_requests = with_users(requests, self._users)
        return distributed_recommend(
            self.model, self._trie, current_requests, self._pieces.prompt, k, decoding, context
        )

    def _own(self) -> set[str]:
        """Names of the parameters, each once: tied ones under the first."""
        return {name for name, _ in self.model.named_parameters()}
