"""The balanced tree that turns one source's item vectors into codes: every leaf one item, unique by construction.

A tree has `height` levels of up to `k` children. The paper's trees give every item k^height / n leaves on average and
keep one of them; here every item has exactly one leaf, which changes nothing in what a code says and saves the filling.
Below the first level the released code numbers children by an arbitrary order, so that only the first token of a source
carries similarity; `order="clustered"` numbers them by centres of the residuals that all nodes of a level share, so
that equal numbers under different parents mean similar directions.
"""

from __future__ import annotations

import numpy as np

from eager.balanced import assign_with_sizes, balanced_kmeans, balanced_sizes, squared_distances
from harness.errors import InputError
from harness.seeding import generator


def smallest_k(n_items: int, height: int) -> int:
    """The smallest k with k^height >= n_items (at least 2).

    >>> smallest_k(1682, 2), smallest_k(9922, 2), smallest_k(8, 3)
    (42, 100, 2)
    """
    k = max(2, round(n_items ** (1 / height)) - 1)
    while k**height < n_items:
        k += 1
    return k


def tree_codes(vectors: np.ndarray, k: int, height: int, *, order: str, seed: int) -> np.ndarray:
    """Codes of all items, int64 (n_items, height), digits in 0..k-1, no two rows alike.

    `vectors` is (n_items, dim). `order` is `clustered` or `released`. Raises `InputError` for vectors that are not
    finite and for a tree too small for the items.
    """
    n = len(vectors)
    if not np.isfinite(vectors).all():
        raise InputError("item vectors hold NaN or infinite values", mend="check the model that made them")
    if k**height < n:
        raise InputError(f"a tree of {height} levels of {k} has {k**height} leaves for {n} items", mend="raise k")
    rng = generator(seed, "tree")
    codes = np.zeros((n, height), dtype=np.int64)
    node = np.zeros(n, dtype=np.int64)  # the node that each item has come down to
    residual = vectors.astype(np.float32)
    for level in range(height):
        if order == "clustered" and level > 0:
            digits, residual = _shared_split(residual, node, k, k ** (height - level - 1), rng)
        elif level > 0 and level == height - 1:
            digits = _list_order(node)
        else:
            digits, residual = _own_split(residual, node, k, rng)
        codes[:, level] = digits
        node = node * k + digits
    return codes


def _own_split(
    vectors: np.ndarray, node: np.ndarray, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Every node split by its own balanced k-means; gives digits and the vectors less their centres."""
    digits, residual = np.zeros(len(node), dtype=np.int64), vectors.copy()
    for members in _members(node):
        digit, centres = balanced_kmeans(vectors[members], min(k, len(members)), rng)
        digits[members], residual[members] = digit, vectors[members] - centres[digit]
    return digits, residual


def _shared_split(
    vectors: np.ndarray, node: np.ndarray, k: int, room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Every node's members given to k centres that all nodes share, to each as many as its subtree holds."""
    _, centres = balanced_kmeans(vectors, k, rng)
    digits = np.zeros(len(node), dtype=np.int64)
    for members in _members(node):
        places = np.maximum(balanced_sizes(len(members), k), 1) if room == 1 else np.full(k, room)
        digits[members] = assign_with_sizes(squared_distances(vectors[members], centres), places)
    return digits, vectors - centres[digits]


def _list_order(node: np.ndarray) -> np.ndarray:
    """0, 1, 2, … inside each node, by item id."""
    digits = np.zeros(len(node), dtype=np.int64)
    for members in _members(node):
        digits[members] = np.arange(len(members))
    return digits


def _members(node: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(node, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(node[order])) + 1)
