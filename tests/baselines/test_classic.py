"""Graph, text kNN and EASE: the contract, slow arithmetic with ties, refusals, and the top lists that they share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from baselines.classic.base import best_of_rows, best_of_table, fill_up, without
from baselines.classic.ease import EASE, EASEConfig
from baselines.classic.graph import Graph, GraphConfig
from baselines.classic.text import TextKNN, TextKNNConfig, tfidf
from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.predictions import NO_ITEM
from harness.protocol.requests import Requests
from harness.protocol.split import Split
from harness.testing.contract import RecommenderContract
from tests import toys


class TestGraph(RecommenderContract):
    model_class = Graph
    pattern_floor = 0.99


class TestGraphWithoutText(RecommenderContract):
    model_class = Graph
    settings: ClassVar[dict[str, Any]] = {"use_text": False, "exclude_seen": False}
    pattern_floor = 0.99


class TestTextKNN(RecommenderContract):
    model_class = TextKNN
    pattern_floor = 0.1  # its text does not tell the cycle; chance is 0.19


class TestEASE(RecommenderContract):
    model_class = EASE
    settings: ClassVar[dict[str, Any]] = {"l2": 1.0}
    pattern_floor = 0.8


def few_values(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Scores with many ties, some of them zero or negative, and many gaps (NaN)."""
    table = rng.integers(-2, 4, (rows, columns)) / 2
    table[rng.random((rows, columns)) < rng.random((rows, 1))] = np.nan
    return table


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 300), columns=st.integers(1, 60), k=st.integers(1, 30))
def test_top_lists_equal_a_full_sort(seed: int, rows: int, columns: int, k: int) -> None:
    table = few_values(np.random.default_rng(seed), rows, columns)
    at = np.nonzero(~np.isnan(table))
    shuffled = np.random.default_rng(seed).permutation(len(at[0]))  # the order inside a row must not matter
    data, location = table[at][shuffled], (at[0][shuffled], at[1][shuffled])
    order = np.argsort(location[0], kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(location[0], minlength=rows))])
    ragged = sparse.csr_array((data[order], location[1][order], indptr), shape=(rows, columns))
    items, scores = best_of_rows(ragged, k)
    dense_items, dense_scores = best_of_table(np.where(np.isnan(table), -np.inf, table), k)
    for row in range(rows):
        listed = np.flatnonzero(~np.isnan(table[row]))
        expected = sorted(listed, key=lambda column: (-table[row, column], column))[:k]
        short = k - len(expected)
        for result, messages in ((items, scores), (dense_items, dense_scores)):
            assert result[row].tolist() == [*expected, *[NO_ITEM] * short]
            assert messages[row].tolist() == [*table[row, expected], *[0.0] * short]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(1, 25), k=st.integers(1, 12), barring=st.booleans())
def test_lists_are_filled_up_by_hand_and_by_table(seed: int, n_items: int, k: int, barring: bool) -> None:
    rng = np.random.default_rng(seed)
    ranking = rng.permutation(n_items)
    rows = [rng.permutation(n_items)[: rng.integers(0, min(k, n_items) + 1)].tolist() for _ in range(9)]
    barred = [rng.integers(0, n_items, rng.integers(0, 6)).tolist() if barring else [] for _ in range(9)]
    items, scores = np.full((9, k), NO_ITEM), np.zeros((9, k))
    for row, listed in enumerate(rows):
        items[row, : len(listed)], scores[row, : len(listed)] = listed, 1.0
    items, scores = without(items, scores, RaggedArray.of(barred), k)
    filled, messages = fill_up(items, scores, ranking, k, RaggedArray.of(barred) if barring else None)
    for row, (listed, out) in enumerate(zip(rows, barred, strict=True)):
        local = [item for item in listed if item not in out]
        spare = [item for item in ranking.tolist() if item not in local and item not in out]
        expected = [*local, *spare][:k]
        assert filled[row].tolist() == [*expected, *[NO_ITEM] * (k - len(expected))]
        assert (np.diff(messages[row][: len(expected)]) <= 0).all() and (messages[row][: len(local)] == 1.0).all()


