"""`Requests`, the input of ranking, without targets; and `Targets`, which only the evaluation gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.ragged import RaggedArray


@dataclass(frozen=True, eq=False)
class Requests:
    """Rank every item for each of `users` after `histories` (item ids, oldest first, at most `max_history` of them).

    `users` is int64, shape (n,), distinct user ids; `histories` has n rows. An id beyond the last user of the data set
    (`harness recommend --history`) is a user whom the model has not seen.
    """

    fold: str
    users: np.ndarray
    histories: RaggedArray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Requests:
        """The given rows, in the given order."""
        return Requests(self.fold, self.users[rows], self.histories.take(rows))


@dataclass(frozen=True, eq=False)
class Targets:
    """The relevant item of each user; `items[n]` is the target of `Requests.users[n]`."""

    users: np.ndarray
    items: np.ndarray
