"""What the language model understands, measured before tuning and after each stage.

EAGER-LLM claims a balance of recommendation and comprehension; this is how it is put to the test here:

- `title_to_code`: an item's title in (in the words of the task item2index), its code out, by the same search as
  recommendations, with `BEAMS` beams; `code_to_title`: its code in, its title out, greedily. `exact` is the share of
  answers that are right, `token_f1` the mean F1 of their tokens (code tokens; words without regard to case), as in
  SQuAD (Rajpurkar et al., EMNLP 2016). Asked for items that stand in text tasks, and under `held_out` for items that
  stand in none (`tasks.held_out`): there a title or a code is right only where the model generalises.
- `item_text_perplexity`: of the texts of the held-out items; of the others where nothing is held out.
- `plain_text_perplexity`: of `plain_text.txt`, prose of our own that no model has seen; `plain_text_drift` is its ratio
  to the base model's, less one: 0 is unchanged, 1 is twice as perplexed.

Items are chosen by a fixed hash of their raw ids: the same for every seed and configuration. Perplexities are over the
backbone's own vocabulary and are comparable between runs of one backbone only.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.core.files import write_text
from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.generative.decoding.generate import Decoding, recommend
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.precision import Precision
from harness.generative.tasks.prompts import IGNORED, Prompts, Sample, describe, name_of
from harness.generative.text_generation import continuations, perplexity
from harness.generative.training.checkpoint import DISK_HINT
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.distributed import SINGLE_PROCESS
from harness.protocol.requests import Requests

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEAMS, BATCH = 20, 64
CheckpointScores = Literal["before", "aligned", "annealed"]


def asked_items(items: Sequence[str], of: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` ids of those where `of` (bool, n_items) is true, by a fixed hash of their raw ids; ascending.

    >>> asked_items(["a", "b", "c", "d"], np.array([True, True, False, True]), 2).tolist()
    [1, 3]
    """
    hashed = [hashlib.sha256(f"comprehension/{item}".encode()).digest() for item in items]
    chosen = sorted(np.flatnonzero(of).tolist(), key=hashed.__getitem__)[:limit]
    return np.array(sorted(chosen), dtype=np.int64)


def token_f1(selected_hashables: Sequence[Hashable], hashables: Sequence[Hashable]) -> float:
    """The harmonic mean of precision and recall of an answer's tokens, repeated ones counted.

    >>> token_f1(["a", "toy", "story"], ["toy", "story"])
    0.8
    """
    shared = sum((Counter(selected_hashables) & Counter(hashables)).values())
    return 2 * shared / (len(selected_hashables) + len(hashables)) if selected_hashables or hashables else 1.0


def plain_text() -> str:
    """The plain text that drift is measured on."""
    return files("harness.generative").joinpath("plain_text.txt").read_text("utf-8")


@dataclass(frozen=True, eq=False)
class ComprehensionItems:
    """What is asked for: item texts (one an item), and ids of items in and out of the text tasks."""

    text: Sequence[ItemText]
    known: np.ndarray
    unknown: np.ndarray


@dataclass
class Comprehension:
    """Examines one model, moment by moment; not at all where no items are asked for."""

    model: CodeLM
    trie: CodeTrie
    prompts: Prompts
    tokenizer: PreTrainedTokenizerBase
    asked: ComprehensionItems
    precision: Precision
    found: dict[str, Any] = field(default_factory=dict)

    def measure(self, moment: CheckpointScores, context: RunContext) -> None:
        """Adds the figures of this moment to `found`; what an interrupted run has kept of it is not measured again.
        The model is left in evaluation mode. The first process alone is examined: all have the same model."""
        if context.world.rank:
            return
        context = replace(context, world=SINGLE_PROCESS)
        path = None if context.checkpoint is None else context.checkpoint / "comprehension.json"
        if path is not None and path.is_file():
            self.found = json.loads(path.read_text())
        if moment in self.found or not len(self.asked.known):
            return
        with context.excluded_from_timing("comprehension"):
            start_time = time.perf_counter()
            self.model.eval()
            figures = self._figures(context)
            self.found[moment] = {**figures, "seconds": round(time.perf_counter() - start_time, 3)}
            if path is not None:
                write_text(path, json.dumps(self.found), DISK_HINT)

    def record(self) -> dict[str, Any] | None:
        """All moments, and what they were measured on; None where nothing was."""
        if not self.found:
            return None
        tokens = len(self.prompts.ids(plain_text()))
        requested = {
            "items": len(self.asked.known),
            "held_out_items": len(self.asked.unknown),
            "plain_text_tokens": tokens,
        }
        return {**self.found, "measured_on": requested}

    def _figures(self, context: RunContext) -> dict[str, Any]:
        gathered = self.asked.unknown if len(self.asked.unknown) else self.asked.known
        texts = [self.prompts.ids(describe(self.asked.text[item])) for item in gathered]
        reading = (context.device, self.precision, self.prompts.bos)
        plain = perplexity(self.model, [self.prompts.ids(plain_text())], *reading)
        base = self.found["before"]["plain_text_perplexity"] if "before" in self.found else plain
        return {
            **self._both(self.asked.known, context),
            **({"held_out": self._both(self.asked.unknown, context)} if len(self.asked.unknown) else {}),
            "item_text_perplexity": perplexity(self.model, texts, *reading),
            "plain_text_perplexity": plain,
            "plain_text_drift": None if plain is None or not base else plain / base - 1,
        }

    def _both(self, items: np.ndarray, context: RunContext) -> dict[str, Any]:
        return {"title_to_code": self._codes(items, context), "code_to_title": self._titles(items, context)}

    def _codes(self, items: np.ndarray, context: RunContext) -> dict[str, float]:
        titles = {int(item): ItemText(title=name_of(self.asked.text[item])) for item in items}
        requested = {item: _prompt(self.prompts.item2index(item, title, 0)) for item, title in titles.items()}
        requests = Requests("comprehension", np.arange(len(items)), RaggedArray.of([[item] for item in items]))
        decoding = Decoding(BEAMS, BATCH, self.precision)
        predictions, _ = recommend(
            self.model, self.trie, requests, lambda row: requested[int(row[0])], 1, decoding, context
        )
        message = self.prompts.codes[predictions.items[:, 0]].tolist()
        return _marks(message, self.prompts.codes[items].tolist())

    def _titles(self, items: np.ndarray, context: RunContext) -> dict[str, float]:
        samples = [self.prompts.index2item(int(item), self.asked.text[item], 0) for item in items]
        values = [[label for label in sample.labels if label != IGNORED][:-1] for sample in samples]
        limit = max(len(title) for title in values) + 1  # one more than the longest: a longer answer is seen to be one
        prompts = [_prompt(sample) for sample in samples]
        message = continuations(self.model, prompts, limit, context.device, self.precision)
        return _marks([self._words(ids) for ids in message], [self._words(ids) for ids in values])

    def _words(self, ids: list[int]) -> list[str]:
        return str(self.tokenizer.decode(ids)).casefold().split()


def _prompt(sample: Sample) -> list[int]:
    """What of a sample is read, not written."""
    return [token for token, label in zip(sample.ids, sample.labels, strict=True) if label == IGNORED]


def _marks(items: list[Any], values: list[Any]) -> dict[str, float]:
    pairs = list(zip(items, values, strict=True))
    return {
        "exact": float(np.mean([one == other for one, other in pairs])),
        "token_f1": float(np.mean([token_f1(one, other) for one, other in pairs])),
    }
