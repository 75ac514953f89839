"""Rows of token ids that are selected, concatenated and truncated without tokenising a text twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from harness.data.ragged import RaggedArray


@dataclass(frozen=True, eq=False)
class TokenSpans:
    """Row `n` is the concatenation of the rows `values[begin[n]:end[n]]` of `tokens`.

    >>> words = RaggedArray.of([[1], [2, 2], [3]])
    >>> TokenSpans(words, np.array([2, 0, 1]), np.array([0, 1]), np.array([2, 3])).take(np.array([1, 0]))
    [[1, 2, 2], [3, 1]]
    """

    tokens: RaggedArray
    values: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, rows: np.ndarray) -> list[list[int]]:
        """Token ids of the given rows."""
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


def single_span(tokens: RaggedArray, rows: np.ndarray | None = None) -> TokenSpans:
    """Row `n` is row `rows[n]` of `tokens` (None: row `n`)."""
    rows = np.arange(len(tokens)) if rows is None else rows
    return TokenSpans(tokens, rows, np.arange(len(rows)), np.arange(1, len(rows) + 1))


def truncate_left(spans: TokenSpans, room: np.ndarray) -> tuple[TokenSpans, int]:
    """Drops the first parts of each row until it has at most `room[n]` tokens; the last part always stays. Also returns
    the number of truncated rows.

    >>> rows = TokenSpans(RaggedArray.of([[1, 1], [2, 2], [3]]), np.arange(3), np.array([0]), np.array([3]))
    >>> short, truncated = truncate_left(rows, np.array([4]))
    >>> short.take(np.array([0])), truncated
    ([[2, 2, 3]], 1)
    """
    first = np.searchsorted(spans.sums, spans.sums[spans.end] - room, side="left")
    begin = np.minimum(np.maximum(spans.begin, first), spans.end - 1)
    return TokenSpans(spans.tokens, spans.values, begin, spans.end), int((begin > spans.begin).sum())


def append_to_all(rows: RaggedArray, ids: Sequence[int]) -> RaggedArray:
    """Every row with `ids` appended.

    >>> append_to_all(RaggedArray.of([[1], [2, 3]]), [9, 8]).values.tolist()
    [1, 9, 8, 2, 3, 9, 8]
    """
    values = np.insert(rows.values, np.repeat(rows.offsets[1:], len(ids)), np.tile(ids, len(rows)))
    return RaggedArray(values, rows.offsets + len(ids) * np.arange(len(rows) + 1))


def _joined(values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The concatenation of `values[begins[n]:ends[n]]` for every n, and its n + 1 offsets."""
    meet = np.concatenate([[0], np.cumsum(ends - begins)])
    return values[np.arange(meet[-1]) + np.repeat(begins - meet[:-1], ends - begins)], meet
