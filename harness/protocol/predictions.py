"""`Predictions`: the ranked lists of a recommender, validated before they are used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

    def first(self, depth: int) -> Predictions:
        """The first `depth` items of each list."""
        return Predictions(self.cases, self.items[:, :depth], self.scores[:, :depth])

    def kept(self, mask: np.ndarray) -> Predictions:
        """Without the entries outside `mask`, bool, shape (n, k); the lists are closed up and never topped up."""
        order = np.argsort(~mask, axis=1, kind="stable")
        mask, items, scores = (np.take_along_axis(a, order, axis=1) for a in (mask, self.items, self.scores))
        return Predictions(self.cases, np.where(mask, items, NO_ITEM), np.where(mask, scores, 0.0))

    def problems(self, cases: np.ndarray, n_items: int) -> list[str]:
        """Violations of the contract, one line each: missing or unexpected users, duplicate and unknown items, gaps,
        scores that are not finite or that rise. Empty for valid predictions."""
        results = []
        listed = self.items != NO_ITEM
        missing, extra = np.setdiff1d(cases, self.cases), np.setdiff1d(self.cases, cases)
        if len(missing) or len(extra) or len(np.unique(self.cases)) != len(self.cases):
            results.append(f"{len(missing)} cases without a list, {len(extra)} lists not requested, of {len(cases)}")
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
    def of_entries(
        cls,
        cases: np.ndarray,
        at: tuple[np.ndarray, np.ndarray],
        items: np.ndarray,
        scores: np.ndarray,
        width: int | None = None,
    ) -> Predictions:
        """From single entries: `at` has the row in `cases` and the place in the list, from 0, of each of `items`, shape
        (entries,). `width`: the longest list (None: that of the entries)."""
        shape = (len(cases), int(at[1].max(initial=0)) + 1 if width is None else width)
        listed, values = np.full(shape, NO_ITEM), np.zeros(shape)
        listed[at], values[at] = items, scores
        return cls(cases, listed, values)

    @classmethod
    def best(cls, cases: np.ndarray, scores: np.ndarray, k: int) -> Predictions:
        """The `k` best of dense scores, shape (n, n_items); equal scores by item id. -inf is never listed."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        mask = np.take_along_axis(scores, order, axis=1).astype(np.float64)
        listed = mask > -np.inf
        return cls(cases, np.where(listed, order, NO_ITEM), np.where(listed, mask, 0.0))
