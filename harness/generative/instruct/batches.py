"""Which samples a step sees: sequence windows and samples of text tasks, each by shuffled passes over all there are.

Everything is a function of the seed and the step number, so that a resumed stage sees what an undisturbed one sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from harness.data.ragged import Ragged
from harness.generative.instruct.config import StageConfig
from harness.generative.instruct.task_config import Task
from harness.seeding import generator

CHUNK = 50  # batches that are sorted by length together: little padding, still a shuffled order


class Batches:
    """The order of steps and samples of one stage. A step draws its task in proportion to `weights`; `steps` is how
    many there are: enough that sequence steps pass `stage.epochs` times over all targets, at most `stage.max_steps`;
    `steps_a_pass` are those, of all tasks, in which sequence steps pass over all targets once. `sizes` says how many
    samples each text task has: their passes follow each other, each in an order of its own."""

    def __init__(
        self,
        sequences: Ragged,
        window: int,
        stage: StageConfig,
        weights: Mapping[Task, float],
        stream: tuple[int, str],
        sizes: Mapping[Task, int] | None = None,
    ) -> None:
        self._sequences, self._window, self._targets = sequences, window, max(1, stage.targets // stage.accumulate)
        self._seed, self._name = stream
        self._parts, self._rows = stage.accumulate, max(1, stage.rows // stage.accumulate)
        self._sizes = dict(sizes or {})
        self._pass = lru_cache(maxsize=2)(self._make_pass)
        self._order = lru_cache(maxsize=2 * len(weights))(self._make_order)
        self._names = list(weights)
        chances = np.array(list(weights.values())) / sum(weights.values())
        self.steps_a_pass = len(self._pass(0)) / self._parts / chances[self._names.index("seqrec")]
        wanted = stage.epochs * len(self._pass(0)) / self._parts / chances[self._names.index("seqrec")]
        self.steps = min(max(1, round(wanted)), stage.max_steps or round(wanted) + 1)
        self._draws = generator(self._seed, self._name, "tasks").choice(len(chances), self.steps, p=chances)
        self._before = np.stack([np.cumsum(self._draws == i) - (self._draws == i) for i in range(len(chances))])

    def task(self, step: int) -> Task:
        """The task of a step."""
        return self._names[self._draws[step]]

    def windows(self, step: int, part: int = 0) -> list[np.ndarray]:
        """The windows of one part of a sequence step; passes follow each other, each shuffled and cut anew."""
        number, turn = self._number(step, part), 0
        while number >= len(self._pass(turn)):
            number -= len(self._pass(turn))
            turn += 1
        return self._pass(turn)[number]

    def numbers(self, step: int, part: int = 0) -> np.ndarray:
        """Which samples of its task one part of a text step sees, int64: every sample once a pass."""
        task = self.task(step)
        size = self._sizes[task]
        rows = min(self._rows, size)
        turn, place = divmod(self._number(step, part) * rows, size)
        numbers = self._order(task, turn)[place : place + rows]
        if len(numbers) < rows:  # the pass ends within the step
            numbers = np.concatenate([numbers, self._order(task, turn + 1)[: rows - len(numbers)]])
        return numbers

    def _number(self, step: int, part: int) -> int:
        """How many parts of this step's task came before."""
        return int(self._before[self._draws[step], step]) * self._parts + part

    def _make_order(self, task: Task, turn: int) -> np.ndarray:
        return generator(self._seed, self._name, task, turn).permutation(self._sizes[task])

    def _make_pass(self, turn: int) -> list[list[np.ndarray]]:
        rng = generator(self._seed, self._name, "pass", turn)
        windows = [window for sequence in self._sequences for window in cut(sequence, self._window, rng)]
        if not windows:
            raise ValueError("no user has two training items: nothing to learn a next item from")
        windows = [windows[i] for i in rng.permutation(len(windows))]
        batches = []
        share = max(1, self._targets // (self._window - 1)) * CHUNK
        for begin in range(0, len(windows), share):
            batches += self._fill(sorted(windows[begin : begin + share], key=len))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _fill(self, windows: list[np.ndarray]) -> list[list[np.ndarray]]:
        batches: list[list[np.ndarray]] = [[]]
        room = self._targets
        for window in windows:
            if batches[-1] and len(window) - 1 > room:
                batches.append([])
                room = self._targets
            batches[-1].append(window)
            room -= len(window) - 1
        return batches


def cut(sequence: np.ndarray, window: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A sequence in windows that overlap by one item, cut at a random place: each item but the first is a target of
    exactly one window, behind at least one item of history.

    >>> rng = np.random.default_rng(0)
    >>> sorted(item for part in cut(np.arange(9), 4, rng) for item in part[1:].tolist())
    [1, 2, 3, 4, 5, 6, 7, 8]
    """
    if len(sequence) < 2:
        return []
    first = int(rng.integers(1, window)) if len(sequence) > window else window - 1
    begins = [0, *range(first, len(sequence) - 1, window - 1)]
    ends = [*begins[1:], len(sequence) - 1]
    return [sequence[begin : end + 1] for begin, end in zip(begins, ends, strict=True)]


def capped(sequences: Ragged, targets: int | None, rng: np.random.Generator) -> Ragged:
    """The sequences of some users, drawn, with no more than `targets` next-item targets in all; None: all of them. A
    user who has more than what is left keeps the latest.

    >>> rows = capped(Ragged.of([[1, 2, 3], [4, 5, 6, 7]]), 3, np.random.default_rng(0))
    >>> sum(len(row) - 1 for row in rows)
    3
    """
    if targets is None:
        return sequences
    kept = []
    for user in rng.permutation(np.flatnonzero(sequences.lengths > 1)):
        if targets <= 0:
            break
        kept.append(sequences[int(user)][-(targets + 1) :])
        targets -= len(kept[-1]) - 1
    return Ragged.of(kept)
