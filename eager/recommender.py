"""`EagerLLM`: the method from training data to ranked lists, each step of it in a module of its own.

vectors of two sources → item codes → a language model with code tokens → alignment → annealing → constrained search.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from eager.behavior import behavior_vectors
from eager.config import EagerConfig, Source
from eager.contrast import Contrast
from eager.index import build_codes, code_directions, health
from eager.pools import Pools
from eager.prompts import Prompts
from eager.semantic import semantic_vectors
from eager.stages import Tuned, annealing, stage_one, trained_parameters
from eager.task_texts import task_texts
from harness.data.dataset import require_text
from harness.generative.backbone import Backbone, load_backbone
from harness.generative.code_lm import CodeLM
from harness.generative.codes import CodeTable
from harness.generative.decoding import Decoding, recommend
from harness.generative.trie import CodeTrie
from harness.generative.tuning import Precision, best_precision
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData
from harness.seeding import derive_seed

INDEX_FILE = "item.index.json"


class EagerLLM(Recommender[EagerConfig]):
    """EAGER-LLM (arXiv 2502.14735). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = EagerConfig
    code_version: ClassVar[int] = 1

    _record: dict[str, Any]
    _precision: Precision

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        text = tuple(require_text(data.text, data.items, where=data.dataset))
        texts = task_texts(data, text, self.config.tasks)
        vectors = self._vectors(data, context)
        table = build_codes(vectors, self.config.index, context.seed)
        if context.keep is not None:
            table.write(context.keep / INDEX_FILE, data.items)
        self._build(table, context)
        if self.config.backbone.codes == "centroid":
            width = self.model.code_in.shape[1]
            self.model.reset_codes(code_directions(table, vectors, self.config.index, width, context.seed))
        contrast = self._contrast(vectors, context)
        self.model.to(context.device)
        pools = Pools(self._prompts, texts, self.config.tasks, context.seed)
        tuned = Tuned(self.model, self._prompts, contrast, data, text, pools, self.config, self._precision)
        first = stage_one(tuned, context)
        second = annealing(tuned, context) if self.config.annealing.enabled else None
        self._record |= {
            "index": health(table),
            "tasks": pools.record(),
            "stages": {"alignment": vars(first), "annealing": None if second is None else vars(second)},
        }

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        decode = self.config.decode
        how = Decoding(decode.beams, decode.batch, self._precision, decode.normalise)
        predictions, report = recommend(self.model, self._trie, requests, self._prompts.history, k, how, context)
        self._record.setdefault("decode", {})[requests.fold] = vars(report)
        return predictions

    def _save(self, folder: Path) -> None:
        save_file(self._state(), folder / "model.safetensors")
        index = {"digits": self._table.digits.tolist(), "sizes": self._table.sizes}
        (folder / "model.json").write_text(json.dumps({"index": index, "record": self._record}))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        kept = json.loads((folder / "model.json").read_text())
        table = CodeTable(np.array(kept["index"]["digits"]), tuple(kept["index"]["sizes"]))
        self._build(table, context)
        self._record = kept["record"]
        missing, unexpected = self.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        if unexpected or any("embed" not in name and "wte" not in name for name in missing):
            raise ValueError(f"{folder} holds another model: {unexpected or missing}")
        self.model.to(context.device)

    def size(self) -> ModelSize:
        every = {id(p): p.numel() for p in self.model.parameters()}
        return ModelSize(sum(every.values()), trained_parameters(self.model))

    def record(self) -> dict[str, Any]:
        return self._record

    def _vectors(self, data: TrainingData, context: RunContext) -> dict[Source, np.ndarray]:
        """Vectors of the sources in use, and the provenance of each in the record."""
        vectors: dict[Source, np.ndarray] = {}
        keys: dict[str, str] = {}
        config = self.config
        used = {*config.index.sources, *(s for s in ("semantic", "behavior") if getattr(config.contrast, s))}
        if "semantic" in used:
            text = require_text(data.text, data.items, where=data.dataset)
            semantic = config.semantic
            vectors["semantic"], keys["semantic"] = semantic_vectors(text, semantic.encoder, semantic.fields, context)
        if "behavior" in used:
            vectors["behavior"], keys["behavior"] = behavior_vectors(data, config.behavior, context)
        self._record = {"vectors": keys, "vectors_saw": {"rows": "training", "fingerprint": data.fingerprint}}
        return vectors

    def _build(self, table: CodeTable, context: RunContext) -> None:
        """The model with the codes of `table`, untrained."""
        config = self.config.backbone
        backbone: Backbone = load_backbone(config.name, config.layers, config.weights, context)
        torch.manual_seed(derive_seed(context.seed, "code rows"))
        self._table, self._trie = table, CodeTrie(table)
        self._prompts = Prompts(backbone, table, self.config.tasks.text_tokens)
        self.model = CodeLM(backbone, table.sizes, dropout=config.dropout)
        self._precision = best_precision(context.device) if config.precision == "auto" else config.precision

    def _contrast(self, vectors: dict[Source, np.ndarray], context: RunContext) -> Contrast | None:
        config = self.config.contrast
        if not (config.semantic or config.behavior):
            return None
        torch.manual_seed(derive_seed(context.seed, "projectors"))
        return Contrast(self.model.code_in.shape[1], vectors, config).to(context.device)

    def _state(self) -> dict[str, torch.Tensor]:
        """All that training moved; the vocabulary stays where the backbone comes from."""
        frozen = {id(parameter) for parameter in self.model.embedding.parameters()}
        named = self.model.named_parameters()
        return {name: p.detach().cpu().contiguous() for name, p in named if id(p) not in frozen}
