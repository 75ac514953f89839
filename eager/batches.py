"""Which samples a step sees: sequence windows by a shuffled pass over the training data, text tasks by draw.

Everything is a function of the seed and the step number, so that a resumed stage sees what an undisturbed one sees.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eager.config import StageConfig, Task
from harness.data.ragged import Ragged
from harness.seeding import generator

CHUNK = 50  # batches that are sorted by length together: little padding, still a shuffled order


class Batches:
    """The order of samples of one stage. `tasks[step]` is the task of a step, drawn by `weights`; `steps` how many
    there are: enough that sequence steps pass `stage.epochs` times over all targets, at most `stage.max_steps`."""

    def __init__(
        self, sequences: Ragged, window: int, stage: StageConfig, weights: dict[Task, float], stream: tuple[int, str]
    ) -> None:
        self._sequences, self._window, self._targets = sequences, window, max(1, stage.targets // stage.accumulate)
        self._seed, self._name = stream
        self._parts = stage.accumulate
        self._pass = lru_cache(maxsize=2)(self._make_pass)
        wanted = stage.epochs * len(self._pass(0)) / self._parts / weights["seqrec"]
        self.steps = min(max(1, round(wanted)), stage.max_steps or round(wanted) + 1)
        names = list(weights)
        draws = generator(self._seed, self._name, "tasks").choice(len(names), self.steps, p=list(weights.values()))
        self.tasks: list[Task] = [names[draw] for draw in draws]
        self._before = np.cumsum([0, *(task == "seqrec" for task in self.tasks)])

    def windows(self, step: int, part: int = 0) -> list[np.ndarray]:
        """The windows of one part of a sequence step; passes follow each other, each shuffled and cut anew."""
        number, turn = int(self._before[step]) * self._parts + part, 0
        while number >= len(self._pass(turn)):
            number -= len(self._pass(turn))
            turn += 1
        return self._pass(turn)[number]

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
