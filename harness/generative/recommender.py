"""`InstructRecommender`: a language model tuned by instruction on item codes, from training data to ranked lists.

item codes → a language model with code tokens → alignment on all tasks → what stages a method adds → constrained
search. EAGER-LLM and LC-Rec are this with item codes, a term and stages of their own.
"""

from __future__ import annotations

import json
import re
import string
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from harness.core.artifact_cache import CacheEntry
from harness.core.seeding import derive_seed
from harness.data.dataset import ItemText, require_text
from harness.generative.comprehension import Comprehension, ComprehensionItems, asked_items
from harness.generative.config import InstructConfig
from harness.generative.decoding.generate import Decoding, distributed_recommend, evenly_spaced
from harness.generative.exporting import ADAPTER, ITEMS, PAGE, export, page
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import Backbone, backbone_artefacts, load_backbone
from harness.generative.models.decoder_lm import CodeLM, code_tokenizer
from harness.generative.models.lora import attached, load_adapter, plain_name, save_adapter
from harness.generative.models.packing import can_pack
from harness.generative.models.precision import Precision, best_precision
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.item_texts import held_out_items, task_texts
from harness.generative.tasks.prompts import Prompts
from harness.generative.tokenizers.broadcast import made_index
from harness.generative.tokenizers.index import INDEX_FILE, SourceIndex, Vectors, code_directions
from harness.generative.training.losses import AuxiliaryLoss
from harness.generative.training.stages import StageInputs, alignment, unfreeze_vocabulary
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH, MAIN_METRIC
from harness.protocol.recommender import ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

PROBES = [f"<{letter}_{number}>" for letter in string.ascii_lowercase for number in (0, 10, 255)]

InstructConfigT = TypeVar("InstructConfigT", bound=InstructConfig)


