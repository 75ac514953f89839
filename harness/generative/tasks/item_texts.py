"""What the text tasks may speak of: the items that are not held out, the training sequences without the others, and the
texts of items, intentions and preferences. Made before anything is trained, so that a wrong file is found in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import ItemText
from harness.data.ragged import Ragged
from harness.errors import InputError
from harness.generative.task_config import TasksConfig
from harness.generative.tasks.held_out import held_out_items
from harness.generative.tasks.intentions import Span, intention, preferences, traits
from harness.generative.tasks.user_texts import SPANS, read_texts
from harness.protocol.split import TrainingData


@dataclass(frozen=True, eq=False)
class TaskTexts:
    """`shown`: bool (n_items,), False for held-out items. `sequences`: the training sequences without those.
    `intentions`: one an item, `preferences[span]`: one a user, "" where there is none. `written`: by whom, "rule" or
    "file".
    """

    items: Sequence[ItemText]
    shown: np.ndarray
    sequences: Ragged
    intentions: Sequence[str]
    preferences: Mapping[Span, Sequence[str]]
    written: dict[str, str]

    def histories(self, span: Span, longest: int, recent: int) -> Ragged:
        """The items that a preference of this span is about, and that its prompt shows."""
        return self.sequences.tails(longest if span == "long" else min(recent, longest))


def task_texts(data: TrainingData, text: Sequence[ItemText], config: TasksConfig) -> TaskTexts:
    """Everything from training interactions and item text alone. Raises `InputError` where the file of generated texts
    does not fit this data set, and where no item is left to speak of."""
    shown = ~held_out_items(data.items, config.held_out)
    if not shown.any():
        mend = "lower tasks.held_out"
        raise InputError("every item is held out of the text tasks", where=data.dataset, mend=mend)
    made = None if config.intentions is None else read_texts(Path(config.intentions).expanduser(), data)
    items, users = made or (None, None)
    none: dict[Span, list[str]] = {span: [""] * data.n_users for span in SPANS}
    sequences = _only(data.sequences, shown)
    texts = TaskTexts(
        text,
        shown,
        sequences,
        items or [""] * data.n_items,
        none if users is None else users,
        {"intentions": "rule" if items is None else "file", "preferences": "rule" if users is None else "file"},
    )
    return _by_rule(texts, config, set(config.weights()), _reviews(data))


def _by_rule(texts: TaskTexts, config: TasksConfig, tasks: set[str], reviews: Sequence[str] | None) -> TaskTexts:
    """With the texts that no file gives, where a task reads them."""
    intentions = texts.intentions
    wanted: Mapping[Span, Sequence[str]] = texts.preferences
    ask = texts.written["intentions"] == "rule" and "itemsearch" in tasks
    tell = texts.written["preferences"] == "rule" and "preferenceobtain" in tasks
    if not ask and not tell:
        return texts
    known = traits(texts.items, texts.shown, reviews)
    if ask:
        intentions = [intention(item) for item in known]
    if tell:
        past = {span: texts.histories(span, config.window - 1, config.recent) for span in SPANS}
        wanted = {span: preferences(known, past[span], span) for span in SPANS}
    return TaskTexts(texts.items, texts.shown, texts.sequences, intentions, wanted, texts.written)


def _reviews(data: TrainingData) -> list[str] | None:
    """What training interactions say of each item, None where the data set has no reviews."""
    if not data.reviews:
        return None
    said: dict[str, list[str]] = {}
    for review in data.reviews:
        said.setdefault(review.item, []).append(review.text)
    return [" ".join(said.get(item, ())) for item in data.items]


def _only(sequences: Ragged, shown: np.ndarray) -> Ragged:
    kept = shown[sequences.values]
    lengths = np.bincount(sequences.rows()[kept], minlength=len(sequences))
    return Ragged(sequences.values[kept], np.concatenate([[0], np.cumsum(lengths)]))
