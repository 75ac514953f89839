"""Reviews of items: reader and writer of `NAME.review.json` of the LC-Rec layout, and rules for reviews of any layout.

    {"('<user>', '<item>')": {"review": "…", "summary": "…"}}

The keys are Python representations of a pair, as in the layout's published script. A review belongs to an interaction:
it is training text only if the interaction is a training interaction.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.core.json_files import read_json_object
from harness.data.ragged import RaggedArray
from harness.errors import InputError

FILE = ".review.json"
LONGEST_KEY = 1 << 14  # characters of a pair of ids


class Review(NamedTuple):
    """Raw ids of user and item, and the text: summary and review."""

    user: str
    item: str
    text: str


def read_reviews(path: Path, users: Iterable[str], items: Iterable[str]) -> tuple[Review, ...] | None:
    """Reads and validates a file of reviews (`fitting`). Raises `InputError` for a key that is not a pair, for users
    and items of another data set, and for values that are not text."""
    placed = ((f"{path} key {key!r}", key, fields) for key, fields in read_json_object(path).items())
    return fitting(
        ((location, Review(*_pair(key, location), _text(fields, location))) for location, key, fields in placed),
        users,
        items,
    )


def fitting(
    placed: Iterable[tuple[str, Review]], users: Iterable[str], items: Iterable[str]
) -> tuple[Review, ...] | None:
    """The non-empty reviews in the order of raw ids, each given with its location; None if there are none. Raises
    `InputError` for users and items of another data set."""
    known_users, known_items = set(users), set(items)
    results = []
    for location, review in placed:
        if review.user not in known_users or review.item not in known_items:
            message = f"the {'item' if review.user in known_users else 'user'} is not in the interactions"
            raise InputError(message, where=location, hint="give the reviews of this data set", code="bad-line")
        if review.text:
            results.append(review)
    return tuple(sorted(results)) or None


def write_reviews(reviews: Iterable[Review]) -> str:
    """The file's content."""
    output = {str((one.user, one.item)): {"review": one.text, "summary": ""} for one in reviews}
    return json.dumps(output, ensure_ascii=False, indent=1)


def reviews_of(
    reviews: Iterable[Review],
    names: tuple[tuple[str, ...], tuple[str, ...]],
    ragged_array: RaggedArray,
    part: RaggedArray,
) -> tuple[Review, ...]:
    """Those whose interactions all stand in `part`: of a pair that `ragged_array` has more often than `part`, some
    interaction is held out, and which of them a review speaks of cannot be known. `names`: raw ids of users and
    items."""
    users, items = ({name: place for place, name in enumerate(ids)} for ids in names)
    in_whole, in_part = (_counts(rows, len(items)) for rows in (ragged_array, part))
    values = []
    for review in reviews:
        pair = users[review.user] * len(items) + items[review.item]
        if 0 < in_whole.get(pair, 0) == in_part.get(pair, 0):
            values.append(review)
    return tuple(values)


def _counts(rows: RaggedArray, n_items: int) -> Mapping[int, int]:
    pairs, counts = np.unique(rows.rows() * n_items + rows.values, return_counts=True)
    return dict(zip(pairs.tolist(), counts.tolist(), strict=True))


def _pair(key: str, location: str) -> tuple[str, str]:
    pair: Any = None
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        pair = ast.literal_eval(key) if len(key) <= LONGEST_KEY else None
        if isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str | int) for part in pair):
            pair = tuple(str(part) for part in pair)  # Python writes no whole number of more than 4,300 digits
            "".join(pair).encode()  # nor half a character
        else:
            pair = None
    if pair is None:
        raise InputError(
            "a pair of user and item is needed", where=location, hint="write \"('user', 'item')\"", code="bad-line"
        )
    return pair


def _text(fields: Any, location: str) -> str:
    if not isinstance(fields, dict) or not all(isinstance(value, str | None) for value in fields.values()):
        raise InputError(
            "an object of texts is needed",
            where=location,
            hint='write {"review": "…", "summary": "…"}',
            code="bad-line",
        )
    parts = (fields.get("summary") or "", fields.get("review") or "")
    return " ".join(" ".join(parts).split())
