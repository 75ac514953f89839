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
from functools import lru_cache

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
    `steps_a_pass`: steps of all tasks in one such pass. `pools`: the samples of the text tasks, each of which has
    shuffled passes of its own. `stream`: the seed and the name of the stage. `augmentation` changes windows anew each
    pass."""

    def __init__(
        self,
        sequences: RaggedArray,
        window: int,
        stage: StageConfig,
        weights: Mapping[Task, float],
        stream: tuple[int, str],
        pools: InstructionDataset | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._sequences, self._targets = sequences, max(1, stage.targets // stage.accumulate)
        self._stream = stream
        self._augmentation = augmentation
        self._parts, self._rows = stage.accumulate, max(1, stage.rows // stage.accumulate)
        self._pools, self._sizes = pools, {} if pools is None else pools.sizes
        self._pass = lru_cache(maxsize=2)(
            lambda turn: Pass.drawn(sequences, window, self._targets, generator(*stream, "pass", turn))
        )
        self._ends = [len(self._pass(0))]  # cumulative number of batches, one entry for each pass built
        self._order = lru_cache(maxsize=2 * len(weights))(
            lambda task, turn: generator(*stream, task, turn).permutation(self._sizes[task])
        )
        self._names = list(weights)
        chances = np.array(list(weights.values())) / sum(weights.values())
        self.steps_a_pass = self._ends[0] / self._parts / chances[self._names.index("seqrec")]
        expected = allowed_passes(sequences, stage.epochs, stage.item_targets) * self.steps_a_pass
        self.steps = min(max(1, round(expected)), stage.max_steps or round(expected) + 1)
        self._draws = generator(*stream, "tasks").choice(len(chances), self.steps, p=chances)
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
        rng = generator(*self._stream, "augment", number)
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

    def samples(self, step: int, part: int, templates: int) -> list[Sample]:
        """The samples of one part of a text step, each in a random one of the first `templates` templates."""
        assert self._pools is not None
        numbers = self.numbers(step, part)
        selected = generator(*self._stream, "templates", step, part).integers(templates, size=len(numbers))
        return self._pools.samples(self.task(step), numbers, selected)

    def _number(self, step: int, part: int) -> int:
        """Number of earlier parts of this task."""
        return int(self._before[self._draws[step], step]) * self._parts + part


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
        order = np.lexsort((lengths, np.arange(len(rows)) // chunk))  # stable, so that equal lengths stay shuffled
        starts = _filled(lengths[order] - 1, targets, chunk)
        places = mixed[order]
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


def instruction_batches(
    sequences: RaggedArray,
    pools: InstructionDataset,
    stage: StageConfig,
    config: TasksConfig,
    stream: tuple[int, str],
    augmentation: Augmentation | None = None,
) -> Batches:
    """The batches of stage 1: sequential recommendation within its cap, and all text tasks that have samples."""
    capped = subsample(sequences, config.caps.seqrec, generator(stream[0], "cap", "seqrec"))
    weights = pools.weights(stage, next_items(capped))
    return Batches(capped, config.window, stage, weights, stream, pools, augmentation)


class Pieces:
    """Token ids of prompts, in the order padding, end, [separator], users, codes."""

    def __init__(self, table: CodeTable, users: int, *, separator: bool) -> None:
        self.extra = users + separator  # tokens besides padding, end and codes
        codes = table.flat + FIRST + self.extra
        between = np.full((table.n_items, int(separator)), FIRST)
        self._items = np.hstack([codes, between])
        self._users, self._user = FIRST + separator, table.n_items
        self.codes = codes

    def history(self, history: np.ndarray) -> list[int]:
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


class Samples:
    """All prefixes of `sequences`: the target of sample `n` is item `values[targets[n]]`, its history the items from
    `begins[n]` on (int64, (samples,)), at most `max_history`, behind the user's token of `pieces`, if there are any. A
    step has `accumulate` parts of `batch` samples, a pass `steps` steps; the order of a pass depends on the seed and
    its number."""

    def __init__(
        self, sequences: RaggedArray, max_history: int, batch: int, accumulate: int, seed: int,
        pieces: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self._values, self._batch, self.accumulate, self._seed = sequences.values, batch, accumulate, seed
        self.targets = np.flatnonzero(sequences.places() > 0)
        users = sequences.rows()[self.targets]
        self.begins = np.maximum(sequences.offsets[users], self.targets - max_history)
        self._pieces = None if pieces is None else pieces[users]
        self.steps = -(-len(self.targets) // (batch * accumulate))
        self._pass = lru_cache(maxsize=1)(self._drawn)

    def part(self, step: int, part: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Histories and target items of one part of a step, with steps counted over all passes."""
        epoch, position = divmod(step, self.steps)
        order, batches = self._pass(epoch)
        begin = batches[(position * self.accumulate + part) % len(batches)] * self._batch
        rows = order[begin : begin + self._batch]
        pairs = zip(self.begins[rows].tolist(), self.targets[rows].tolist(), strict=True)
        histories = [self._values[begin:end] for begin, end in pairs]
        if self._pieces is not None:
            pairs = zip(self._pieces[rows], histories, strict=True)
            histories = [np.append(piece, history) for piece, history in pairs]
        return histories, self._values[self.targets[rows]]

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shuffled samples of a pass, those of `POOL` batches sorted by length, and the order of batches."""
        rng, lengths = generator(self._seed, "tiger", "order", epoch), self.targets - self.begins
        mixed, pools = rng.permutation(len(lengths)), np.arange(len(lengths)) // (POOL * self._batch)
        mixed = mixed[np.lexsort((lengths[mixed], pools))]  # stable, so that equal lengths stay shuffled
        return mixed, rng.permutation(-(-len(mixed) // self._batch))


def target_tokens(codes: np.ndarray, device: str, *, end: bool) -> torch.Tensor:
    """Token ids of target codes (n, levels), followed by the end token if it is scored."""
    ids = np.column_stack([codes, np.full(len(codes), EOS)]) if end else codes
    return torch.from_numpy(ids).to(device)
