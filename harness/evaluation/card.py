"""The report card: metrics by groups of test users, and properties of the lists besides accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.seeding import generator
from harness.evaluation.metrics import incidence
from harness.evaluation.significance import mean_interval
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.split import Split, TrainingData

RARE = 5  # training interactions below which a target is rare
HEAD = 0.2  # of the items, those with most training interactions: Pareto's share
LONG = 20  # items before the target
K = 10  # items of a list that are described
GROUPS = {
    "distance": ("memorised", "one hop", "neither"),
    "training": ("warm", "rare", "cold"),
    "popularity": ("head", "tail"),
    "history": (f"history to {LONG}", f"history over {LONG}"),
}
CHUNK = 512  # targets whose neighbours are held at once
SEED = 1  # of the resampling: the same lists give the same digits
RESAMPLES = 2_000


@dataclass(frozen=True, eq=False)
class Group:
    """Test users of one kind (cases, where a user may have several): `rows` is bool, shape (cases,), as in
    `split.test.requests`. Groups of the same `by` share out all of them."""

    by: str
    name: str
    rows: np.ndarray

    @property
    def users(self) -> int:
        return int(self.rows.sum())


def case_groups(split: Split) -> list[Group]:
    """All groups in a fixed order. `memorised`: the target followed the last item of the history in some training
    sequence. `one hop`: not so, but some training sequence has the target and another item of the history. `cold`
    have no training interaction, `rare` fewer than `RARE`. Only test cases are described; nothing may be chosen by it.
    """
    counts, target_items = split.train.counts(), split.test.targets.items
    purchases = counts[target_items]
    memorised = _followed(split)
    near = _together(split) & ~memorised
    head = head_items(counts)[target_items]
    long = split.cut.test.places > LONG
    rows = [memorised, near, ~memorised & ~near]
    rows += [purchases >= RARE, (purchases > 0) & (purchases < RARE), purchases == 0]
    rows += [head, ~head, ~long, long]
    names = [(by, name) for by, parts in GROUPS.items() for name in parts]
    return [Group(by, name, inside) for (by, name), inside in zip(names, rows, strict=True)]


def head_items(counts: np.ndarray) -> np.ndarray:
    """Which items are the head: the `HEAD` share of items with most training interactions (`counts`, shape (n_items,)),
    with all that equal the last of them; never items without any. bool, shape (n_items,)."""
    place = max(1, int(np.ceil(HEAD * len(counts)))) - 1
    return counts >= max(1, int(np.sort(counts)[::-1][place]))


def data_card(split: Split, groups: Sequence[Group]) -> dict[str, Any]:
    """JSON-able: users (cases, where a user may have several) and share of each group; how many items are the head,
    and its share of training interactions."""
    counts, requests = split.train.counts(), split.test.requests
    head, total = head_items(counts), len(requests)
    return {
        "users": total,
        **({"distinct_users": len(np.unique(requests.users))} if requests.clusters is not None else {}),
        "groups": [
            {"by": group.by, "name": group.name, "users": group.users, "share": group.users / total} for group in groups
        ],
        "head_items": int(head.sum()),
        "head_share_of_training": float(counts[head].sum() / max(1, counts.sum())),
    }


def group_metrics(
    values: np.ndarray, groups: Sequence[Group], clusters: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Mean of a metric in each group with its 95% interval (bootstrap over users, percentiles); `values` is float64,
    shape (cases,), `clusters` the user of each where that is not clear (`Requests.clusters`). A group without users has
    None."""
    results = []
    for group in groups:
        rng = generator(SEED, "card", group.name, 0)
        interval = mean_interval(values, group.rows, rng, RESAMPLES, clusters) if group.users else (None, None, None)
        figures = dict(zip(("mean", "low", "high"), interval, strict=True))
        results.append({"by": group.by, "name": group.name, "users": group.users, **figures})
    return results


def list_measures(lists: Predictions, train: TrainingData, k: int = K) -> dict[str, float | None]:
    """What the first `k` items of each list are like; None where nothing is listed. `coverage`: share of the catalogue
    that some list has (Ge et al. 2010). `gini`: inequality of how often each item of the catalogue is listed, 0 to 1 -
    1/n_items (Gunawardana & Shani 2015). `novelty`: mean self-information of a listed item in bits, -log2 of the share
    of training users who have it (Zhou et al. 2010); an item that nobody has counts as one that one user has.
    `popularity_share`: share of listed items that are of the head (one minus the tail percentage of Abdollahpouri et
    al. 2019)."""
    listed = lists.items[:, :k]
    listed = listed[listed != NO_ITEM]
    if not len(listed):
        return {"coverage": 0.0, "gini": None, "novelty": None, "popularity_share": None}
    times = np.sort(np.bincount(listed, minlength=train.n_items))
    order = 2 * np.arange(1, train.n_items + 1) - train.n_items - 1
    pairs = np.unique(train.sequences.rows() * train.n_items + train.sequences.values)
    owners = np.maximum(1, np.bincount(pairs % train.n_items, minlength=train.n_items))
    users = max(1, int((train.sequences.lengths > 0).sum()))
    return {
        "coverage": float((times > 0).mean()),
        "gini": float((order * times).sum() / (train.n_items * times.sum())),
        "novelty": float(-np.log2(owners / users)[listed].mean()),
        "popularity_share": float(head_items(train.counts())[listed].mean()),
    }


def _followed(split: Split) -> np.ndarray:
    """Whose target followed the last item of the history in training: bool, shape (users,)."""
    rows, n_items = split.train.sequences, split.train.n_items
    inside = rows.rows()[1:] == rows.rows()[:-1]
    known_mask = np.unique((rows.values[:-1] * n_items + rows.values[1:])[inside])
    histories = split.test.requests.histories
    last = histories.values[histories.offsets[1:] - 1]
    return np.isin(last * n_items + split.test.targets.items, known_mask)


def _together(split: Split) -> np.ndarray:
    """Whose target stands in a training sequence with another item of the history: bool, shape (users,)."""
    rows, n_items = split.train.sequences, split.train.n_items
    histories, target_items = split.test.requests.histories, split.test.targets.items
    has_value = incidence(rows.rows(), rows.values, (len(rows), n_items))
    case, item = histories.rows(), histories.values
    other = item != target_items[case]
    previous = incidence(case[other], item[other], (len(target_items), n_items))
    mask, at = np.unique(target_items, return_inverse=True)
    order = np.argsort(at, kind="stable")
    owners, result = has_value.T.tocsr(), np.zeros(len(target_items), dtype=bool)
    for begin in range(0, len(mask), CHUNK):
        first, last = np.searchsorted(at[order], [begin, begin + CHUNK])
        part = order[first:last]
        near = owners[mask[begin : begin + CHUNK]] @ has_value
        result[part] = near[at[part] - begin].multiply(previous[part]).sum(axis=1) > 0
    return result
