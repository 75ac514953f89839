"""Batching: the samples of each training step, in shuffled passes. `Batches`: sequence windows and text tasks of a
causal LM; `PrefixSamples`: every prefix of every training sequence, batched by length, of an encoder-decoder.

Everything is a function of the seed and the step number, so that a resumed stage gets the same samples. The prompt of
an encoder-decoder is [user token] item item … end, where an item is the tokens of its code; in histories, numbers from
`n_items` on are user tokens.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from harness.core.seeding import generator
from harness.data.ragged import RaggedArray
from harness.generative.config import StageConfig, Task, TasksConfig
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import EOS
from harness.generative.tasks.instruction_dataset import InstructionDataset
from harness.generative.tasks.prompts import Sample
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # a training window (item ids) to another

CHUNK = 50  # batches sorted by length together: little padding, shuffled order
POOL = 16  # batches sorted by length together: little padding, shuffled order
FIRST = 2  # first id after padding and end


class Batches:
    """The order of steps and samples of one stage. A step samples its task in proportion to `weights`. `steps`: number
    of steps for `stage.epochs` passes over all sequence targets, limited by `stage.item_targets` and `stage.max_steps`;
    `steps_a_pass`: steps of all tasks in one such pass. `sizes`: number of samples of each text task, which has
    shuffled passes of its own. `augmentation` changes windows anew each pass."""

    def __init__(
        self,
        sequences: RaggedArray,
        window: int,
        stage: StageConfig,
        weights: Mapping[Task, float],
        stream: tuple[int, str],
        sizes: Mapping[Task, int] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._sequences, self._window, self._targets = sequences, window, max(1, stage.targets // stage.accumulate)
        self._seed, self._name = stream
        self._augmentation = augmentation
        self._parts, self._rows = stage.accumulate, max(1, stage.rows // stage.accumulate)
        self._sizes = dict(sizes or {})
        self._pass = lru_cache(maxsize=2)(self._make_pass)
        self._ends = [len(self._pass(0))]  # cumulative number of batches, one entry for each pass built
        self._order = lru_cache(maxsize=2 * len(weights))(self._make_order)
        self._names = list(weights)
        chances = np.array(list(weights.values())) / sum(weights.values())
        self.steps_a_pass = self._ends[0] / self._parts / chances[self._names.index("seqrec")]
        expected = allowed_passes(sequences, stage.epochs, stage.item_targets) * self.steps_a_pass
        self.steps = min(max(1, round(expected)), stage.max_steps or round(expected) + 1)
        self._draws = generator(self._seed, self._name, "tasks").choice(len(chances), self.steps, p=chances)
        self._before = np.stack([np.cumsum(self._draws == i) - (self._draws == i) for i in range(len(chances))])

    def task(self, step: int) -> Task:
        """Task of a step."""
        return self._names[self._draws[step]]

    def windows(self, step: int, part: int = 0) -> list[np.ndarray]:
        """Windows of one part of a sequence step; each pass is split and shuffled anew.

        Passes differ in their number of batches, so that a pass is built after all earlier ones, each once.
        """
        number = self._number(step, part)
        while number >= self._ends[-1]:
            self._ends.append(self._ends[-1] + len(self._pass(len(self._ends))))
        turn = bisect_right(self._ends, number)
        windows = self._pass(turn)[number - (self._ends[turn - 1] if turn else 0)]
        if self._augmentation is None:
            return windows
        rng = generator(self._seed, self._name, "augment", number)
        return [self._augmentation(window, rng) for window in windows]

    def numbers(self, step: int, part: int = 0) -> np.ndarray:
        """Sample numbers of one part of a text step, int64; a pass has every sample once."""
        task = self.task(step)
        size = self._sizes[task]
        rows = min(self._rows, size)
        turn, place = divmod(self._number(step, part) * rows, size)
        numbers = self._order(task, turn)[place : place + rows]
        if len(numbers) < rows:  # the pass ends within this step
            numbers = np.concatenate([numbers, self._order(task, turn + 1)[: rows - len(numbers)]])
        return numbers

    def _number(self, step: int, part: int) -> int:
        """Number of earlier parts of this task."""
        return int(self._before[self._draws[step], step]) * self._parts + part

    def _make_order(self, task: Task, turn: int) -> np.ndarray:
        return generator(self._seed, self._name, task, turn).permutation(self._sizes[task])

    def _make_pass(self, turn: int) -> Pass:
        rng = generator(self._seed, self._name, "pass", turn)
        return Pass.drawn(self._sequences, self._window, self._targets, rng)


def next_items(sequences: RaggedArray) -> int:
    """Number of next-item targets: all items but the first of each sequence."""
    return int((sequences.lengths - 1).clip(min=0).sum())


def allowed_passes(sequences: RaggedArray, epochs: float, item_targets: float | None) -> float:
    """Passes over all next items: `epochs`, but an item is a target at most `item_targets` times on average."""
    if item_targets is None:
        return epochs
    return min(epochs, item_targets * len(np.unique(sequences.values)) / max(next_items(sequences), 1))


@dataclass(frozen=True, eq=False)
class Pass:
    """All next-item targets once, in batches. Window `w` is `values[begins[w] : ends[w]]`; batch `n` has the windows
    `starts[order[n]]` to `starts[order[n] + 1] - 1`."""

    values: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    starts: np.ndarray
    order: np.ndarray

    @classmethod
    def drawn(cls, sequences: RaggedArray, window: int, targets: int, rng: np.random.Generator) -> Pass:
        """Splits sequences at random positions, shuffles the windows, sorts them by length within chunks, and fills
        batches of at most `targets` targets (or one longer window), which are shuffled. Vectorised over windows."""
        rows, begins, ends = split_windows(sequences.lengths, window, rng)
        if not len(rows):
            raise ValueError("no user has two training items, so that there is no next-item target")
        mixed = rng.permutation(len(rows))
        lengths = (ends - begins)[mixed]
        chunk = max(1, targets // (window - 1)) * CHUNK
        chosen = np.lexsort((lengths, np.arange(len(rows)) // chunk))  # stable, so that equal lengths stay shuffled
        starts = _filled(lengths[chosen] - 1, targets, chunk)
        places = mixed[chosen]
        shift = sequences.offsets[rows[places]]
        begins, ends = begins[places] + shift, ends[places] + shift
        return cls(sequences.values, begins, ends, starts, rng.permutation(len(starts) - 1))

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.order)

    def __getitem__(self, number: int) -> list[np.ndarray]:
        """The windows of a batch: item ids, oldest first."""
        batch = self.order[number]
        span = slice(self.starts[batch], self.starts[batch + 1])
        pairs = zip(self.begins[span].tolist(), self.ends[span].tolist(), strict=True)
        return [self.values[begin:end] for begin, end in pairs]


def _filled(costs: np.ndarray, room: int, chunk: int) -> np.ndarray:
    """Starts of the batches, and the end of the last. A batch has consecutive elements of one chunk (of `chunk`
    elements) whose `costs` (positive) sum to at most `room`, or one element.

    >>> _filled(np.array([1, 1, 2, 3, 9, 1, 1]), 4, 6).tolist()
    [0, 3, 4, 5, 6, 7]
    """
    total = np.concatenate([[0], np.cumsum(costs)])
    place = np.arange(len(costs))
    follows = np.searchsorted(total, total[:-1] + room, side="right") - 1
    follows = np.minimum(np.maximum(follows, place + 1), (place // chunk + 1) * chunk)
    following, starts = np.minimum(follows, len(costs)).tolist(), [0]
    while starts[-1] < len(costs):
        starts.append(following[starts[-1]])
    return np.array(starts)


def split_windows(
    lengths: np.ndarray, window: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits sequences of `lengths` items into windows that overlap by one item, long ones at a random position: every
    item but the first is a target of exactly one window, after at least one item of history. Returns the sequence of
    each window, and its begin and end in the sequence, int64 (windows,).

    >>> rows, begins, ends = split_windows(np.array([9, 1, 2]), 4, np.random.default_rng(0))
    >>> rows.tolist(), begins.tolist(), ends.tolist()
    ([0, 0, 0, 2], [0, 3, 6, 0], [4, 7, 9, 2])
    """
    firsts = np.full(len(lengths), window - 1)
    long = lengths > window
    firsts[long] = rng.integers(1, window, int(long.sum()))
    counts = np.where(lengths < 2, 0, 1 + np.maximum(0, -(-(lengths - 1 - firsts) // (window - 1))))
    rows = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    following = firsts[rows] + nth * (window - 1)
    begins = np.where(nth == 0, 0, following - (window - 1))
    return rows, begins, np.minimum(following, lengths[rows] - 1) + 1


def subsample(sequences: RaggedArray, targets: int | None, rng: np.random.Generator) -> RaggedArray:
    """Sequences of a random subset of users with at most `targets` next-item targets in total (None: all). The last
    user's sequence is truncated to its latest items.

    >>> rows = subsample(RaggedArray.of([[1, 2, 3], [4, 5, 6, 7]]), 3, np.random.default_rng(0))
    >>> sum(len(row) - 1 for row in rows)
    3
    """
    if targets is None:
        return sequences
    values = []
    for user in rng.permutation(np.flatnonzero(sequences.lengths > 1)):
        if targets <= 0:
            break
        values.append(sequences[int(user)][-(targets + 1) :])
        targets -= len(values[-1]) - 1
    return RaggedArray.of(values)


class Tasks:
    """The samples of one stage, a function of the seed and the step number.

    `batches` has the task of a step and the windows of seqrec steps, `samples` the samples of the other tasks. Each
    sample uses a random one of the first `templates` templates. `stream`: the seed and the name of the stage.
    """

    def __init__(
        self, batches: Batches, pools: InstructionDataset | None, templates: int, stream: tuple[int, str]
    ) -> None:
        self.batches = batches
        self._pools, self._templates, self._stream = pools, templates, stream

    @classmethod
    def every(
        cls,
        sequences: RaggedArray,
        pools: InstructionDataset,
        stage: StageConfig,
        config: TasksConfig,
        stream: tuple[int, str],
        augmentation: Augmentation | None = None,
    ) -> Tasks:
        """Stage 1: sequential recommendation within its cap, and all text tasks that have samples."""
        capped = subsample(sequences, config.caps.seqrec, generator(stream[0], "cap", "seqrec"))
        weights = pools.weights(stage, next_items(capped))
        batches = Batches(capped, config.window, stage, weights, stream, pools.sizes, augmentation)
        return cls(batches, pools, config.templates, stream)

    @classmethod
    def sequential(
        cls, sequences: RaggedArray, stage: StageConfig, config: TasksConfig, stream: tuple[int, str]
    ) -> Tasks:
        """Sequential recommendation only, without a cap."""
        return cls(Batches(sequences, config.window, stage, {"seqrec": 1.0}, stream), None, config.templates, stream)

    def samples(self, task: Task, step: int, part: int = 0) -> list[Sample]:
        """The samples of one part of a step of `task`, which is not seqrec."""
        if self._pools is None or task != self.batches.task(step):
            raise ValueError(f"the task of step {step} is {self.batches.task(step)}, not {task}")
        numbers = self.batches.numbers(step, part)
        seed, name = self._stream
        templates = generator(seed, name, "templates", step, part).integers(self._templates, size=len(numbers))
        return self._pools.samples(task, numbers, templates)


class Pieces:
    """Token ids of prompts, in the order padding, end, [separator], users, codes."""

    def __init__(self, table: CodeTable, users: int, *, separator: bool) -> None:
        self.extra = users + separator  # tokens besides padding, end and codes
        codes = table.flat + FIRST + self.extra
        between = np.full((table.n_items, int(separator)), FIRST)
        self._items = np.hstack([codes, between])
        self._users, self._user = FIRST + separator, table.n_items
        self.codes = codes

    def prompt(self, history: np.ndarray) -> list[int]:
        """Token ids of a history of items, optionally with a user token."""
        users, items = history[history >= self._user], history[history < self._user]
        return [*(users - self._user + self._users).tolist(), *self._items[items].reshape(-1).tolist(), EOS]


def hash_users(data: TrainingData, users: int) -> np.ndarray:
    """User token of each user, int64 (n_users,) in 0..users - 1, by a hash of the raw id (of the number if there are
    none)."""
    names = data.users or tuple(map(str, range(data.n_users)))
    hashed = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    return np.array([number % users for number in hashed], dtype=np.int64)


def with_users(requests: Requests, pieces: np.ndarray | None) -> Requests:
    """Requests whose histories begin with the user token; unchanged if `pieces` is None. An unknown user (a number
    after all users of the data set) gets an arbitrary user token, as a token stands for many users."""
    if pieces is None:
        return requests
    histories = requests.histories
    values = np.insert(histories.values, histories.offsets[:-1], pieces[requests.users % len(pieces)])
    return replace(requests, histories=RaggedArray(values, histories.offsets + np.arange(len(requests) + 1)))


@dataclass(frozen=True, eq=False)
class Samples:
    """All prefixes of `sequences`: the target of sample `n` is item `values[targets[n]]`, its history the items from
    `begins[n]` on. A step has `accumulate` parts of `batch` samples; the order of a pass depends on the seed and its
    number."""

    sequences: RaggedArray
    max_history: int
    batch: int
    accumulate: int
    seed: int
    pieces: np.ndarray | None = None

    @cached_property
    def targets(self) -> np.ndarray:
        """Positions in `sequences.values`, int64 (samples,)."""
        return np.flatnonzero(self.sequences.places() > 0)

    @cached_property
    def begins(self) -> np.ndarray:
        """Begin of each sample's history, int64 (samples,)."""
        starts = self.sequences.offsets[:-1][self.sequences.rows()]
        return np.maximum(starts[self.targets], self.targets - self.max_history)

    @property
    def steps(self) -> int:
        """Optimiser steps of a pass."""
        return -(-len(self.targets) // (self.batch * self.accumulate))

    def part(self, step: int, part: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Histories and target items of one part of a step, with steps counted over all passes."""
        epoch, position = divmod(step, self.steps)
        order, batches = self._pass(epoch)
        begin = batches[(position * self.accumulate + part) % len(batches)] * self.batch
        rows = order[begin : begin + self.batch]
        values, pairs = self.sequences.values, zip(self.begins[rows].tolist(), self.targets[rows].tolist(), strict=True)
        histories = [values[begin:end] for begin, end in pairs]
        if self.pieces is not None:
            user_pieces = self.pieces[self._users[rows]]
            histories = [np.append(piece, history) for piece, history in zip(user_pieces, histories, strict=True)]
        return histories, values[self.targets[rows]]

    @cached_property
    def _users(self) -> np.ndarray:
        """User of each sample, int64 (samples,)."""
        return self.sequences.rows()[self.targets]

    @cached_property
    def _pass(self) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        """Function of the pass: its shuffled samples, those of `POOL` batches sorted by length, and the order of
        batches. Caches one pass."""
        lengths = self.targets - self.begins
        pools = np.arange(len(lengths)) // (POOL * self.batch)

        def drawn(epoch: int) -> tuple[np.ndarray, np.ndarray]:
            rng = generator(self.seed, "tiger", "order", epoch)
            mixed = rng.permutation(len(lengths))
            mixed = mixed[np.lexsort((lengths[mixed], pools))]  # stable, so that equal lengths stay shuffled
            return mixed, rng.permutation(-(-len(mixed) // self.batch))

        return lru_cache(maxsize=1)(drawn)


def target_tokens(codes: np.ndarray, device: str, *, end: bool) -> torch.Tensor:
    """Token ids of target codes (n, levels), followed by the end token if it is scored."""
    ids = np.column_stack([codes, np.full(len(codes), EOS)]) if end else codes
    return torch.from_numpy(ids).to(device)
