"""RPG (arXiv 2506.05781) as a preset: OPQ codes of item text x a causal transformer with a head a digit x all next
items of a sequence in one pass x exact or graph-constrained ranking.

Compared with the released code (facebookresearch/RPG_KDD2025): windows end at the protocol's history (50 items there),
batches are filled by next items instead of by users, the graph search starts from the same items for every user, so
that a list does not depend on the batch, and codes are made from our text encoder (docs/rpg.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from baselines.rpg_network import Catalogue, ParallelNetwork, decoding_graph
from harness.core.config_files import ReadyIndex
from harness.core.seeding import derive_seed, generator
from harness.data.ragged import RaggedArray
from harness.generative.config import RankingConfig, Section, SemanticConfig
from harness.generative.decoding.generate import DecodeReport
from harness.generative.item_codes import CodeTable
from harness.generative.models.precision import autocast
from harness.generative.recipes import Recipe, RecipeInputs
from harness.generative.recommender import GenerativeRecommender, Method
from harness.generative.sequence_models import NetworkTrainingConfig, RandomNetwork
from harness.generative.tasks.batching import Pass
from harness.generative.tokenizers.base import CodesOnlyConfig, Tokenizer
from harness.generative.tokenizers.kmeans import OPQConfig, OPQTokenizer
from harness.generative.training.checkpoint import EarlyStopping
from harness.generative.training.trainer import ParameterGroup, TrainingConfig, train
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.recommender import ModelConfig
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

MIN_EVALUATIONS = 4  # on validation, however short the training is


class IndexConfig(Section, OPQConfig, ReadyIndex):
    """Item vectors to item codes."""

    kind: Literal["opq", "file"] = Field(default="opq", description="OPQ codes of text; a ready index file")


class NetworkConfig(Section):
    """The causal transformer, with random initial weights, and its heads."""

    layers: int = Field(default=2, ge=1)
    width: int = Field(default=448, ge=1)
    heads: int = Field(default=4, ge=1, description="of attention; they divide the width")
    inner: int = Field(default=1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="on the input embeddings")
    attention_dropout: float = Field(default=0.5, ge=0, lt=1, description="on attention weights")
    residual_dropout: float = Field(default=0.0, ge=0, lt=1, description="on what a layer adds")
    temperature: float = Field(default=0.03, gt=0, description="divides the cosines, in training and in ranking")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> NetworkConfig:
        if self.width % self.heads:
            raise ValueError(f"network.width={self.width} is no multiple of network.heads={self.heads}")
        return self


class ParallelTrainingConfig(NetworkTrainingConfig):
    """All next items of a window are targets of one pass through the network."""

    targets: int = Field(default=1024, ge=1, description="next items of a step, at most")
    epochs: int = Field(default=100, ge=1, description="passes over all next items, at most")
    learning_rate: float = Field(default=3e-3, gt=0, description="the peak; then down along a cosine")
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps")
    weight_decay: float = Field(default=0.0, ge=0)


class ParallelDecodeConfig(RankingConfig):
    """Ranking."""

    kind: Literal["auto", "exact", "graph"] = Field(
        default="auto",
        description="exact: every item is scored; graph: a search in a graph of similar codes; auto: exact up to "
        "exact_items items",
    )
    exact_items: int = Field(default=200_000, ge=1, description="of kind=auto")
    beams: int = Field(default=20, ge=1, description="graph: items kept a step, at least as many as are asked")
    edges: int = Field(default=100, ge=1, description="graph: neighbours of an item")
    steps: int = Field(default=3, ge=1, description="graph: times that neighbours are scored")
    batch: int = Field(default=128, ge=1, description="users ranked at once")


class RPGConfig(CodesOnlyConfig):
    """The method. Defaults are the paper's network and codes, and its settings for Beauty where it has some."""

    section: ClassVar[str] = "rpg"

    semantic: SemanticConfig = SemanticConfig()
    index: IndexConfig = IndexConfig()
    network: NetworkConfig = NetworkConfig()
    training: ParallelTrainingConfig = ParallelTrainingConfig()
    decode: ParallelDecodeConfig = ParallelDecodeConfig()

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "index": {"levels": 4, "size": 8, "rotations": 4},
            "network": {
                "layers": 1, "width": 32, "heads": 2, "inner": 64, "dropout": 0.1, "attention_dropout": 0.0,
                "temperature": 0.1,
            },
            "training": {
                "targets": 128, "epochs": 100, "max_steps": 90, "learning_rate": 1e-2, "validation_users": 200,
                "precision": "float32",
            },
        },
        "cpu": {
            "network": {
                "width": 128, "inner": 256, "dropout": 0.3, "attention_dropout": 0.3, "temperature": 0.05,
            },
            "training": {"epochs": 30, "every": 3, "validation_users": 5000},
        },
        "gpu": {},
        "paper": {
            "index": {"rotations": 50},
            "network": {"temperature": 0.03},
            "training": {
                "targets": 1536, "learning_rate": 0.01, "epochs": 150, "warmup": 0.75, "every": 1, "patience": 20,
            },
            "decode": {"kind": "graph", "edges": 200, "filter_viewed": False},
        },
    }  # fmt: skip

    def own_tokenizer(self) -> Tokenizer:
        return OPQTokenizer(**self.index.model_dump(include=set(OPQConfig.model_fields)), semantic=self.semantic)


