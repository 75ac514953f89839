"""`GenerativeRecommender`: tokenizer x sequence model x training recipe x decoding.

Items get codes, a network over code tokens is trained, and beam search along the trie of codes generates ranked lists.
A method is a preset: `compose` builds a `Method` from its configuration; this module has everything else.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from safetensors.torch import load_file, save_file

from harness.core.artifact_cache import CacheEntry
from harness.generative.config import DecodeConfig, InstructConfig, RankingConfig
from harness.generative.decoding.generate import (
    DecodeReport,
    Decoding,
    Ranker,
    beam_recall_loss,
    evenly_spaced,
    recommend,
)
from harness.generative.exporting import ITEMS, PAGE, export, page
from harness.generative.item_codes import CodeTable
from harness.generative.models.lora import attached
from harness.generative.recipes import Recipe, RecipeInputs
from harness.generative.sequence_models import LanguageModel, SequenceModel
from harness.generative.tokenizers.base import INDEX_FILE, ItemIndex, Tokenizer, Vectors
from harness.generative.tokenizers.embeddings import EmbeddingSource
from harness.generative.trie import CodeTrie
from harness.protocol.context import SINGLE_PROCESS, RunContext, compute_on_main
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH, MAIN_METRIC
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

WEIGHTS, ABOUT = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Method:
    """The parts of a generative recommender. `embeddings`: item vectors of the model or the recipe, besides those of
    the tokenizer; a source in both is computed once."""

    tokenizer: Tokenizer
    model: SequenceModel
    recipe: Recipe
    decoding: RankingConfig
    embeddings: tuple[EmbeddingSource, ...] = ()


ConfigT = TypeVar("ConfigT", bound=ModelConfig)
InstructConfigT = TypeVar("InstructConfigT", bound=InstructConfig)


class GenerativeRecommender(Recommender[ConfigT]):
    """Base of the presets: a subclass sets its configuration class and implements `compose`."""

    distributed: ClassVar[bool] = True

    _table: CodeTable
    _trie: CodeTrie
    _record: dict[str, Any]

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.method = self.compose()

    @abstractmethod
    def compose(self) -> Method:
        """The parts, from the configuration."""

    @property
    def model(self) -> Any:
        """The trained or loaded network."""
        return self.method.model.network

    def tokenize(self, data: TrainingData, context: RunContext) -> tuple[Vectors, ItemIndex]:
        """All item vectors of the method, and the item codes."""
        vectors, index = self.method.tokenizer.fit(data, self._of_tokenizer(context))
        other_vectors: Vectors = {source.name: source.fit(data, context) for source in self._other_sources()}
        return {**vectors, **other_vectors}, index

    def item_codes(self, data: TrainingData, context: RunContext) -> ItemIndex:
        """The item codes only, as in a run with this configuration and seed: for `harness index build`."""
        return self.method.tokenizer.fit(data, self._of_tokenizer(context))[1]

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        vectors = [entry for source in self._other_sources() for entry in source.cache_entries(data, context)]
        entries = self.method.tokenizer.cache_entries(data, self._of_tokenizer(context))
        return (*self.method.model.cache_entries(context), *entries, *vectors)

    def size(self) -> ModelSize:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        trained = [report["trainable_parameters"] for report in self._record.get("stages", {}).values() if report]
        return ModelSize(count, max(trained, default=count))

    def record(self) -> dict[str, Any]:
        return self._record

    def code_groups(self) -> np.ndarray:
        return self._table.groups

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        data.require_next_items()
        model, recipe = self.method.model, self.method.recipe
        recipe.prepare(data)
        model.prepare(context)
        alone = replace(context, world=SINGLE_PROCESS)
        vectors, index = compute_on_main(context.world, lambda: self.tokenize(data, alone))
        if context.run_dir is not None:
            index.write(context.run_dir / INDEX_FILE, data)
        self._build(index.table, data, context)
        model.initialise(index, vectors, context.seed)
        model.network.to(context.device)
        self._record = {
            "vectors": {source: item_vectors.record() for source, item_vectors in vectors.items()},
            "filter_viewed": data.excludes_viewed(self.method.decoding.filter_viewed),
            "index": index.record(),
        }
        validate = None if context.validation is None else partial(self._validate, context)
        self._record |= recipe.run(RecipeInputs(data, index, vectors, self._trie, validate), context)

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        """With `exact_users` the report has the recall of the search: all items are ranked for some users too."""
        predictions, report = self._rank(requests, k, context, resume=True)
        if (users := self.method.decoding.exact_users) and not self._is_exact(k):
            rows = evenly_spaced(len(requests), users)
            exact, _ = self._rank(requests.take(rows), k, context, exact=True, resume=True)
            report.lost = beam_recall_loss(predictions.items[rows], exact.items)
        self._record.setdefault("decode", {})[requests.fold] = vars(report)
        return predictions

    def _save(self, folder: Path) -> None:
        parameters = self.method.model.parameters()
        save_file({name: value.detach().cpu().contiguous() for name, value in parameters.items()}, folder / WEIGHTS)
        self.method.model.save_adapter(folder)
        index = {"digits": self._table.digits.tolist(), "sizes": self._table.sizes}
        (folder / ABOUT).write_text(json.dumps({"index": index, "record": self._record}))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        document, model = json.loads((folder / ABOUT).read_text()), self.method.model
        model.prepare(context)
        self._build(CodeTable(np.array(document["index"]["digits"]), tuple(document["index"]["sizes"])), data, context)
        self._record = document["record"]
        state = load_file(folder / WEIGHTS)
        if different := sorted(set(state) ^ set(model.parameters())):
            raise ValueError(f"{folder} has the weights of another model: {different}")
        model.network.load_state_dict(state, strict=False)
        model.load_adapter(folder)
        model.network.to(context.device)

    def _build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        """Builds the untrained model over the codes of `table`."""
        self.method.model.build(table, data, context)
        self._table, self._trie = table, CodeTrie(table)

    def _is_exact(self, k: int) -> bool:
        """Whether `_rank` scores every item for lists of length `k`."""
        config = self.method.decoding
        assert isinstance(config, DecodeConfig), "a method with another way to rank overrides this"
        return config.beams == "all"

    def _rank(
        self, requests: Requests, k: int, context: RunContext, *, exact: bool = False, resume: bool = False
    ) -> tuple[Predictions, DecodeReport]:
        """Lists and their report; `exact`: every item is scored."""
        model, config = self.method.model, self.method.decoding
        assert isinstance(config, DecodeConfig), "a method with another way to rank overrides this"
        decoding = Decoding(
            "all" if exact else config.beams, config.batch, model.precision, config.normalise, resume=resume,
            filter_viewed=self._record.get("filter_viewed", False),
        )  # fmt: skip
        return recommend(
            Ranker(model.network, self._trie, model.prompt), model.requests(requests), k, decoding, context
        )

    def _validate(self, context: RunContext, users: int) -> float:
        """ndcg@10 of the current model on at most `users` evenly spaced validation users."""
        assert context.validation is not None
        requests = context.validation.requests
        sample = requests.take(evenly_spaced(len(requests), users))
        value = context.validation.score(self._rank(sample, DEPTH, context)[0])[MAIN_METRIC]
        self.model.train()
        return float(context.world.broadcast_object(value))

    def _of_tokenizer(self, context: RunContext) -> RunContext:
        """The context with the tokenizer's seed, where the configuration gives it one of its own."""
        seed: int | None = getattr(self.config, "tokenizer_seed", None)
        return context if seed is None else replace(context, seed=seed)

    def _other_sources(self) -> tuple[EmbeddingSource, ...]:
        """The sources of item vectors that are not part of the tokenizer."""
        names = {source.name for source in self.method.tokenizer.sources()}
        return tuple(source for source in self.method.embeddings if source.name not in names)


class LanguageModelRecommender(GenerativeRecommender[InstructConfigT]):
    """Base of the presets whose sequence model is a `LanguageModel`: they can be exported."""

    def export(self, folder: Path, data: TrainingData, *, is_apart: bool = False) -> None:
        """Exports the trained or loaded model to a Hugging Face folder (`exporting.export`) with the item codes and a
        model card. With `is_apart` an adapter that is not merged is saved separately."""
        model = self.method.model
        assert isinstance(model, LanguageModel)
        is_apart = is_apart and attached(model.network.body)
        lead, name = model.prompts.templates["seqrec"][0], f"{type(self).__name__} on {data.dataset}"
        readme = page(name, lead, self._table.levels, model.network.eos, is_apart=is_apart)
        texts = {ITEMS: self._table.text(data.items), PAGE: readme}
        export(model.network, model.tokenizer, folder, texts, is_apart=is_apart)
