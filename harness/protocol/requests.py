"""`Requests`, the input of ranking, without targets; and `Targets`, which only the evaluation gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.ragged import RaggedArray


@dataclass(frozen=True, eq=False)
class Requests:
    """Rank every item for each of `users` after `histories` (item ids, oldest first, at most `max_history` of them).

    `users` is int64, shape (n,), user ids; `histories` has n rows. An id beyond the last user of the data set
    (`harness recommend --history`) is a user whom the model has not seen. `case_ids`: int64, shape (n,), distinct,
    where a user may have several cases; None where each has one, and the user's id is the case's.
    """

    fold: str
    users: np.ndarray
    histories: RaggedArray
    case_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @property
    def cases(self) -> np.ndarray:
        """The id of each row, which `Predictions.cases` repeats: int64, shape (n,), distinct."""
        return self.users if self.case_ids is None else self.case_ids

    @property
    def clusters(self) -> np.ndarray | None:
        """The user of each row, shape (n,), where rows of one user are not independent; None for one row a user."""
        return None if self.case_ids is None else self.users

    def take(self, rows: np.ndarray) -> Requests:
        """The given rows, in the given order."""
        case_ids = None if self.case_ids is None else self.case_ids[rows]
        return Requests(self.fold, self.users[rows], self.histories.take(rows), case_ids)


@dataclass(frozen=True, eq=False)
class Targets:
    """The relevant item of each case; `items[n]` is the target of `Requests.cases[n]`."""

    cases: np.ndarray
    items: np.ndarray


def case_names(requests: Requests, users: tuple[str, ...]) -> tuple[str, ...]:
    """The name of each case id in files, of the raw ids `users` of a data set: the user's raw id, or `USER#N` for the
    N-th case of a user who may have several. `requests` are all of a fold, sorted by user.

    >>> rows = RaggedArray.of([[0], [0, 1], [5]])
    >>> case_names(Requests("test", np.array([0, 0, 1]), rows, np.arange(3)), ("a", "b"))
    ('a#1', 'a#2', 'b#1')
    """
    if requests.case_ids is None:
        return users
    numbers = np.arange(len(requests)) - np.searchsorted(requests.users, requests.users) + 1
    return tuple(
        f"{users[user]}#{number}" for user, number in zip(requests.users.tolist(), numbers.tolist(), strict=True)
    )
