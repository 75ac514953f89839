"""Comprehension of the language model, measured before training and after each stage.

- `title_to_code`: the code of an item's title (prompt of the task item2index), by beam search with `BEAMS` beams;
  `code_to_title`: the title of a code, greedily. `exact` is the accuracy, `token_f1` the mean F1 over tokens (code
  tokens, or words in lower case) as in SQuAD (Rajpurkar et al., EMNLP 2016). Measured on items of the text tasks, and
  under `held_out` on items outside them (`tasks.held_out`), which the model can only answer by generalising.
- `item_text_perplexity`: of the texts of the held-out items; of the other items if none is held out.
- `plain_text_perplexity`: of `plain_text.txt`, written for this project and in no training corpus; `plain_text_drift`
  is its ratio to the base model's, minus 1: 0 is unchanged, 1 is twice the perplexity.

Items are sampled by a fixed hash of their raw ids: the same for every seed and configuration. Perplexities and titles
are over the backbone's vocabulary alone, so that they are comparable between runs of one backbone only.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache

from harness.core.files import write_text
from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.heads import text_logsumexp
from harness.generative.models.packing import read_padded
from harness.generative.models.precision import Precision, autocast, to_float64
from harness.generative.tasks.prompts import IGNORED, Prompts, Sample, describe, name_of
from harness.generative.training.checkpoint import DISK_HINT
from harness.generative.trie import CodeTrie
from harness.protocol.context import SINGLE_PROCESS, RunContext
from harness.protocol.requests import Requests

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPAN = 256  # tokens of a text span
SPANS = 16  # spans in a batch, of similar length
TEXT_BATCH = 64  # prompts in a batch
BEAMS, BATCH = 20, 64


@torch.inference_mode()
def perplexity(
    model: CodeLM, texts: Iterable[Sequence[int]], device: str, precision: Precision, bos: Sequence[int] = ()
) -> float | None:
    """exp of the mean negative log-likelihood (nats) a token of `texts` (token ids of the text vocabulary), split into
    spans of `SPAN` tokens, each after `bos`. The first token of a span is not scored; None if there is no scored token.
    Code tokens are not part of the normalisation, so that adding them does not change the figure."""
    lead = len(bos)
    spans = [np.asarray(text[at : at + SPAN]) for text in texts for at in range(0, len(text), SPAN)]
    spans = sorted((span for span in spans if len(span) > 1), key=len)
    total, head = 0.0, _cast(model.text_head, precision)
    for begin in range(0, len(spans), SPANS):
        batch = spans[begin : begin + SPANS]
        payload = torch.from_numpy(np.concatenate([span[1:] for span in batch])).to(device)
        with autocast(device, precision):
            read = read_padded(model, [np.concatenate([bos, span]).astype(np.int64) for span in batch])
            positions = [
                start + lead + np.arange(len(span) - 1) for start, span in zip(read.begins, batch, strict=True)
            ]
            states = read[np.concatenate(positions)]
            normaliser = text_logsumexp(states, head, model.head)
        target_logits = model.head.finish((states.to(head.dtype).float() * head[payload].float()).sum(dim=-1), payload)
        total += float(to_float64(normaliser - target_logits).sum())
    scored = sum(len(span) - 1 for span in spans)
    return math.exp(min(total / scored, 700.0)) if scored else None


@torch.inference_mode()
def continuations(
    model: CodeLM, prompts: Sequence[Sequence[int]], limit: int, device: str, precision: Precision
) -> list[list[int]]:
    """Greedy decoding of text tokens, up to the end-of-sequence token (left out) or `limit` tokens.

    Prompts may contain code tokens. Prompts of equal length share a batch without padding, so that an answer does not
    depend on the other prompts.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    lengths = np.array([len(prompt) for prompt in prompts])
    head = _cast(model.text_head, precision)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        for begin in range(0, len(rows), TEXT_BATCH):
            batch = rows[begin : begin + TEXT_BATCH]
            ids = torch.tensor([list(prompts[row]) for row in batch], device=device)
            with autocast(device, precision):
                payload = _greedy(model, head, ids, limit)
            for row, tokens in zip(batch, payload.tolist(), strict=True):
                answers[row] = tokens[: tokens.index(model.eos)] if model.eos in tokens else tokens
    return answers


def _cast(head: torch.Tensor, precision: Precision) -> torch.Tensor:
    """The head in the dtype of its products, cast once: autocast would cast it for every product."""
    return head.detach() if precision == "float32" else head.detach().bfloat16()


def _greedy(model: CodeLM, head: torch.Tensor, ids: torch.Tensor, limit: int) -> torch.Tensor:
    """Token ids (batch, up to `limit`); those after a row's end-of-sequence token are undefined."""
    cache: Any = DynamicCache(config=model.body.config)
    values: list[torch.Tensor] = []
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    step = ids
    for _ in range(limit):
        states = model.states(step, past_key_values=cache, use_cache=True)[:, -1]
        products = functional.linear(states.to(head.dtype), head)
        values.append((products if model.head.plain else model.head.finish(products.float())).argmax(dim=-1))
        ended |= values[-1] == model.eos
        if bool(ended.all()):
            break
        step = values[-1][:, None]
    return torch.stack(values, dim=1)


CheckpointScores = Literal["before", "aligned", "annealed", "reinforced"]


