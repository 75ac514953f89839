"""Balanced k-means and the trees: sizes, uniqueness, determinism, and what the two leaf orders mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager.balanced import assign_with_sizes, balanced_kmeans, balanced_sizes, squared_distances
from eager.tree import smallest_k, tree_codes
from harness.errors import InputError


def points(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 10), st.integers(0, 5))
def test_clusters_have_their_sizes(n: int, clusters: int, seed: int) -> None:
    assigned, _ = balanced_kmeans(points(n, seed=seed), min(clusters, n), np.random.default_rng(seed))
    sizes = np.bincount(assigned, minlength=min(clusters, n))
    assert sizes.tolist() == balanced_sizes(n, min(clusters, n)).tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_no_point_and_cluster_would_both_rather_have_each_other(seed: int) -> None:
    distances = np.random.default_rng(seed).random((12, 4))
    sizes = np.array([3, 3, 3, 3])
    assigned = assign_with_sizes(distances, sizes)
    for point in range(12):
        for cluster in np.flatnonzero(distances[point] < distances[point, assigned[point]]):
            members = np.flatnonzero(assigned == cluster)
            assert len(members) == 3 and distances[members, cluster].max() <= distances[point, cluster]


def test_well_separated_groups_are_found() -> None:
    centres = 50 * np.eye(5, 8, dtype=np.float32)
    truth = np.repeat(np.arange(5), 20)
    vectors = (centres[truth] + points(100)).astype(np.float32)
    assigned, _ = balanced_kmeans(vectors, 5, np.random.default_rng(1))
    assert len({(a, b) for a, b in zip(truth.tolist(), assigned.tolist(), strict=True)}) == 5


def test_squared_distances_are_exact_enough() -> None:
    vectors, centres = points(20), points(3, seed=9)
    expected = ((vectors[:, None].astype(float) - centres[None].astype(float)) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(vectors, centres), expected, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 90), st.integers(1, 3), st.sampled_from(["clustered", "released"]))
def test_every_item_has_a_code_of_its_own(n: int, height: int, order: str) -> None:
    k = min(smallest_k(n, height), n)
    codes = tree_codes(points(n), k, height, order=order, seed=1)
    assert codes.shape == (n, height) and codes.min() >= 0 and codes.max() < k
    assert len(np.unique(codes, axis=0)) == n
    np.testing.assert_array_equal(codes, tree_codes(points(n), k, height, order=order, seed=1))
    counts = np.bincount(codes[:, 0], minlength=k)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("order", ["clustered", "released"])
def test_the_seed_is_read(order: str) -> None:
    one, other = (tree_codes(points(80), 9, 2, order=order, seed=seed) for seed in (1, 2))
    assert (one != other).any()


def test_only_clustered_second_tokens_carry_similarity() -> None:
    """Items are a coarse direction plus one of nine fine ones: equal second tokens should mean the equal fine one."""
    rng = np.random.default_rng(0)
    coarse, fine = np.repeat(np.arange(9), 9), np.tile(np.arange(9), 9)
    shuffled = rng.permutation(81)
    coarse, fine = coarse[shuffled], fine[shuffled]
    vectors = (40 * np.eye(9, 18)[coarse] + 10 * np.eye(9, 18, k=9)[fine] + rng.normal(size=(81, 18))).astype(
        np.float32
    )

    def agreement(order: str) -> float:
        second = tree_codes(vectors, 9, 2, order=order, seed=1)[:, 1]
        same = second[:, None] == second[None]
        return float((fine[:, None] == fine[None])[same].mean())

    assert agreement("clustered") > 0.9
    assert agreement("released") < 0.3


def test_wrong_vectors_and_too_small_trees_are_refused() -> None:
    broken = points(10)
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        tree_codes(broken, 4, 2, order="clustered", seed=1)
    with pytest.raises(InputError, match="raise k"):
        tree_codes(points(10), 3, 2, order="clustered", seed=1)


def test_smallest_k_is_the_smallest() -> None:
    for n in range(2, 400):
        for height in (1, 2, 3):
            k = smallest_k(n, height)
            assert k**height >= n and (k == 2 or (k - 1) ** height < n)
