"""`Requests`, the input of ranking, without targets; `Targets`, which only the evaluation gets; `Predictions`, the
ranked lists of a recommender, validated before they are used.
"""

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


NO_ITEM = -1  # padding behind the last item of a short list


@dataclass(frozen=True, eq=False)
class Predictions:
    """`items[n]` is the list of case `cases[n]` (`Requests.cases`: a user's id where each user has one case), best
    first: int64, shape (n, k), `NO_ITEM` behind the end of a short list.

    `scores` is float64 of the same shape, falling along a row; only the order of scores is measured.
    Construction checks shapes; `problems` checks the rest against the requests.
    """

    cases: np.ndarray
    items: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        for name, kind in (("cases", np.int64), ("items", np.int64), ("scores", np.float64)):
            array = np.array(getattr(self, name), dtype=kind)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.items.ndim != 2 or self.items.shape != self.scores.shape or len(self.cases) != len(self.items):
            raise ValueError(
                f"cases {self.cases.shape}, items {self.items.shape} and scores {self.scores.shape} do not fit"
            )

    @property
    def lengths(self) -> np.ndarray:
        """Items listed a case, shape (n,)."""
        return (self.items != NO_ITEM).sum(axis=1)

    def problems(self, cases: np.ndarray, n_items: int) -> list[str]:
        """Violations of the contract, one line each: missing or unexpected users, duplicate and unknown items, gaps,
        scores that are not finite or that rise. Empty for valid predictions."""
        results = []
        listed = self.items != NO_ITEM
        missing, extra = np.setdiff1d(cases, self.cases), np.setdiff1d(self.cases, cases)
        if len(missing) or len(extra) or len(np.unique(self.cases)) != len(self.cases):
            results.append(f"{len(missing)} cases without a list, {len(extra)} lists not asked for, of {len(cases)}")
        if (unknown := int(((self.items < NO_ITEM) | (self.items >= n_items)).sum())) > 0:
            results.append(f"{unknown} items outside the catalogue of {n_items}")
        ordered = np.sort(self.items, axis=1)
        if (
            duplicates := int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).any(axis=1).sum())
        ) > 0:
            results.append(f"duplicate items in the lists of {duplicates} users")
        if (listed[:, 1:] & ~listed[:, :-1]).any():
            results.append("an item behind the end of a list")
        if not np.isfinite(self.scores[listed]).all():
            results.append("a score that is not finite")
        elif (self.scores[:, 1:] > self.scores[:, :-1])[listed[:, 1:]].any():
            results.append("scores that rise along a list")
        return results

    @classmethod
    def best(cls, cases: np.ndarray, scores: np.ndarray, k: int) -> Predictions:
        """The `k` best of dense scores, shape (n, n_items); equal scores by item id. -inf is never listed."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        mask = np.take_along_axis(scores, order, axis=1).astype(np.float64)
        listed = mask > -np.inf
        return cls(cases, np.where(listed, order, NO_ITEM), np.where(listed, mask, 0.0))