def sample_items(items: Sequence[str], of: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` ids where `of` (bool, n_items) is true, by a fixed hash of their raw ids; ascending.

    >>> sample_items(["a", "b", "c", "d"], np.array([True, True, False, True]), 2).tolist()
    [1, 3]
    """
    hashed = [hashlib.sha256(f"comprehension/{item}".encode()).digest() for item in items]
    selected = sorted(np.flatnonzero(of).tolist(), key=hashed.__getitem__)[:limit]
    return np.array(sorted(selected), dtype=np.int64)


def token_f1(prediction: Sequence[Hashable], target: Sequence[Hashable]) -> float:
    """F1 of the tokens of `prediction` against those of `target`, as multisets.

    >>> token_f1(["a", "toy", "story"], ["toy", "story"])
    0.8
    """
    shared = sum((Counter(prediction) & Counter(target)).values())
    return 2 * shared / (len(prediction) + len(target)) if prediction or target else 1.0


def plain_text() -> str:
    """The text that drift is measured on."""
    return files("harness.generative").joinpath("plain_text.txt").read_text("utf-8")


@dataclass
class Comprehension:
    """Measures one model at several points of its training; does nothing without items. `text`: one an item; `known`,
    `unknown`: ids of items in and outside the text tasks."""

    model: CodeLM
    trie: CodeTrie
    prompts: Prompts
    tokenizer: PreTrainedTokenizerBase
    text: Sequence[ItemText]
    known: np.ndarray
    unknown: np.ndarray
    precision: Precision
    scores: dict[str, Any] = field(default_factory=dict)

    def measure(self, checkpoint: CheckpointScores, context: RunContext) -> None:
        """Adds the scores at this point of training to `scores`, unless an interrupted run has stored them. Leaves the
        model in evaluation mode. Only the main process measures, as all processes have the same model."""
        if context.world.rank:
            return
        context = replace(context, world=SINGLE_PROCESS)
        path = None if context.checkpoint is None else context.checkpoint / "comprehension.json"
        if path is not None and path.is_file():
            self.scores = json.loads(path.read_text())
        if checkpoint in self.scores or not len(self.known):
            return
        with context.excluded_from_timing("comprehension"):
            start_time = time.perf_counter()
            self.model.eval()
            figures = self._figures(context)
            self.scores[checkpoint] = {**figures, "seconds": round(time.perf_counter() - start_time, 3)}
            if path is not None:
                write_text(path, json.dumps(self.scores), DISK_HINT)

    def record(self) -> dict[str, Any] | None:
        """All scores, and the data they were measured on; None if nothing was measured."""
        if not self.scores:
            return None
        tokens = len(self.prompts.ids(plain_text()))
        measured_on = {
            "items": len(self.known),
            "held_out_items": len(self.unknown),
            "plain_text_tokens": tokens,
        }
        return {**self.scores, "measured_on": measured_on}

    def _figures(self, context: RunContext) -> dict[str, Any]:
        sample = self.unknown if len(self.unknown) else self.known
        texts = [self.prompts.ids(describe(self.text[item])) for item in sample]
        reading = (context.device, self.precision, self.prompts.bos)
        plain = perplexity(self.model, [self.prompts.ids(plain_text())], *reading)
        base = self.scores["before"]["plain_text_perplexity"] if "before" in self.scores else plain
        return {
            **self._both(self.known, context),
            **({"held_out": self._both(self.unknown, context)} if len(self.unknown) else {}),
            "item_text_perplexity": perplexity(self.model, texts, *reading),
            "plain_text_perplexity": plain,
            "plain_text_drift": None if plain is None or not base else plain / base - 1,
        }

    def _both(self, items: np.ndarray, context: RunContext) -> dict[str, Any]:
        return {"title_to_code": self._codes(items, context), "code_to_title": self._titles(items, context)}

    def _codes(self, items: np.ndarray, context: RunContext) -> dict[str, float]:
        titles = {int(item): ItemText(title=name_of(self.text[item])) for item in items}
        prompts = {item: _prompt(self.prompts.item2index(item, title, 0)) for item, title in titles.items()}
        requests = Requests("comprehension", np.arange(len(items)), RaggedArray.of([[item] for item in items]))
        decoding = Decoding(BEAMS, BATCH, self.precision)
        predictions, _ = recommend(
            Ranker(self.model, self.trie, lambda row: prompts[int(row[0])]), requests, 1, decoding, context
        )
        codes = self.prompts.codes
        return _accuracy(codes[predictions.items[:, 0]].tolist(), codes[items].tolist())

    def _titles(self, items: np.ndarray, context: RunContext) -> dict[str, float]:
        samples = [self.prompts.index2item(int(item), self.text[item], 0) for item in items]
        titles = [[label for label in sample.labels if label != IGNORED][:-1] for sample in samples]
        limit = max(len(title) for title in titles) + 1  # one more than the longest, so that a longer answer is wrong
        prompts = [_prompt(sample) for sample in samples]
        answers = continuations(self.model, prompts, limit, context.device, self.precision)
        return _accuracy([self._words(ids) for ids in answers], [self._words(ids) for ids in titles])

    def _words(self, ids: list[int]) -> list[str]:
        return str(self.tokenizer.decode(ids)).casefold().split()


def _prompt(sample: Sample) -> list[int]:
    """The tokens of a sample before its response."""
    return [token for token, label in zip(sample.ids, sample.labels, strict=True) if label == IGNORED]


def _accuracy(predictions: list[Any], targets: list[Any]) -> dict[str, float]:
    pairs = list(zip(predictions, targets, strict=True))
    return {
        "exact": float(np.mean([one == other for one, other in pairs])),
        "token_f1": float(np.mean([token_f1(one, other) for one, other in pairs])),
    }
