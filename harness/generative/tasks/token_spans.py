"""Token rows that are looked up, joined and shortened without tokenising anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from harness.data.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Spans:
    """Row `n` is the rows `values[begin[n]:end[n]]` of `tokens`, one behind the other.

    >>> words = Ragged.of([[1], [2, 2], [3]])
    >>> Spans(words, np.array([2, 0, 1]), np.array([0, 1]), np.array([2, 3])).take(np.array([1, 0]))
    [[1, 2, 2], [3, 1]]
    """

    tokens: Ragged
    values: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, rows: np.ndarray) -> list[list[int]]:
        """The given rows."""
        values, parts = _joined(self.values, self.begin[rows], self.end[rows])
        tokens, places = _joined(self.tokens.values, self.tokens.offsets[values], self.tokens.offsets[values + 1])
        flat, cuts = tokens.tolist(), places[parts].tolist()
        return [flat[begin:end] for begin, end in pairwise(cuts)]

    @cached_property
    def sums(self) -> np.ndarray:
        """Tokens of `values[:n]`, shape (len(values) + 1,)."""
        return np.concatenate([[0], np.cumsum(self.tokens.lengths[self.values])])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row."""
        return self.sums[self.end] - self.sums[self.begin]


def one(tokens: Ragged, rows: np.ndarray | None = None) -> Spans:
    """Row `n` is row `rows[n]` of `tokens` (None: row `n`)."""
    rows = np.arange(len(tokens)) if rows is None else rows
    return Spans(tokens, rows, np.arange(len(rows)), np.arange(1, len(rows) + 1))


def fitted(spans: Spans, room: np.ndarray) -> tuple[Spans, int]:
    """Rows without their first parts, as many as it takes to have at most `room[n]` tokens, and how many rows lost any.
    The last part of a row always stays.

    >>> rows = Spans(Ragged.of([[1, 1], [2, 2], [3]]), np.arange(3), np.array([0]), np.array([3]))
    >>> short, cut = fitted(rows, np.array([4]))
    >>> short.take(np.array([0])), cut
    ([[2, 2, 3]], 1)
    """
    first = np.searchsorted(spans.sums, spans.sums[spans.end] - room, side="left")
    begin = np.minimum(np.maximum(spans.begin, first), spans.end - 1)
    return Spans(spans.tokens, spans.values, begin, spans.end), int((begin > spans.begin).sum())


def suffixed(rows: Ragged, ids: Sequence[int]) -> Ragged:
    """Every row with `ids` behind it.

    >>> suffixed(Ragged.of([[1], [2, 3]]), [9, 8]).values.tolist()
    [1, 9, 8, 2, 3, 9, 8]
    """
    values = np.insert(rows.values, np.repeat(rows.offsets[1:], len(ids)), np.tile(ids, len(rows)))
    return Ragged(values, rows.offsets + len(ids) * np.arange(len(rows) + 1))


def _joined(values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values[begins[n]:ends[n]]` for every n, one behind the other, and the n + 1 places where they meet."""
    meet = np.concatenate([[0], np.cumsum(ends - begins)])
    return values[np.arange(meet[-1]) + np.repeat(begins - meet[:-1], ends - begins)], meet
