"""Prompts: templates (data in `templates.json`) filled with token ids, and samples with labels.

Item codes are inserted between tokenised texts as ids, so that a code is the same tokens with any tokenizer. Prompts
begin with a BOS token if the tokenizer adds one. The history is at the end of its prompt and the response follows it,
so that one pass over a sequence trains every next item with its prompt as context.

`TokenSpans` are rows of token ids, which are selected, concatenated and truncated without tokenising a text twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from itertools import pairwise

import numpy as np

from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import Backbone

IGNORED = -100  # label of a token without loss
TEXT_TOKENS = 48  # default of tokens that an item's text is truncated to
SLOT = re.compile(r" ?\{(\w+)\}")  # the space before a slot becomes part of its content, as in tokenizers


@dataclass(frozen=True, eq=False)
class TokenSpans:
    """Row `n` is the concatenation of the rows `parts.values[begin[n]:end[n]]` of `tokens`.

    >>> words, parts = RaggedArray.of([[1], [2, 2], [3]]), RaggedArray.of([[2, 0, 1]])
    >>> TokenSpans(words, parts, np.array([0, 1]), np.array([2, 3])).take(np.array([1, 0]))
    [[1, 2, 2], [3, 1]]
    """

    tokens: RaggedArray
    parts: RaggedArray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, rows: np.ndarray) -> list[list[int]]:
        """Token ids of the given rows."""
        parts = self.parts.windows(self.begin[rows], self.end[rows])
        tokens = self.tokens.take(parts.values)
        flat, cuts = tokens.values.tolist(), tokens.offsets[parts.offsets].tolist()
        return [flat[begin:end] for begin, end in pairwise(cuts)]

    @cached_property
    def sums(self) -> np.ndarray:
        """Tokens of `parts.values[:n]`, shape (len(parts.values) + 1,)."""
        return np.concatenate([[0], np.cumsum(self.tokens.lengths[self.parts.values])])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row."""
        return self.sums[self.end] - self.sums[self.begin]


def single_span(tokens: RaggedArray, rows: np.ndarray | None = None) -> TokenSpans:
    """Row `n` is row `rows[n]` of `tokens` (None: row `n`)."""
    rows = np.arange(len(tokens)) if rows is None else rows
    return TokenSpans(tokens, RaggedArray.of([rows]), np.arange(len(rows)), np.arange(1, len(rows) + 1))


def truncate_left(spans: TokenSpans, room: np.ndarray) -> tuple[TokenSpans, int]:
    """Drops the first parts of each row until it has at most `room[n]` tokens; the last part always stays. Also returns
    the number of truncated rows.

    >>> words, parts = RaggedArray.of([[1, 1], [2, 2], [3]]), RaggedArray.of([[0, 1, 2]])
    >>> rows = TokenSpans(words, parts, np.array([0]), np.array([3]))
    >>> short, truncated = truncate_left(rows, np.array([4]))
    >>> short.take(np.array([0])), truncated
    ([[2, 2, 3]], 1)
    """
    first = np.searchsorted(spans.sums, spans.sums[spans.end] - room, side="left")
    begin = np.minimum(np.maximum(spans.begin, first), spans.end - 1)
    return replace(spans, begin=begin), int((begin > spans.begin).sum())


def append_to_all(rows: RaggedArray, ids: Sequence[int]) -> RaggedArray:
    """Every row with `ids` appended.

    >>> append_to_all(RaggedArray.of([[1], [2, 3]]), [9, 8]).values.tolist()
    [1, 9, 8, 2, 3, 9, 8]
    """
    values = np.insert(rows.values, np.repeat(rows.offsets[1:], len(ids)), np.tile(ids, len(rows)))
    return RaggedArray.of_lengths(values, rows.lengths + len(ids))


@dataclass(frozen=True)
class Sample:
    """Token ids, and the label of each: its id in the response, else `IGNORED`. `item`: the target item if the response
    is its code, else None."""

    ids: list[int]
    labels: list[int]
    item: int | None = None


