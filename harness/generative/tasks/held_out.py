"""Which items stand in no text task, so that comprehension can be measured on text that was never trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def held_out_items(items: Sequence[str], share: float) -> np.ndarray:
    """True for about `share` of the raw item ids, bool (n_items,). A fixed hash of the id alone decides: the same items
    for every seed, split and order of the catalogue, and a larger share holds all of a smaller one.

    >>> few, more = (held_out_items([f"i{n}" for n in range(1000)], share) for share in (0.05, 0.1))
    >>> bool(30 < few.sum() < 70), bool((more | ~few).all())
    (True, True)
    """
    digests = (hashlib.sha256(f"held out/{item}".encode()).digest()[:8] for item in items)
    places = np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64, len(items))
    return places < np.uint64(int(share * 2**64))
