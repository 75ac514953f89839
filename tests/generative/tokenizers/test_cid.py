"""Collaborative codes: the graph and the clusters against slow constructions, and what codes depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import SpectralClustering

from harness.data.ragged import RaggedArray
from harness.generative.tokenizers.cid import CIDTokenizer, Clustering, co_occurrence
from harness.protocol.split import TrainingData
from tests import toys


def blocks(groups: int, size: int, seed: int = 1) -> TrainingData:
    """Users who each buy inside one group of items, but for one item in eight."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(groups * size * 2):
        local = rng.permutation(size)[:6] + size * (user % groups)
        rows.append(np.where(rng.random(6) < 0.125, rng.integers(groups * size, size=6), local))
    data = toys.dataset(rows, groups * size, None)
    return toys.split(data).train


def clustering(graph: np.ndarray, branches: int, leaf: int, assignment: Any = "cluster_qr") -> Clustering:
    return Clustering(sparse.csr_array(graph), branches, leaf, assignment, seed=1)


def test_the_graph_counts_pairs_of_one_sequence() -> None:
    data = blocks(2, 8)
    slow = np.zeros((data.n_items, data.n_items))
    for row in data.sequences:
        for a in range(len(row)):
            for b in range(len(row)):
                slow[row[a], row[b]] += a != b and row[a] != row[b]
    result = co_occurrence(data.sequences.values, data.sequences.rows(), data.n_items)
    np.testing.assert_array_equal(result.toarray(), slow)


def test_the_first_level_is_that_of_scikit_learn() -> None:
    data = blocks(4, 12)
    graph = co_occurrence(data.sequences.values, data.sequences.rows(), data.n_items)
    assert (np.diff(graph.indptr) > 0).all()
    reference = SpectralClustering(4, assign_labels="cluster_qr", random_state=0, affinity="precomputed")
    expected = reference.fit_predict(graph.toarray())
    labels = clustering(graph.toarray(), 4, 1000)._labels(np.arange(48))
    pairs = {(a, b) for a, b in zip(labels.tolist(), expected.tolist(), strict=True)}
    assert len(pairs) == 4, "equal partitions, whatever the numbers of the clusters"


def test_a_sparse_and_a_dense_decomposition_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = blocks(4, 12)
    graph = co_occurrence(data.sequences.values, data.sequences.rows(), data.n_items)
    dense = clustering(graph.toarray(), 4, 20).paths()
    monkeypatch.setattr("harness.generative.tokenizers.cid.DENSE", 10)
    np.testing.assert_array_equal(clustering(graph.toarray(), 4, 20).paths(), dense)


@pytest.mark.parametrize("assignment", ["cluster_qr", "kmeans"])
def test_groups_that_buy_together_share_the_first_token(assignment: str, tmp_path: Path) -> None:
    data = blocks(4, 12)
    tokenizer = CIDTokenizer.model_validate({"branches": 4, "leaf": 12, "assignment": assignment})
    table = tokenizer.fit(data, toys.context(tmp_path))[1].table
    group = np.array([int(item[1:]) // 12 for item in data.items])
    first = table.digits[:, 0]
    assert np.mean([np.bincount(first[group == g]).max() / 12 for g in range(4)]) >= 0.9
    assert len(np.unique(table.digits, axis=0)) == data.n_items, "no two items share a code"


def test_clusters_are_split_until_they_are_small_and_codes_are_padded() -> None:
    graph = np.ones((30, 30)) - np.eye(30)
    graph[:3, 3:] = graph[3:, :3] = 0
    result = clustering(graph, 2, 4)
    paths = result.paths()
    _, counts = np.unique(paths, axis=0, return_counts=True)
    assert counts.max() <= 4 and paths.shape[1] > 2
    small = paths[:3]
    assert (small[0] == small).all() and small[0, 0] != paths[3, 0]
    assert (small[0, 1:] == 2).all(), "a cluster that is not split says so on every level below"


def test_items_without_neighbours_are_a_cluster_of_their_own(tmp_path: Path) -> None:
    data = blocks(2, 8)
    alone = replace(data, items=(*data.items, "x1", "x2"))
    index = CIDTokenizer(branches=3, leaf=6).fit(alone, toys.context(tmp_path))[1]
    assert index.details["without_neighbours"] == 2
    assert set(index.table.digits[-2:, 0]) == {3} and (index.table.digits[:-2, 0] < 3).all()


def test_a_graph_without_edges_is_cut_into_equal_parts() -> None:
    result = clustering(np.zeros((9, 9)), 3, 3)
    paths = result.paths()
    assert result.cut_evenly == 1 and np.bincount(paths[:, 1]).tolist() == [3, 3, 3]


def test_a_catalogue_of_one_cluster_has_codes_of_one_token(tmp_path: Path) -> None:
    index = CIDTokenizer(leaf=24).fit(toys.split().train, toys.context(tmp_path))[1]
    assert index.table.sizes == (24,) and index.record()["collision_rate"] == 0


def test_leaf_tokens_are_an_items_own_or_its_number_in_the_cluster(tmp_path: Path) -> None:
    data = blocks(3, 10)
    own, shared = (
        CIDTokenizer.model_validate({"branches": 3, "leaf": 12, "leaf_tokens": kind}).fit(data, toys.context(tmp_path))[
            1
        ]
        for kind in ("own", "shared")
    )
    np.testing.assert_array_equal(own.table.digits[:, :-1], shared.table.digits[:, :-1])
    assert len(set(own.table.digits[:, -1])) == data.n_items == own.table.sizes[-1]
    assert shared.table.sizes[-1] == own.details["largest_cluster"] == shared.details["largest_cluster"] < data.n_items
    assert len(np.unique(shared.table.digits, axis=0)) == data.n_items


def test_neither_the_order_of_users_nor_that_of_items_matters(tmp_path: Path) -> None:
    data, rng = blocks(3, 10), np.random.default_rng(5)
    order = rng.permutation(data.n_items)  # new place → old item
    place = np.argsort(order)
    rows = [place[row] for row in data.sequences]
    moved = replace(
        data,
        items=tuple(data.items[item] for item in order),
        sequences=RaggedArray.of([rows[user] for user in rng.permutation(len(rows))]),
    )
    tokenizer = CIDTokenizer(branches=3, leaf=5)
    one, other = (tokenizer.fit(some, toys.context(tmp_path))[1].table.digits for some in (data, moved))
    np.testing.assert_array_equal(one[order], other)