def ranked_lists(model: Graph | TextKNN | EASE, split: Split, k: int, folder: Path) -> list[list[int]]:
    model.fit(split.train, toys.context(folder))
    predictions = model.recommend(split.test.requests, k, toys.context(folder))
    assert predictions.problems(split.test.requests.cases, split.train.n_items) == []
    return [[item for item in row if item != NO_ITEM] for row in predictions.items.tolist()]


def popular(split: Split) -> list[int]:
    counts = split.train.counts()
    return sorted(range(split.train.n_items), key=lambda item: (-counts[item], item))


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("k", [5, 20])
def test_graph_agrees_with_a_loop(tmp_path: Path, text: bool, observed: bool, k: int) -> None:
    split = toys.split(toys.noise(users=60))
    config = GraphConfig(rings=(3, 2, 1), edge_weight=0.5, neighbours=4, use_text=text, exclude_seen=observed)
    result = ranked_lists(Graph(config), split, k, tmp_path)
    order = popular(split)
    place = {item: number for number, item in enumerate(order)}
    times: Counter[tuple[int, int]] = Counter()
    for row in split.train.sequences:
        times.update(zip(row[:-1].tolist(), row[1:].tolist(), strict=True))
    updated: dict[int, dict[int, float]] = {}
    for item in order:
        near = sorted((b for a, b in times if a == item), key=lambda b: (-times[item, b], place[b]))[:4]
        most = max((times[item, b] for b in near), default=1)
        updated[item] = {b: np.log1p(times[item, b]) / np.log1p(most) for b in near}
    assert split.train.text is not None
    vectors = tfidf(split.train.text, None, location="toy")[0].toarray()
    cosine = vectors @ vectors.T
    for history, items in zip(split.test.requests.histories, result, strict=True):
        last, barred = int(history[-1]), set(history.tolist()) if observed else set()
        one = updated[last]
        two: Counter[int] = Counter()
        for step, weight in one.items():
            for item, further in updated[step].items():
                two[item] += weight * further
        rings = [
            {b: 0.5 * weight + (cosine[last, b] if text else 0.0) for b, weight in one.items()},
            {b: cosine[last, b] if text else two[b] for b in two if b not in one and b != last},
            {b: cosine[last, b] for b in order if text and b not in {*one, *two, last} and cosine[last, b] > 0},
        ]
        ranked = [sorted(set(ring) - barred, key=lambda b: (-round(ring[b], 12), place[b])) for ring in rings]
        expected: list[int] = []
        while len(expected) < k and any(ranked):
            for ring, quota in enumerate((3, 2, 1)):
                expected += ranked[ring][:quota]
                ranked[ring] = ranked[ring][quota:]
        expected += [item for item in order if item not in expected and item not in barred]
        assert items == expected[:k]


def test_the_first_places_do_not_depend_on_how_many_are_asked_for(tmp_path: Path) -> None:
    split = toys.split(toys.noise(users=60, items=60))
    long = ranked_lists(Graph(GraphConfig()), split, 30, tmp_path)
    assert ranked_lists(Graph(GraphConfig()), split, 10, tmp_path) == [row[:10] for row in long]


def test_a_ring_without_places_comes_last(tmp_path: Path) -> None:
    rows = [np.array([0, 1, 2, 0, 0]), np.array([0, 3, 4, 0, 0])]
    split = toys.split(toys.dataset(rows, 6, None))
    model = Graph(GraphConfig(rings=(0, 1, 0), exclude_seen=False))
    model.fit(split.train, toys.context(tmp_path))
    predictions = model.recommend(Requests("test", np.arange(1), RaggedArray.of([[0]])), 4, toys.context(tmp_path))
    assert predictions.items.tolist() == [[2, 4, 1, 3]] and model.record() == {"edges": 4, "text": False}


def test_text_knn_agrees_with_dense_arithmetic(tmp_path: Path) -> None:
    split = toys.split(toys.noise(users=60))
    result = ranked_lists(TextKNN(TextKNNConfig(neighbours=29, recency=0.5)), split, 12, tmp_path)
    order = popular(split)
    assert split.train.text is not None
    vectors = tfidf(split.train.text, None, location="toy")[0].toarray()
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1.0)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, 0.0)
    for history, items in zip(split.test.requests.histories, result, strict=True):
        scores = (0.5 ** np.arange(len(history))[::-1]) @ cosine[history]
        ranked = sorted(order, key=lambda item: (-round(scores[item], 12), order.index(item)))
        assert items == [item for item in ranked if item not in history][:12]


