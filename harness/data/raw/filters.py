"""The published filtering steps on arrays: duplicates, items without metadata, iterative k-core, sorting by time, ids.

Rows keep the file's order; each step selects rows. This module reads no files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.data.dataset import Dataset, alphabetical, core_passes
from harness.data.ragged import RaggedArray
from harness.data.raw.interactions import RawLog

HASH_RULE = (
    "order within a user: by timestamp, equal timestamps by a hash of tie seed {seed}, user id and item id; "
    "the order of lines does not matter"
)
FILE_RULE = "order within a user: by timestamp, equal timestamps by line in the raw file, as in the published sequences"


@dataclass
class FilteredRows:
    """The rows of a log that remain, and the counts after each step."""

    log: RawLog
    kept: np.ndarray
    history: list[dict[str, int | str]] = field(default_factory=list)

    @classmethod
    def of(cls, log: RawLog) -> FilteredRows:
        """All rows."""
        return cls(log, np.arange(len(log))).note("in the raw file")

    @property
    def users(self) -> np.ndarray:
        return self.log.user_codes[self.kept]

    @property
    def items(self) -> np.ndarray:
        return self.log.item_codes[self.kept]

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of each user and of each item of the log."""
        return (
            np.bincount(self.users, minlength=len(self.log.users)),
            np.bincount(self.items, minlength=len(self.log.items)),
        )

    def note(self, step: str) -> FilteredRows:
        """Records the current counts."""
        users, items = (int(np.count_nonzero(counted)) for counted in self.counts())
        self.history.append({"step": step, "users": users, "items": items, "interactions": len(self.kept)})
        return self

    def keep(self, stays: np.ndarray, step: str) -> FilteredRows:
        """Keeps the rows where `stays` (bool, one a remaining row)."""
        self.kept = self.kept[stays]
        return self.note(step)


def first_of_each(log: RawLog, mask: np.ndarray) -> np.ndarray:
    """Bool, one a remaining row: the earliest interaction of its user with its item (the first line of equal times)."""
    pairs = log.user_codes[mask] * np.int64(max(len(log.items), 1)) + log.item_codes[mask]
    order = np.lexsort((log.times[mask], pairs))  # stable: equal times stay in the order of lines
    first = np.ones(len(order), bool)
    first[1:] = pairs[order][1:] != pairs[order][:-1]
    stays = np.zeros(len(mask), bool)
    stays[order[first]] = True
    return stays


def k_core(rows: FilteredRows, k: int) -> FilteredRows:
    """Repeats until nothing changes: counts users and items once, and keeps the rows where both have at least `k`."""
    for number, stays in enumerate(core_passes(rows.users, rows.items, k, k), start=1):
        rows = rows.keep(stays, f"{k}-core, pass {number}")
    return rows


def in_order(rows: FilteredRows, name: str, tie_seed: int | None) -> Dataset:
    """Users one after another, each in time order; items numbered by first appearance in that listing.

    `tie_seed` None: equal timestamps by line, users by their first line. Otherwise equal timestamps by a hash, users by
    the time of their first interaction, then by raw id; the order of lines has no effect.
    """
    log, mask = rows.log, rows.kept
    user_codes, user_rows = np.unique(rows.users, return_inverse=True)
    item_codes, item_rows = np.unique(rows.items, return_inverse=True)
    raw_users, raw_items = [log.users[u] for u in user_codes], [log.items[i] for i in item_codes]
    times = log.times[mask]
    if tie_seed is None:
        ties = mask
        started = np.full(len(user_codes), len(log), np.int64)
        np.minimum.at(started, user_rows, mask)
        by_place = np.argsort(started)
    else:
        ties = tie_keys(raw_users, raw_items, tie_seed, user_rows, item_rows)
        began = np.full(len(user_codes), np.inf)
        np.minimum.at(began, user_rows, times)
        by_place = np.lexsort((_ranks(raw_users), began))
    place = np.argsort(by_place)
    alphabet = _ranks(raw_items)  # decides only where two hashes are equal
    order = np.lexsort((alphabet[item_rows], ties, times, place[user_rows]))
    flat = item_rows[order]
    distinct, first = np.unique(flat, return_index=True)
    listed = distinct[np.argsort(first)]
    lengths = np.bincount(place[user_rows], minlength=len(user_codes))
    return Dataset(
        name,
        users=tuple(raw_users[u] for u in by_place),
        items=tuple(raw_items[i] for i in listed),
        sequences=RaggedArray.of_lengths(np.argsort(listed)[flat], lengths),
        timestamps=times[order],
    )


def tie_keys(
    users: Sequence[str], items: Sequence[str], seed: int, user_rows: np.ndarray, item_rows: np.ndarray
) -> np.ndarray:
    """One uint64 a row: SplitMix64's finaliser over the hashes of the user (with the seed) and of the item.

    The order of the same items differs between users, so that no item is favoured by its id.
    """
    user_hashes = np.array([_hash(f"{seed}\n{raw}") for raw in users], np.uint64)
    item_hashes = np.array([_hash(raw) for raw in items], np.uint64)
    return mixed(user_hashes[user_rows] ^ mixed(item_hashes[item_rows]))


def mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), element by element, modulo 2^64."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _ranks(ids: Sequence[str]) -> np.ndarray:
    return np.argsort(alphabetical(ids))