class Prompts:
    """Writes prompts and samples for a backbone and a code table. `text_tokens`: maximal tokens of a text."""

    def __init__(self, backbone: Backbone, table: CodeTable, text_tokens: int = TEXT_TOKENS) -> None:
        self.templates: dict[str, list[str]] = json.loads(
            files("harness.generative.tasks").joinpath("templates.json").read_text("utf-8")
        )
        self._tokenizer, self.eos, self.bos = backbone.tokenizer, backbone.eos, list(backbone.bos)
        self.codes = table.flat + backbone.vocabulary
        self.context = backbone.context
        self.text_tokens = text_tokens
        self._filled: dict[tuple[str, int], list[tuple[list[int], str]]] = {}

    def lead(self, template: int = 0) -> list[int]:
        """Tokens before a history."""
        return self.fill("seqrec", template, {})

    def history(self, items: np.ndarray, template: int = 0) -> list[int]:
        """The prompt for the item after `items`, not truncated: decoding drops the oldest items that exceed the
        context, and counts them."""
        return self.lead(template) + self.codes[items].reshape(-1).tolist()

    def item2index(self, item: int, text: ItemText, template: int) -> Sample:
        """Text to code."""
        cut = self.room("item2index", template + 1, self.codes.shape[1])
        prompt = self.fill("item2index", template, {"text": self.tokens([describe(text)], cut)[0].tolist()})
        return sample(prompt, self.codes[item].tolist(), item)

    def index2item(self, item: int, text: ItemText, template: int) -> Sample:
        """Code to title."""
        cut = self.room("index2item", template + 1, self.codes.shape[1] + 1)
        prompt = self.fill("index2item", template, {"code": self.codes[item].tolist()})
        return sample(prompt, [*self.tokens([name_of(text)], cut)[0].tolist(), self.eos])

    def fill(self, group: str, template: int, slots: Mapping[str, list[int]]) -> list[int]:
        """Token ids of a template of `group` (a key of `templates.json`) with its slots filled."""
        ids: list[int] = []
        for words, slot in self._parts(group, template):
            ids += words
            if slot:
                ids += slots[slot]
        return ids

    def overhead(self, group: str, templates: int) -> int:
        """Tokens of the longest of the first `templates` templates, without slots."""
        return max(sum(len(words) for words, _ in self._parts(group, number)) for number in range(templates))

    def room(self, group: str, templates: int, fixed: int) -> int:
        """Maximal tokens of a text in a sample of `group` with `others` further tokens besides its template: at most
        `text_tokens`. Raises `InputError` if the backbone's context is too short."""
        room = min(self.text_tokens, self.context - self.overhead(group, templates) - fixed)
        if room < 1:
            raise InputError(
                f"a context of {self.context} tokens is too short for the prompts of {group}",
                where="backbone.name",
                hint=f"choose a backbone with a longer context, or set tasks.{group.partition('.')[0]}=0",
            )
        return room

    def tokens(self, texts: Sequence[str], cut: int | None = None) -> RaggedArray:
        """The texts as part of a sentence, tokenised together, each truncated to `cut` tokens."""
        if not len(texts):
            return RaggedArray.of([])
        rows: list[list[int]] = self._tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
        return RaggedArray.of(row[:cut] for row in rows)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text without leading space."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []  # type: ignore[return-value]

    def _parts(self, group: str, template: int) -> list[tuple[list[int], str]]:
        """A template as token ids, each with the slot that follows it ("" after the last)."""
        key = (group, template)
        if key not in self._filled:
            pieces = SLOT.split(self.templates[group][template])
            parts = [(self.ids(words), slot) for words, slot in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
            self._filled[key] = [(self.bos + parts[0][0], parts[0][1]), *parts[1:]]
        return self._filled[key]


@dataclass(frozen=True, eq=False)
class CodePrompts:
    """Prompts without text: the tokens `start`, then the history. `codes`: token ids of each item, (items, levels)."""

    codes: np.ndarray
    start: tuple[int, ...]

    def lead(self, template: int = 0) -> list[int]:
        """What stands before a history: the same for any template."""
        return list(self.start)

    def history(self, items: np.ndarray) -> list[int]:
        """The prompt that asks for the item after `items`."""
        return [*self.start, *self.codes[items].reshape(-1).tolist()]


def describe(text: ItemText) -> str:
    """One line on an item: title, brand, categories, and the beginning of its description."""
    parts = [text.title, text.brand, ", ".join(text.categories), text.description]
    return ". ".join(part for part in parts if part)


def name_of(text: ItemText) -> str:
    """Name of an item: its title, or its description if it has none."""
    return text.title or describe(text)


def sample(prompt: Sequence[int], response: Sequence[int], item: int | None = None) -> Sample:
    """A sample with labels on the response only."""
    return Sample([*prompt, *response], [IGNORED] * len(prompt) + list(response), item)
