"""The samples of the text tasks and their templates. Every text is tokenised once. Histories that exceed the context
lose their oldest items, texts their end; both are counted for the run's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.seeding import generator
from harness.data.ragged import RaggedArray
from harness.generative.config import StageConfig, Task, TasksConfig
from harness.generative.tasks.item_texts import SPANS, TaskTexts
from harness.generative.tasks.prompts import Prompts, Sample, describe, name_of, sample
from harness.generative.tasks.token_spans import TokenSpans, append_to_all, single_span, truncate_left


@dataclass(frozen=True, eq=False)
class TemplateGroup:
    """Samples of one group of templates: sample `n` fills the slots and is answered by row `n` of the spans. `items`:
    the item that each response names, None where responses are text. `cut`: histories that had to be shortened."""

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
        """Tokens of all samples together, templates not counted."""
        return int(sum(rows.lengths.sum() for rows in (*self.slots.values(), self.response)))


class InstructionDataset:
    """All samples of the text tasks that `config` has on. `samples(task, numbers, templates)` writes some of them."""

    def __init__(self, prompts: Prompts, texts: TaskTexts, config: TasksConfig, seed: int) -> None:
        self._prompts, self._texts, self._config = prompts, texts, config
        self._cut: dict[str, int] = {}
        self._codes = RaggedArray.of(prompts.codes)
        self._levels = prompts.codes.shape[1]
        make = {
            "item2index": self._item2index,
            "index2item": self._index2item,
            "fusionseqrec": self._fusionseqrec,
            "itemsearch": self._itemsearch,
            "preferenceobtain": self._preferenceobtain,
        }
        self._groups: dict[Task, list[TemplateGroup]] = {
            task: make[task]() for task in config.weights() if task != "seqrec"
        }
        self._drawn: dict[Task, np.ndarray] = {
            task: self._draw(task, groups, seed) for task, groups in self._groups.items()
        }

    @property
    def sizes(self) -> Mapping[Task, int]:
        """How many samples a task has, within its cap; tasks without any are left out."""
        return {task: len(samples) for task, samples in self._drawn.items() if len(samples)}

    def weights(self, stage: StageConfig, targets: int) -> Mapping[Task, float]:
        """Weights of the tasks that have samples. With `mixing="samples"` times the steps that one pass over a task
        takes, so that at equal weights all are passed over equally often; `targets` are the next items of a pass."""
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
        """The samples `numbers` (below `sizes[task]`) of a task, each in the template given for it; those of one group
        of templates stand together."""
        groups = self._groups[task]
        begins = np.cumsum([0, *map(len, groups)])
        rows = self._drawn[task][numbers]
        index = np.searchsorted(begins, rows, side="right") - 1
        selected_samples: list[Sample] = []
        for number, group in enumerate(groups):
            own = index == number
            selected_samples += group.write(self._prompts, rows[own] - begins[number], templates[own])
        return selected_samples

    def record(self) -> dict[str, Any]:
        """Samples of each task, before the cap too, tokens a sample on average, texts and histories that were cut."""
        tasks = {}
        for task, groups in self._groups.items():
            every = sum(map(len, groups))
            tokens = sum(group.tokens() + len(group) * self._prompts.overhead(group.name, 1) for group in groups)
            tasks[task] = {
                "samples": len(self._drawn[task]),
                "of": every,
                "tokens": round(tokens / max(every, 1), 1),
                "histories_cut": sum(group.cut for group in groups),
                "texts_cut": sum(self._cut.get(group.name, 0) for group in groups),
            }
        return {"held_out_items": int((~self._texts.shown).sum()), "written_by": self._texts.written, "tasks": tasks}

    def _draw(self, task: Task, groups: Sequence[TemplateGroup], seed: int) -> np.ndarray:
        """Which samples take part: all, or as many as the cap allows."""
        every, cap = sum(map(len, groups)), getattr(self._config.caps, task)
        if cap is None or cap >= every:
            return np.arange(every)
        return np.sort(generator(seed, "cap", task).choice(every, cap, replace=False))

    def _item2index(self) -> list[TemplateGroup]:
        """Its title in, and once more all that is known of it, where that is more; its code out."""
        texts, items = self._texts.items, np.flatnonzero(self._texts.shown)
        values = [(item, describe(texts[item])) for item in items.tolist()]
        values += [(item, texts[item].title) for item, total in values.copy() if texts[item].title not in ("", total)]
        name = np.array([item for item, _ in values])
        room = self._prompts.room("item2index", self._config.templates, self._levels)
        rows = self._tokens("item2index", [text for _, text in values], room)
        return [TemplateGroup("item2index", {"text": single_span(rows)}, single_span(self._codes, name), name)]

    def _index2item(self) -> list[TemplateGroup]:
        """Its code in, its title out."""
        items = np.flatnonzero(self._texts.shown)
        titles = self._titles("index2item")
        return [TemplateGroup("index2item", {"code": single_span(self._codes, items)}, single_span(titles, items))]

    def _fusionseqrec(self) -> list[TemplateGroup]:
        """Titles of a history in, the code of the next item out; codes in, the title of the next out."""
        values, begins, ends = self._targets()
        after = self._prompts.ids(";")
        room = self._prompts.room("fusionseqrec.titles", self._config.templates, self._levels + len(after))
        names = append_to_all(self._names("fusionseqrec.titles", min(room, self._config.title_tokens)), after)
        forth = TokenSpans(names, values, np.maximum(begins, ends - self._config.titles), ends)
        back = TokenSpans(self._codes, values, np.maximum(begins, ends - self._config.window + 1), ends)
        targets = values[ends]
        return [
            self._fit("fusionseqrec.titles", {"history": forth}, single_span(self._codes, targets), targets),
            self._fit(
                "fusionseqrec.codes", {"history": back}, single_span(self._titles("fusionseqrec.codes"), targets)
            ),
        ]

    def _itemsearch(self) -> list[TemplateGroup]:
        """The intention behind the next item and the recent codes in, its code out."""
        values, begins, ends = self._targets()
        known_mask = np.array([bool(text) for text in self._texts.intentions], bool) & self._texts.shown
        begins, ends = begins[known_mask[values[ends]]], ends[known_mask[values[ends]]]
        room = self._prompts.room("itemsearch", self._config.templates, 2 * self._levels)
        wishes = self._tokens("itemsearch", self._texts.intentions, room, known_mask)
        recent = TokenSpans(self._codes, values, np.maximum(begins, ends - self._config.recent), ends)
        targets = values[ends]
        slots = {"history": recent, "intention": single_span(wishes, targets)}
        return [self._fit("itemsearch", slots, single_span(self._codes, targets), targets)]

    def _preferenceobtain(self) -> list[TemplateGroup]:
        """A history in codes in, what it has in common out: of all that is shown, and of the recent items alone."""
        groups = []
        for span in SPANS:
            name = f"preferenceobtain.{span}"
            past = self._texts.histories(span, self._config.window - 1, self._config.recent)
            gathered = np.array([bool(text) for text in self._texts.preferences[span]], bool) & (past.lengths > 0)
            users = np.flatnonzero(gathered)
            room = self._prompts.room(name, self._config.templates, self._levels + 1)
            words = append_to_all(
                self._tokens(name, self._texts.preferences[span], room, gathered), [self._prompts.eos]
            )
            codes = TokenSpans(self._codes, past.values, past.offsets[:-1][users], past.offsets[1:][users])
            groups.append(self._fit(name, {"history": codes}, single_span(words, users)))
        return groups

    def _targets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Item ids of all sequences, and for each next item where its history begins and where it ends: there the item
        itself stands."""
        sequences = self._texts.sequences
        begins = sequences.offsets[:-1][sequences.rows()]
        ends = np.flatnonzero(np.arange(len(sequences.values)) > begins)
        return sequences.values, begins[ends], ends

    def _fit(
        self, name: str, slots: dict[str, TokenSpans], response: TokenSpans, items: np.ndarray | None = None
    ) -> TemplateGroup:
        """With histories that leave room for all else; the oldest items go."""
        others = response.lengths + sum(rows.lengths for slot, rows in slots.items() if slot != "history")
        room = self._prompts.context - self._prompts.overhead(name, self._config.templates) - others
        history, cut = truncate_left(slots["history"], room)
        return TemplateGroup(name, {**slots, "history": history}, response, items, cut)

    def _titles(self, name: str) -> RaggedArray:
        """Names of items as responses, with the end-of-sequence token."""
        room = self._prompts.room(name, self._config.templates, self._levels + 1)
        return append_to_all(self._names(name, room), [self._prompts.eos])

    def _names(self, name: str, cut: int) -> RaggedArray:
        return self._tokens(name, [name_of(text) for text in self._texts.items], cut, self._texts.shown)

    def _tokens(self, name: str, texts: Sequence[str], cut: int, gathered: np.ndarray | None = None) -> RaggedArray:
        """The texts, empty where not `gathered`, cut to `cut` tokens; the cuts are counted under the group's name."""
        gathered = np.ones(len(texts), bool) if gathered is None else gathered
        rows = self._prompts.tokens([text if tell else "" for text, tell in zip(texts, gathered, strict=True)], cut + 1)
        self._cut[name] = self._cut.get(name, 0) + int(((rows.lengths > cut) & gathered).sum())
        return rows.first(np.full(len(rows), cut))
