"""Prompts: templates (data, in `templates.json`) and samples of token ids with labels.

Codes are put between pieces of tokenised text as ids, never through the tokenizer: one id a code token holds for any
tokenizer. A history stands at the very end of its prompt and the response carries it on, so that one pass over a
sequence trains every next item with exactly the context that it has when it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from harness.data.dataset import ItemText
from harness.generative.backbone import Backbone
from harness.generative.codes import CodeTable

IGNORED = -100  # label of a token that is read, not written
TEXT_TOKENS = 48  # an item's text in a prompt is cut to this many tokens


@dataclass(frozen=True)
class Sample:
    """Token ids, and the label of each: the id itself where it belongs to the response, else `IGNORED`. `item` is the
    target item where the response is its code, else None."""

    ids: list[int]
    labels: list[int]
    item: int | None = None


class Prompts:
    """Writes samples for one backbone and one code table."""

    def __init__(self, backbone: Backbone, table: CodeTable) -> None:
        self.templates: dict[str, list[str]] = json.loads(files("eager").joinpath("templates.json").read_text("utf-8"))
        self._tokenizer, self._eos = backbone.tokenizer, backbone.eos
        self.codes = table.flat + backbone.vocabulary
        self.context = backbone.context

    def lead(self, template: int = 0) -> list[int]:
        """What stands before a history."""
        return self._ids(self.templates["seqrec"][template])

    def history(self, items: np.ndarray, template: int = 0) -> list[int]:
        """The prompt that asks for the item after `items`; the oldest give way where the context is too short."""
        lead, levels = self.lead(template), self.codes.shape[1]
        room = max((self.context - len(lead)) // levels - 1, 1)
        return lead + self.codes[items[-room:]].reshape(-1).tolist()

    def item2index(self, item: int, text: ItemText, template: int) -> Sample:
        """Text in, code out."""
        before, after = self.templates["item2index"][template].split("{text}")
        prompt = self._ids(before) + self._ids(describe(text))[:TEXT_TOKENS] + self._ids(after)
        return _sample(prompt, self.codes[item].tolist(), item)

    def index2item(self, item: int, text: ItemText, template: int) -> Sample:
        """Code in, title out."""
        before, after = self.templates["index2item"][template].split("{code}")
        prompt = self._ids(before) + self.codes[item].tolist() + self._ids(after)
        return _sample(prompt, [*self._ids(" " + text.title)[:TEXT_TOKENS], self._eos])

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []  # type: ignore[return-value]


def describe(text: ItemText) -> str:
    """An item in one line: title, brand, categories, and the beginning of its description."""
    parts = [text.title, text.brand, ", ".join(text.categories), text.description]
    return ". ".join(part for part in parts if part)


def _sample(prompt: Sequence[int], response: Sequence[int], item: int | None = None) -> Sample:
    return Sample([*prompt, *response], [IGNORED] * len(prompt) + list(response), item)


def padded(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and labels, int64 (batch, longest), padded on the right where causal attention never looks."""
    longest = max(len(sample.ids) for sample in samples)
    ids = np.zeros((len(samples), longest), dtype=np.int64)
    labels = np.full((len(samples), longest), IGNORED)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = sample.ids
        labels[row, : len(sample.labels)] = sample.labels
    return ids, labels
