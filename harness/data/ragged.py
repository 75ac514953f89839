"""`RaggedArray`: lists of unequal length in two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RaggedArray:
    """Row `i` is `values[offsets[i]:offsets[i + 1]]`; both arrays are int64 and read-only.

    >>> rows = RaggedArray.of([[3, 1], [], [2]])
    >>> len(rows), rows[0].tolist(), rows.lengths.tolist()
    (3, [3, 1], [2, 0, 1])
    >>> rows.last(1).values.tolist()
    [1, 2]
    """

    values: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        for name in ("values", "offsets"):
            array = np.array(getattr(self, name), dtype=np.int64)  # a copy: the caller's array stays writable
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(self.offsets) < 1 or self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise ValueError("offsets must begin with 0 and end with the number of values")

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | np.ndarray]) -> RaggedArray:
        """From any iterable of rows."""
        arrays = [np.asarray(row, dtype=np.int64) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
        return cls.of_lengths(values, np.array([len(row) for row in arrays], dtype=np.int64))

    @classmethod
    def of_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> RaggedArray:
        """From the values of all rows, one after the other, and the length of each row."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths)]))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def rows(self) -> np.ndarray:
        """Row number of every value, shape (len(values),)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def places(self) -> np.ndarray:
        """Position of every value in its row, shape (len(values),)."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)

    def first(self, lengths: np.ndarray) -> RaggedArray:
        """The first `lengths[i]` values of row `i`, or all if it has fewer.

        >>> RaggedArray.of([[3, 1], [], [2]]).first(np.array([1, 1, 1])).values.tolist()
        [3, 2]
        """
        begins = self.offsets[:-1]
        return self.windows(begins, begins + np.clip(lengths, 0, self.lengths))

    def last(self, longest: int) -> RaggedArray:
        """The last `longest` values of every row."""
        return self.windows(np.maximum(self.offsets[:-1], self.offsets[1:] - longest), self.offsets[1:])

    def take(self, rows: np.ndarray) -> RaggedArray:
        """The given rows, in the given order."""
        rows = np.asarray(rows, dtype=np.int64)
        return self.windows(self.offsets[:-1][rows], self.offsets[1:][rows])

    def windows(self, begins: np.ndarray, ends: np.ndarray) -> RaggedArray:
        """Row `n` is `values[begins[n]:ends[n]]`, wherever that lies; int64, shape (n,) each.

        >>> RaggedArray.of([[3, 1], [2]]).windows(np.array([0, 0]), np.array([1, 2])).values.tolist()
        [3, 3, 1]
        """
        lengths = ends - begins
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return RaggedArray(self.values[np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)], offsets)