class ParallelModel(RandomNetwork):
    """`ParallelNetwork` as a sequence model: its prompt is the history itself."""

    network: ParallelNetwork

    def build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        torch.manual_seed(derive_seed(context.seed, "rpg", "weights"))
        self.network = ParallelNetwork(table, self.config, data.max_history)

    def prompt(self, history: np.ndarray) -> list[int]:
        return history.tolist()


class ParallelTraining(Recipe):
    """Cross-entropy of all digits of every next item, in windows that are cut and shuffled anew each pass."""

    def __init__(self, model: ParallelModel, config: ParallelTrainingConfig) -> None:
        self.model, self.config = model, config

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        config, network, data = self.config, self.model.network, inputs.data
        passes = Passes(data.sequences, data.max_history + 1, config.targets, context.seed)
        steps = min(config.epochs * passes.steps, config.max_steps or 1 << 62)
        stopping = None
        if config.choose == "validation" and (validate := inputs.validate) is not None:
            every = min(max(1, round(config.every * passes.steps)), -(-steps // MIN_EVALUATIONS))
            stopping = EarlyStopping(lambda: validate(config.validation_users), every, config.patience)
        group = ParameterGroup(list(network.parameters()), config.learning_rate, config.weight_decay)
        plan = TrainingConfig(
            "rpg", steps, warmup=config.warmup, clip=config.clip, precision=self.model.precision, beta2=0.999
        )
        network.train()
        result = train([group], lambda step, part: network.loss(passes.windows(step)), plan, context, stopping)
        selected = {"selected_on": "last"} if stopping is None else {"selected_on": "valid", **stopping.record()}
        passed = {"steps_a_pass": passes.steps, "passes": result.steps / passes.steps}
        return {"training": {**vars(result), **passed, **selected}}


class Passes:
    """Windows of each step, a function of the seed and the step alone. `steps` is the number of a pass: passes differ
    a little in their batches, and one that has fewer begins anew."""

    def __init__(self, sequences: RaggedArray, window: int, targets: int, seed: int) -> None:
        self._made = lru_cache(maxsize=1)(
            lambda turn: Pass.drawn(sequences, window, targets, generator(seed, "rpg", "pass", turn))
        )
        self.steps = len(self._made(0))

    def windows(self, step: int) -> list[np.ndarray]:
        """Item ids, oldest first."""
        turn, place = divmod(step, self.steps)
        windows = self._made(turn)
        return windows[place % len(windows)]


class RPG(GenerativeRecommender[RPGConfig]):
    """RPG (arXiv 2506.05781). Needs item text, or ready codes."""

    config_class: ClassVar[type[ModelConfig]] = RPGConfig
    distributed: ClassVar[bool] = False
    code_version: ClassVar[int] = 2

    def compose(self) -> Method:
        config = self.config
        model = ParallelModel(config.network, config.training.precision)
        return Method(config.item_tokenizer(), model, ParallelTraining(model, config.training), config.decode)

    def _is_exact(self, k: int) -> bool:
        decode = self.config.decode
        return decode.kind == "exact" or (decode.kind == "auto" and self._table.n_items <= decode.exact_items)

    @torch.inference_mode()
    def _rank(
        self, requests: Requests, k: int, context: RunContext, *, exact: bool = False, resume: bool = False
    ) -> tuple[Predictions, DecodeReport]:
        """Ranking takes seconds, so that nothing is kept to resume from."""
        kind = "exact" if exact or self._is_exact(k) else "graph"
        network, precision, batch = self.model.eval(), self.method.model.precision, self.config.decode.batch
        catalogue, without_viewed = Catalogue(self._trie, network.codes), self._record.get("filter_viewed", False)
        histories, report = list(requests.histories), DecodeReport("all", "level", precision, batch, batch, kind)
        rank: Callable[..., tuple[np.ndarray, np.ndarray]] = catalogue.exact
        if kind == "graph":
            # As many beams as leave k items whatever a history takes out.
            longest = max(network.limit, int(requests.histories.lengths.max(initial=0)))
            beams = max(self.config.decode.beams, k + longest * without_viewed)
            report.beams = min(beams, len(catalogue.items))
            # From the same items for every user, so that no list depends on the others.
            start = generator(context.seed, "rpg", "start").choice(len(catalogue.items), report.beams, replace=False)
            places = torch.from_numpy(start).to(network.codes.device)
            graph = decoding_graph(network, catalogue, self.config.decode.edges)
            rank = partial(catalogue.search, graph=graph, start=places, steps=self.config.decode.steps)
        report.codes, report.users_expected = self._trie.codes, len(requests)
        items, scores = np.full((len(requests), k), NO_ITEM), np.zeros((len(requests), k))
        order = np.argsort(-requests.histories.lengths, kind="stable")  # equal lengths together: little padding
        with context.stage(f"ranking ({requests.fold})", len(requests)) as bar:
            for rows in np.array_split(order, range(batch, len(order), batch)):
                read = [histories[row] for row in rows]
                with autocast(context.device, precision):
                    logs = network.log_probabilities([history[-network.limit :] for history in read])
                items[rows], scores[rows] = rank(logs, k, viewed=read if without_viewed else None)
                bar.advance(len(rows))
        predictions = Predictions(requests.cases, items, scores)
        report.users_scored, report.short = len(requests), int((predictions.lengths < k).sum())
        return predictions, report