def test_ease_agrees_with_the_inverse_of_the_paper(tmp_path: Path) -> None:
    split = toys.split(toys.noise(users=60))
    result = ranked_lists(EASE(EASEConfig(l2=3.0, recency=0.5)), split, 12, tmp_path)
    counts = np.zeros((60, 30))
    for user, row in enumerate(split.train.sequences):
        counts[user, row] = 1
    inverse = np.linalg.inv(counts.T @ counts + 3.0 * np.eye(30))
    weights = np.eye(30) - inverse / np.diag(inverse)
    assert np.abs(np.diag(weights)).max() < 1e-12
    for history, items in zip(split.test.requests.histories, result, strict=True):
        scores = (0.5 ** np.arange(len(history))[::-1]) @ weights[history]
        scores[history] = -np.inf
        listed = scores[items]
        assert (np.diff(listed) <= 1e-5).all() and listed[-1] >= np.sort(scores)[::-1][11] - 1e-5


def test_ease_refuses_a_matrix_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = toys.split()
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=24 * 24 * 12 - 1))
    monkeypatch.setattr("baselines.classic.ease.item_weights", lambda *_: pytest.fail("it was made all the same"))
    with pytest.raises(InputError, match="6,912 bytes for 24 x 24 item weights, and 6,911 are free"):
        EASE(EASEConfig()).fit(split.train, toys.context(tmp_path))


def test_ease_is_loaded_with_the_rows_that_it_was_fitted_on(tmp_path: Path) -> None:
    split, model = toys.split(), EASE(EASEConfig())
    model.fit(split.train, toys.context(tmp_path))
    model.save(tmp_path / "saved")
    other = toys.split(toys.cycle(users=59)).train
    with pytest.raises(InputError, match="other numbers of times"):
        EASE(EASEConfig()).load(tmp_path / "saved", other, toys.context(tmp_path))


def test_text_knn_refuses_items_without_text(tmp_path: Path) -> None:
    bare = toys.split(toys.dataset([np.arange(6)] * 4, 6, None))
    with pytest.raises(InputError, match="no item text"):
        TextKNN(TextKNNConfig()).fit(bare.train, toys.context(tmp_path))
    equal = toys.split(toys.dataset([np.arange(6)] * 4, 6, (ItemText(title="a !"),) * 6))
    with pytest.raises(InputError, match="no item has a word of its own in title, brand, description"):
        TextKNN(TextKNNConfig()).fit(equal.train, toys.context(tmp_path))


def test_categories_stand_in_where_no_item_has_a_title() -> None:
    text = [ItemText(brand="Acme", categories=("Toys", "Cars")), ItemText(categories=("Toys", "Trains"))]
    assert tfidf(text, None, location="toy")[1] == ("brand", "categories", "description")
    titled = [ItemText(title="a car", categories=("Toys",)), ItemText(categories=("Toys",))]
    vectors, fields = tfidf(titled, None, location="toy")
    assert fields == ("title", "brand", "description") and not vectors[[1]].toarray().any()


@pytest.mark.parametrize("model_class", [Graph, TextKNN, EASE])
def test_held_out_items_change_nothing(model_class: type[Graph | TextKNN | EASE], tmp_path: Path) -> None:
    """The canary's plant: other answers in the same data leave the fitted arrays and the lists as they were."""
    data = toys.noise()
    rows = [np.append(row[:-2], (row[-2:] + 1) % len(data.items)) for row in data.sequences]
    result = []
    for source in (data, toys.dataset(rows, len(data.items), data.text)):
        split, model = toys.split(source), model_class(model_class.config_class())
        model.fit(split.train, toys.context(tmp_path))
        listed = model.recommend(split.valid.requests, 20, toys.context(tmp_path))
        result.append((listed.items.tolist(), listed.scores.tolist(), {n: a.tolist() for n, a in model.arrays.items()}))
    assert result[0] == result[1]
