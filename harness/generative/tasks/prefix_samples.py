"""Prefix samples of an encoder-decoder: every prefix of every training sequence, batched by length.

A prompt is [user token] item item … end, where an item is the tokens of its code. In histories, numbers from `n_items`
on are user tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from harness.core.seeding import generator
from harness.data.ragged import RaggedArray
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import EOS
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

POOL = 16  # batches sorted by length together: little padding, shuffled order
FIRST = 2  # first id after padding and end


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
        firsts = np.zeros(len(self.sequences.values), dtype=bool)
        firsts[self.sequences.offsets[:-1][self.sequences.lengths > 0]] = True
        return np.flatnonzero(~firsts)

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