class InstructRecommender(Recommender[InstructConfigT]):
    """Needs item text. A method fills `_index`, and where it has them `_term` and `_later_stages`."""

    distributed: ClassVar[bool] = True

    _record: dict[str, Any]
    _precision: Precision

    @abstractmethod
    def _index(self, data: TrainingData, context: RunContext) -> tuple[Vectors, SourceIndex]:
        """Vectors of the sources in use, and the item codes. What can be wrong with either is said before training."""

    def _term(self, vectors: Vectors, context: RunContext) -> AuxiliaryLoss | None:
        """What is added to the loss of responses."""
        return None

    def _later_stages(self, tuned: StageInputs, exam: Comprehension, context: RunContext) -> dict[str, Any]:
        """Runs the stages behind the alignment, the exam after each; their reports by name."""
        return {}

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        data.require_next_items()
        text = tuple(require_text(data.text, data.items, location=data.dataset))
        texts = task_texts(data, text, self.config.tasks)
        backbone = self._backbone(context)
        code_tokenizer(backbone, PROBES)  # a tokenizer that would split codes is refused before anything is trained
        vectors, index = made_index(context, lambda run_context: self._index(data, run_context))
        if context.run_dir is not None:
            index.write(context.run_dir / INDEX_FILE, data)
        choice = self.config.decode.filter_viewed
        self._record = {
            "vectors": {source: item_vectors.record() for source, item_vectors in vectors.items()},
            "filter_viewed": not data.repeats_items if choice == "auto" else choice,
        }
        self._build(index.table, backbone, context)
        if self.config.backbone.codes == "centroid":
            self.model.reset_codes(code_directions(index, vectors, self.model.code_in.shape[1], context.seed))
        term = self._term(vectors, context)
        self.model.to(context.device)
        pools = InstructionDataset(self._prompts, texts, self.config.tasks, context.seed)
        validate = None if context.validation is None else partial(self._validate, context)
        tuned = StageInputs(
            self.model, self._prompts, term, data, pools, self.config, self._precision, self._trie, validate
        )
        exam = self._comprehension(data, text, backbone)
        exam.measure("before", context)
        stages = {"alignment": alignment(tuned, context)}
        exam.measure("aligned", context)
        stages |= self._later_stages(tuned, exam, context)
        self._record |= {
            "index": index.record(),
            "tasks": pools.record(),
            "stages": stages,
            "comprehension": exam.record(),
        }

    def _validate(self, context: RunContext, users: int) -> float:
        """ndcg@10 of the model as it stands over at most `users` validation users, evenly spread."""
        assert context.validation is not None
        requests, decode = context.validation.requests, self.config.decode
        sample = requests.take(evenly_spaced(len(requests), users))
        decoding = Decoding(
            decode.beams, decode.batch, self._precision, decode.normalise, filter_viewed=self._record["filter_viewed"]
        )
        lists, _ = distributed_recommend(
            self.model, self._trie, sample, self._prompts.history, DEPTH, decoding, context
        )
        self.model.train()
        return float(context.world.broadcast_object(context.validation.score(lists)[MAIN_METRIC]))

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        decode = self.config.decode
        decoding = Decoding(
            decode.beams, decode.batch, self._precision, decode.normalise, decode.exact_users, resume=True,
            filter_viewed=self._record.get("filter_viewed", False),
        )  # fmt: skip
        predictions, report = distributed_recommend(
            self.model, self._trie, requests, self._prompts.history, k, decoding, context
        )
        self._record.setdefault("decode", {})[requests.fold] = vars(report)
        return predictions

    def _save(self, folder: Path) -> None:
        save_file(self._state(), folder / "model.safetensors")
        if attached(self.model.body):
            save_adapter(self.model.body, folder / ADAPTER, self.config.backbone.name)
        index = {"digits": self._table.digits.tolist(), "sizes": self._table.sizes}
        (folder / "model.json").write_text(json.dumps({"index": index, "record": self._record}))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        saved = json.loads((folder / "model.json").read_text())
        table = CodeTable(np.array(saved["index"]["digits"]), tuple(saved["index"]["sizes"]))
        self._build(table, self._backbone(context), context)
        self._record = saved["record"]
        missing, unexpected = self.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        if unexpected or any(not re.search(r"embed|\bwte\b|^text_head$", name) for name in missing):
            raise ValueError(f"{folder} holds another model: {unexpected or missing}")
        if (folder / ADAPTER).is_dir():
            load_adapter(self.model.body, folder / ADAPTER)
        self.model.to(context.device)

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        return backbone_artefacts(self.config.backbone.name, context)

    def size(self) -> ModelSize:
        trained = [stage["trainable_parameters"] for stage in self._record["stages"].values() if stage]
        return ModelSize(sum(p.numel() for p in self.model.parameters()), max(trained))

    def record(self) -> dict[str, Any]:
        return self._record

    def item_codes(self, data: TrainingData, context: RunContext) -> SourceIndex:
        """The item index alone, as a run with this configuration and seed has it: for `harness index build`."""
        return self._index(data, context)[1]

    def export(self, folder: Path, data: TrainingData, *, is_apart: bool = False) -> None:
        """The fitted or loaded model as a plain Hugging Face folder (`exporting.export`), with the items' codes and a
        page on how to ask it. A merged adapter stays merged."""
        is_apart = is_apart and attached(self.model.body)
        lead = self._prompts.templates["seqrec"][0]
        description = page(
            f"{type(self).__name__} on {data.dataset}", lead, self._table.levels, self.model.eos, is_apart=is_apart
        )
        export(
            self.model,
            self._tokenizer,
            folder,
            {ITEMS: self._table.text(data.items), PAGE: description},
            is_apart=is_apart,
        )

    def code_groups(self) -> np.ndarray:
        return self._table.groups

    def _backbone(self, context: RunContext) -> Backbone:
        config = self.config.backbone
        return load_backbone(
            config.name, config.layers, config.weights, context, width=config.width, storage=config.storage
        )

    def _build(self, table: CodeTable, backbone: Backbone, context: RunContext) -> None:
        """The model with the codes of `table`, untrained."""
        config = self.config.backbone
        self._tokenizer = code_tokenizer(backbone, table.tokens)
        torch.manual_seed(derive_seed(context.seed, "code rows"))
        self._table, self._trie = table, CodeTrie(table)
        self._prompts = Prompts(backbone, table, self.config.tasks.text_tokens)
        self.model = CodeLM(backbone, table.sizes, dropout=config.dropout, residual_dropout=config.residual_dropout)
        can_pack(self.model)  # tried while the body is whole: later its blocks may lie in pieces
        if config.vocabulary == "trained":
            unfreeze_vocabulary(self.model)
        self._precision = best_precision(context.device) if config.precision == "auto" else config.precision

    def _comprehension(self, data: TrainingData, text: tuple[ItemText, ...], backbone: Backbone) -> Comprehension:
        """Asks for some items of the text tasks, and some of those held out from them."""
        limit, lock = self.config.comprehension.items, held_out_items(data.items, self.config.tasks.held_out)
        known_mask, unknown = (asked_items(data.items, index, limit) for index in (~lock, lock))
        comprehension_items = ComprehensionItems(text, known_mask, unknown)
        return Comprehension(
            self.model, self._trie, self._prompts, backbone.tokenizer, comprehension_items, self._precision
        )

    def _state(self) -> dict[str, torch.Tensor]:
        """All that training moved, under the names that it has without an adapter; a frozen vocabulary stays where the
        backbone comes from."""
        frozen = [] if self.config.backbone.vocabulary == "trained" else [self.model.embedding.weight]
        values = ((plain_name(name), p) for name, p in self.model.named_parameters() if all(p is not f for f in frozen))
        return {name: p.detach().cpu().contiguous() for name, p in values if name is not None}
