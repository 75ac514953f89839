"""EAGER (KDD 2024, arXiv 2406.14017) as a preset: trees of two sources x one encoder and two decoders x the sum of
generation, contrast and transfer losses x confidence ranking.

Compared with the released code (yewzz/EAGER): docs/eager.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from eager.behavior_models import BehaviorConfig
from eager.tree_tokenizer import DualSourceTokenizer, IndexConfig
from eager.two_stream_training import (
    NetworkConfig,
    Stream,
    SummaryContrastConfig,
    TransferConfig,
    TwoStreamModel,
    TwoStreamTraining,
    TwoStreamTrainingConfig,
    best,
    log_probabilities,
    union,
)
from harness.generative.config import RankingConfig, SemanticConfig
from harness.generative.decoding.generate import (
    DecodeReport,
    Decoding,
    Ranker,
    recommend,
)
from harness.generative.models.precision import autocast
from harness.generative.models.readers import PromptBatch
from harness.generative.recommender import GenerativeRecommender, Method
from harness.generative.tokenizers.base import TokenizerSeedConfig
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.recommender import ModelConfig
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData


class ConfidenceConfig(RankingConfig):
    """Ranking."""

    beams: int = Field(default=20, ge=1, description="items that a stream generates, at least as many as requested")
    batch: int = Field(default=64, ge=1, description="users ranked at once")
    confidence: Literal["both", "own"] = Field(
        default="both",
        description="what ranks the union, as a mean log-probability a token: both codes of an item, or the code in "
        "the stream that generated it",
    )


class TwoStreamConfig(TokenizerSeedConfig):
    """The whole method. Defaults are the paper's shape with one encoder for both sources."""

    semantic: SemanticConfig = SemanticConfig()
    behavior: BehaviorConfig = BehaviorConfig()
    index: IndexConfig = IndexConfig(sources=("behavior", "semantic"))
    network: NetworkConfig = NetworkConfig()
    contrast: SummaryContrastConfig = SummaryContrastConfig()
    transfer: TransferConfig = TransferConfig()
    training: TwoStreamTrainingConfig = TwoStreamTrainingConfig()
    decode: ConfidenceConfig = ConfidenceConfig()

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "behavior": {"encoder": "graph", "dim": 16},
            "network": {"layers": 1, "width": 32, "heads": 2, "head_width": 16, "inner": 64, "dropout": 0.0},
            "transfer": {"heads": 2},
            "training": {
                "batch": 64, "epochs": 100, "max_steps": 60, "learning_rate": 5e-3, "weight_decay": 0.0,
                "validation_users": 200, "precision": "float32", "patience": 2,
            },
        },
        "cpu": {
            "behavior": {"encoder": "graph"},
            "network": {"dropout": 0.3},
            "training": {"batch": 256, "epochs": 20, "patience": 5, "validation_users": 5000, "average": 0.998},
        },
        "gpu": {
            "behavior": {"encoder": "sasrec", "choose": "last"},
            "training": {"batch": 256},
        },
        "paper": {
            "semantic": {"encoder": "sentence-transformers/sentence-t5-base"},
            "behavior": {
                "encoder": "din", "dim": 96, "negatives": 60, "batch": 128, "learning_rate": 1e-3, "weight_decay": 0.0,
            },
            "index": {"order": "released"},
            "network": {"inner": 1024, "codes": "random"},
            "contrast": {"mode": "released", "semantic": 10.0, "negatives": 2048},
            "training": {
                "batch": 256, "epochs": 10_000, "max_steps": 60_000, "learning_rate": 1e-3, "weight_decay": 1e-7,
                "schedule": "inverse_sqrt", "warmup_steps": 2000,
            },
            "decode": {"filter_viewed": False},
        },
    }  # fmt: skip

    @model_validator(mode="after")
    def _two_streams(self) -> TwoStreamConfig:
        if self.index.levels is not None or len(set(self.index.sources)) != 2 or len(self.index.sources) != 2:
            raise ValueError("index.sources has to name both sources once, and index.levels none: each has a stream")
        return self

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TwoStreamConfig:
        if self.transfer.weight and self.network.width % self.transfer.heads:
            raise ValueError(
                f"network.width={self.network.width} is no multiple of transfer.heads={self.transfer.heads}"
            )
        return self

    def resolved(self, device: str) -> TwoStreamConfig:
        return self.model_copy(update={"training": self.training.resolved(device)})

    def item_tokenizer(self) -> DualSourceTokenizer:
        """The tokenizer that makes the item codes."""
        return DualSourceTokenizer(kind="tree", index=self.index, semantic=self.semantic, behavior=self.behavior)

    def reads_text(self) -> bool:
        """Not where codes and the vectors that are in use are ready."""
        return self.item_tokenizer().reads_text() or bool(self.contrast.semantic and self.semantic.vectors is None)

    def leaks(self) -> tuple[str, ...]:
        """Those of the tokenizer and of the contrastive task."""
        return tuple(dict.fromkeys((*self.item_tokenizer().leaks(), *self.contrast.leaks(self.behavior))))

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Ready vectors and a ready index, where they are named."""
        vectors = (*self.semantic.files(data), *self.behavior.files(data))
        return tuple(dict.fromkeys((*vectors, *self.item_tokenizer().files(data))))


class Eager(GenerativeRecommender[TwoStreamConfig]):
    """EAGER (arXiv 2406.14017). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = TwoStreamConfig
    distributed: ClassVar[bool] = False

    def compose(self) -> Method:
        config = self.config
        model = TwoStreamModel(config.network, config.index.sources, config.training.precision)
        recipe = TwoStreamTraining(model, config.training, config.contrast, config.transfer)
        contrast = config.contrast.sources(config.semantic, config.behavior)
        return Method(config.item_tokenizer(), model, recipe, config.decode, contrast)

    def _is_exact(self, k: int) -> bool:
        return max(self.config.decode.beams, k) >= self._table.n_items

    def _rank(
        self, requests: Requests, k: int, context: RunContext, *, exact: bool = False, resume: bool = False
    ) -> tuple[Predictions, DecodeReport]:
        """Lists by confidence of the best items of each stream."""
        n_items, model, config = self._table.n_items, self.method.model, self.config.decode
        beams = n_items if exact else min(max(config.beams, k), n_items)
        decoding = Decoding(
            beams, config.batch, model.precision, "children", resume=resume,
            filter_viewed=self._record.get("filter_viewed", False),
        )  # fmt: skip
        streams: list[Stream] = list(model.network.streams.values())
        pairs = [
            recommend(Ranker(stream, stream.trie, model.prompt), requests, beams, decoding, context)
            for stream in streams
        ]
        scores = [ranked.scores / stream.levels for (ranked, _), stream in zip(pairs, streams, strict=True)]
        items, confidence = union([ranked.items for ranked, _ in pairs], scores)
        if config.confidence == "both":
            confidence = self._both(streams, requests, items, context)
        report = pairs[-1][1]
        listed = Predictions(requests.cases, *best(items, confidence, k))
        report.short = int((listed.lengths < k).sum())
        return listed, report

    def _both(self, streams: list[Stream], requests: Requests, items: np.ndarray, context: RunContext) -> np.ndarray:
        """Mean log-probability a token of both codes of `items` (users, n), float64."""
        model, batch = self.method.model, self.config.decode.batch
        prompts = [model.prompt(history) for history in requests.histories]
        order = np.argsort([-len(ids) for ids in prompts], kind="stable")  # equal lengths together: little padding
        scores = np.zeros(items.shape)
        with context.stage(f"confidence ({requests.fold})", len(requests)) as bar:
            for rows in np.array_split(order, range(batch, len(order), batch)):
                asked = PromptBatch.of([prompts[row] for row in rows], context.device)
                with autocast(context.device, model.precision):
                    logs = [log_probabilities(stream, asked, items[rows]) for stream in streams]
                scores[rows] = sum(logs) / sum(stream.levels for stream in streams)
                bar.advance(len(rows))
        return scores
