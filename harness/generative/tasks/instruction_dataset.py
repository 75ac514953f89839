"""The samples of the text tasks and their templates. Every text is tokenised once. Histories that exceed the context
lose their oldest items, texts are truncated; both are counted for the run's record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.seeding import generator
from harness.data.ragged import RaggedArray
from harness.generative.config import StageConfig, Task, TasksConfig
from harness.generative.tasks.item_texts import SPANS, TaskTexts
from harness.generative.tasks.prompts import (
    Prompts,
    Sample,
    TokenSpans,
    append_to_all,
    describe,
    name_of,
    sample,
    single_span,
    truncate_left,
)


@dataclass(frozen=True, eq=False)
class TemplateGroup:
    """Samples of one group of templates: `slots` fill the template of sample `n`, row `n` of the spans is its response.
    `items`: the item that each response names, None if responses are text. `cut`: number of truncated histories."""

    name: str
    slots: dict[str, TokenSpans]
    response: TokenSpans
    items: np.ndarray | None = None
    cut: int = 0

    def __len__(self) -> int:
        return len(self.response)

    def write(self, prompts: Prompts, numbers: np.ndarray, templates: np.ndarray) -> list[Sample]:
        """The samples `numbers`, each in its template."""
        slots = {slot: rows.take(numbers) for slot, rows in self.slots.items()}
        responses = self.response.take(numbers)
        items = [None] * len(numbers) if self.items is None else self.items[numbers].tolist()
        return [
            sample(prompts.fill(self.name, template, {slot: rows[place] for slot, rows in slots.items()}), values, item)
            for place, (template, values, item) in enumerate(zip(templates.tolist(), responses, items, strict=True))
        ]

    def tokens(self) -> int:
        """Tokens of all samples, without templates."""
        return int(sum(rows.lengths.sum() for rows in (*self.slots.values(), self.response)))


class InstructionDataset:
    """All samples of the text tasks that are on in `config`; `samples` writes a selection of them."""

    def __init__(self, prompts: Prompts, texts: TaskTexts, config: TasksConfig, seed: int) -> None:
        self._prompts, self._texts, self._config = prompts, texts, config
        self._cut: dict[str, int] = {}
        self._codes = RaggedArray.of(prompts.codes)
        self._levels = prompts.codes.shape[1]
        makers = {
            "item2index": self._item2index,
            "index2item": self._index2item,
            "fusionseqrec": self._fusionseqrec,
            "itemsearch": self._itemsearch,
            "preferenceobtain": self._preferenceobtain,
        }
        self._groups: dict[Task, list[TemplateGroup]] = {
            task: makers[task]() for task in config.weights() if task != "seqrec"
        }
        self._drawn: dict[Task, np.ndarray] = {
            task: self._draw(task, groups, seed) for task, groups in self._groups.items()
        }

    @property
    def sizes(self) -> Mapping[Task, int]:
        """Number of samples of each task, within its cap; only tasks with samples."""
        return {task: len(samples) for task, samples in self._drawn.items() if len(samples)}

    def weights(self, stage: StageConfig, targets: int) -> Mapping[Task, float]:
        """Weights of the tasks that have samples. With `mixing="samples"` they are multiplied by the steps of one pass
        over the task, so that equal weights give equally many passes; `targets`: next-item targets of a pass."""
        sizes = self.sizes
        weights: dict[Task, float] = {
            task: weight for task, weight in self._config.weights().items() if task == "seqrec" or task in sizes
        }
        if self._config.mixing == "weights":
            return weights
        steps: dict[Task, float] = {"seqrec": targets / stage.targets}
        steps.update((task, size / stage.rows) for task, size in sizes.items())
        return {task: weight * steps[task] for task, weight in weights.items()}

    def samples(self, task: Task, numbers: np.ndarray, templates: np.ndarray) -> list[Sample]:
        """The samples `numbers` (below `sizes[task]`) of a task in the given templates, grouped by template group."""
        groups = self._groups[task]
        begins = np.cumsum([0, *map(len, groups)])
        rows = self._drawn[task][numbers]
        index = np.searchsorted(begins, rows, side="right") - 1
        samples: list[Sample] = []
        for number, group in enumerate(groups):
            selected = index == number
            samples += group.write(self._prompts, rows[selected] - begins[number], templates[selected])
        return samples

    def record(self) -> dict[str, Any]:
        """For each task: samples, samples before the cap, mean tokens of a sample, numbers of truncated texts and
        histories."""
        tasks = {}
        for task, groups in self._groups.items():
            total = sum(map(len, groups))
            tokens = sum(group.tokens() + len(group) * self._prompts.overhead(group.name, 1) for group in groups)
            tasks[task] = {
                "samples": len(self._drawn[task]),
                "of": total,
                "tokens": round(tokens / max(total, 1), 1),
                "histories_cut": sum(group.cut for group in groups),
                "texts_cut": sum(self._cut.get(group.name, 0) for group in groups),
            }
        return {"held_out_items": int((~self._texts.shown).sum()), "written_by": self._texts.written, "tasks": tasks}

    def _draw(self, task: Task, groups: Sequence[TemplateGroup], seed: int) -> np.ndarray:
        """Sample numbers within the cap, ascending."""
        total, cap = sum(map(len, groups)), getattr(self._config.caps, task)
        if cap is None or cap >= total:
            return np.arange(total)
        return np.sort(generator(seed, "cap", task).choice(total, cap, replace=False))

    def _item2index(self) -> list[TemplateGroup]:
        """Title to code; also the full description to code, if it differs from the title."""
        texts, items = self._texts.items, np.flatnonzero(self._texts.shown)
        values = [(item, describe(texts[item])) for item in items.tolist()]
        values += [(item, texts[item].title) for item, total in values.copy() if texts[item].title not in ("", total)]
        owners = np.array([item for item, _ in values])
        room = self._prompts.room("item2index", self._config.templates, self._levels)
        rows = self._tokens("item2index", [text for _, text in values], room)
        return [TemplateGroup("item2index", {"text": single_span(rows)}, single_span(self._codes, owners), owners)]

    def _index2item(self) -> list[TemplateGroup]:
        """Code to title."""
        items = np.flatnonzero(self._texts.shown)
        titles = self._titles("index2item")
        return [TemplateGroup("index2item", {"code": single_span(self._codes, items)}, single_span(titles, items))]

    def _fusionseqrec(self) -> list[TemplateGroup]:
        """History of titles to the next code; history of codes to the next title."""
        sequences, begins, ends = self._targets()
        separator = self._prompts.ids(";")
        room = self._prompts.room("fusionseqrec.titles", self._config.templates, self._levels + len(separator))
        names = append_to_all(self._names("fusionseqrec.titles", min(room, self._config.title_tokens)), separator)
        titles = TokenSpans(names, sequences, np.maximum(begins, ends - self._config.titles), ends)
        codes = TokenSpans(self._codes, sequences, np.maximum(begins, ends - self._config.window + 1), ends)
        targets = sequences.values[ends]
        return [
            self._fit("fusionseqrec.titles", {"history": titles}, single_span(self._codes, targets), targets),
            self._fit(
                "fusionseqrec.codes", {"history": codes}, single_span(self._titles("fusionseqrec.codes"), targets)
            ),
        ]

    def _itemsearch(self) -> list[TemplateGroup]:
        """Intention of the next item and recent codes to its code."""
        sequences, begins, ends = self._targets()
        mask = np.array([bool(text) for text in self._texts.intentions], bool) & self._texts.shown
        wished = mask[sequences.values[ends]]
        begins, ends = begins[wished], ends[wished]
        room = self._prompts.room("itemsearch", self._config.templates, 2 * self._levels)
        wishes = self._tokens("itemsearch", self._texts.intentions, room, mask)
        recent = TokenSpans(self._codes, sequences, np.maximum(begins, ends - self._config.recent), ends)
        targets = sequences.values[ends]
        slots = {"history": recent, "intention": single_span(wishes, targets)}
        return [self._fit("itemsearch", slots, single_span(self._codes, targets), targets)]

    def _preferenceobtain(self) -> list[TemplateGroup]:
        """History of codes to the preferences of its items: long-term, and of the recent items."""
        groups = []
        for span in SPANS:
            name = f"preferenceobtain.{span}"
            histories = self._texts.histories(span, self._config.window - 1, self._config.recent)
            present = np.array([bool(text) for text in self._texts.preferences[span]], bool) & (histories.lengths > 0)
            users = np.flatnonzero(present)
            room = self._prompts.room(name, self._config.templates, self._levels + 1)
            words = append_to_all(self._tokens(name, self._texts.preferences[span], room, present), [self._prompts.eos])
            codes = TokenSpans(self._codes, histories, histories.offsets[:-1][users], histories.offsets[1:][users])
            groups.append(self._fit(name, {"history": codes}, single_span(words, users)))
        return groups

    def _targets(self) -> tuple[RaggedArray, np.ndarray, np.ndarray]:
        """All sequences, and for each next item the begin of its history and its own position in their values."""
        sequences = self._texts.sequences
        begins = sequences.offsets[:-1][sequences.rows()]
        ends = np.flatnonzero(sequences.places() > 0)
        return sequences, begins[ends], ends

    def _fit(
        self, name: str, slots: dict[str, TokenSpans], response: TokenSpans, items: np.ndarray | None = None
    ) -> TemplateGroup:
        """Truncates histories to the room that the other texts leave; the oldest items are dropped."""
        fixed = response.lengths + sum(rows.lengths for slot, rows in slots.items() if slot != "history")
        room = self._prompts.context - self._prompts.overhead(name, self._config.templates) - fixed
        history, cut = truncate_left(slots["history"], room)
        return TemplateGroup(name, {**slots, "history": history}, response, items, cut)

    def _titles(self, name: str) -> RaggedArray:
        """Names of items as responses, with the end-of-sequence token."""
        room = self._prompts.room(name, self._config.templates, self._levels + 1)
        return append_to_all(self._names(name, room), [self._prompts.eos])

    def _names(self, name: str, cut: int) -> RaggedArray:
        return self._tokens(name, [name_of(text) for text in self._texts.items], cut, self._texts.shown)

    def _tokens(self, name: str, texts: Sequence[str], cut: int, present: np.ndarray | None = None) -> RaggedArray:
        """The texts (empty where not `present`), truncated to `cut` tokens; truncations are counted for `name`."""
        present = np.ones(len(texts), bool) if present is None else present
        rows = self._prompts.tokens(
            [text if shown else "" for text, shown in zip(texts, present, strict=True)], cut + 1
        )
        self._cut[name] = self._cut.get(name, 0) + int(((rows.lengths > cut) & present).sum())
        return rows.first(np.full(len(rows), cut))
