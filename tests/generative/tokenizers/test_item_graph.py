"""The item graph and its vectors against a slow construction of the same graph."""

from __future__ import annotations

import numpy as np
import pytest

from harness.generative.tokenizers.item_graph import GraphConfig, ItemWalks, graph_vectors, item_graph, nearest


def sequences(seed: int, users: int = 40, items: int = 25) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.permutation(items)[: rng.integers(1, 12)] for _ in range(users)]


def slow_graph(rows: list[np.ndarray], n_items: int, config: GraphConfig) -> np.ndarray:
    together, transitions = np.zeros((n_items, n_items)), np.zeros((n_items, n_items))
    for row in rows:
        for a in range(len(row)):
            for b in range(len(row)):
                if 0 < abs(a - b) <= config.reach and row[a] != row[b]:
                    together[row[a], row[b]] += 1
                    if abs(a - b) <= 3:
                        transitions[row[a], row[b]] += 1 / abs(a - b)
    counts = np.bincount(np.concatenate(rows), minlength=n_items)
    cosine = together / (np.sqrt(np.outer(counts, counts)) + config.shrinkage)
    strength = transitions.sum(axis=1)
    scale = np.sqrt(np.outer(strength, strength))
    scaled = np.divide(transitions, scale, out=np.zeros_like(scale), where=scale > 0)
    return cosine + config.transition * scaled + config.diagonal * np.eye(n_items)


@pytest.mark.parametrize("config", [GraphConfig(), GraphConfig(reach=2, shrinkage=0, transition=0.3, diagonal=0)])
def test_the_graph_is_that_of_the_formula(config: GraphConfig) -> None:
    rows = sequences(1)
    np.testing.assert_allclose(item_graph(rows, 25, config).toarray(), slow_graph(rows, 25, config), atol=1e-12)


def test_the_order_of_users_changes_nothing() -> None:
    rows = sequences(2)
    one, two = (graph_vectors(some, 25, 8, GraphConfig(), 5) for some in (rows, rows[::-1]))
    assert np.array_equal(one, two)


def test_vectors_have_unit_length_and_items_without_neighbours_none() -> None:
    rows = [np.array([0, 1, 2]), np.array([2, 0]), np.array([3])]
    vectors = graph_vectors(rows, 6, 4, GraphConfig(), 1)
    assert vectors.shape == (6, 4) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0, 0], atol=1e-6)


def test_more_dimensions_than_items_are_zero() -> None:
    assert (graph_vectors([np.array([0, 1])], 3, 10, GraphConfig(), 1)[:, 3:] == 0).all()


def test_items_of_one_cluster_are_closer_than_those_of_two() -> None:
    rng = np.random.default_rng(3)
    rows = [rng.permutation(10)[:5] + 10 * (user % 2) for user in range(60)]
    vectors = graph_vectors(rows, 20, 6, GraphConfig(), 1)
    similar = vectors @ vectors.T
    assert similar[:10, :10].mean() > similar[:10, 10:].mean() + 0.3


def test_nearest_items_are_those_of_largest_cosine() -> None:
    vectors = np.random.default_rng(2).normal(size=(30, 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for item, row in enumerate(nearest(vectors, 4)):
        others = np.argsort(-(unit @ unit[item]))
        assert row.tolist() == [other for other in others if other != item][:4]


@pytest.mark.parametrize("text", [0.0, 0.4, 1.0])
def test_a_walk_steps_along_edges_or_to_similar_items(text: float) -> None:
    rows, rng = sequences(1), np.random.default_rng(0)
    vectors = rng.normal(size=(26, 6))  # item 25 is in no sequence
    walks = ItemWalks(rows, vectors, GraphConfig(reach=2, transition=0.5), 1.0, text)
    graph, similar = item_graph(rows, 26, GraphConfig(reach=2, transition=0.5, diagonal=0)), nearest(vectors, 8)
    steps: list[tuple[int, int]] = []
    for _ in range(400):
        path = walks(np.array([3, 25, 7, 7, 9]), rng)
        assert len(path) == 5 and path[0] in (3, 25, 7, 9)
        steps += list(zip(path[:-1].tolist(), path[1:].tolist(), strict=True))
    along = [graph[one, other] > 0 for one, other in steps if one != 25]
    assert all(graph[one, other] > 0 or other in similar[one] for one, other in steps)
    assert all(other in similar[25] for one, other in steps if one == 25)
    assert np.mean(along) >= 1 - text
    expected = graph.toarray()[7] / graph.toarray()[7].sum()
    if text == 0:
        observed = np.bincount([other for one, other in steps if one == 7], minlength=26)
        np.testing.assert_allclose(observed / observed.sum(), expected, atol=0.12)


def test_windows_stay_where_no_walk_replaces_them() -> None:
    rng, window = np.random.default_rng(0), np.array([1, 2, 3, 4])
    walks = ItemWalks(sequences(1), np.eye(25), GraphConfig(), 0.25, 0.5)
    same = [np.array_equal(walks(window, rng), window) for _ in range(800)]
    assert 0.7 < np.mean(same) < 0.8
