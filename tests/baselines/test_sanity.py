"""The sanity baselines: the contract, their tie rules by hand and by loop, and the reference figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from baselines.classic.base import ItemKNN, ItemKNNConfig, Markov, MarkovConfig, MostPopular, MostPopularConfig
from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics
from harness.protocol.predictions import NO_ITEM
from harness.protocol.recommender import Recommender
from harness.protocol.requests import Requests
from harness.testing.contract import RecommenderContract
from tests import toys

SHARED = Path(__file__).parents[3] / "shared/data"
COLUMNS = ("recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr@10")
REFERENCE = {  # from an independent script, as printed (five decimals)
    ("ml-100k", "mostpop"): (0.00318, 0.02545, 0.04984, 0.01444, 0.02241, 0.01415),
    ("ml-100k", "markov"): (0.01803, 0.06469, 0.10923, 0.04071, 0.05520, 0.03899),
    ("office", "mostpop"): (0.00251, 0.00470, 0.01348, 0.00358, 0.00654, 0.00451),
    ("office", "markov"): (0.05831, 0.08683, 0.09498, 0.07414, 0.07677, 0.07095),
    ("instruments", "mostpop"): (0.00525, 0.02769, 0.04679, 0.01616, 0.02226, 0.01489),
    ("instruments", "markov"): (0.04033, 0.06689, 0.08013, 0.05449, 0.05877, 0.05212),
}


class TestMostPopular(RecommenderContract):
    model_class = MostPopular
    pattern_floor = 0.1  # the cycle has hardly any popular items; chance is 0.19


class TestMarkov(RecommenderContract):
    model_class = Markov
    pattern_floor = 0.99


class TestItemKNN(RecommenderContract):
    model_class = ItemKNN
    pattern_floor = 0.8


def lists(
    model: Recommender, rows: list[list[int]], histories: list[list[int]], k: int, tmp_path: Path
) -> list[list[int]]:
    """Each of `rows` is one user's training part; two more items are held out and never seen by the model."""
    n_items = 1 + max(max(row) for row in rows)
    data = toys.dataset([np.array([*row, 0, 0]) for row in rows], n_items, None)
    model.fit(toys.split(data).train, toys.context(tmp_path))
    requests = Requests("test", np.arange(len(histories)), RaggedArray.of(histories))
    predictions = model.recommend(requests, k, toys.context(tmp_path))
    return [[item for item in row if item != NO_ITEM] for row in predictions.items.tolist()]


def test_popular_ties_go_by_item(tmp_path: Path) -> None:
    rows = [[3, 1], [3, 2], [1, 0], [4, 4]]  # counts: 1, 2, 1, 2, 2
    assert lists(MostPopular(MostPopularConfig()), rows, [[0], [3]], 4, tmp_path) == [[1, 3, 4, 0]] * 2


def test_a_catalogue_smaller_than_the_list_leaves_it_short(tmp_path: Path) -> None:
    for model in (MostPopular(MostPopularConfig()), Markov(MarkovConfig()), ItemKNN(ItemKNNConfig())):
        result = lists(model, [[0, 1], [1, 2]], [[0], [2]], 20, tmp_path)
        assert [sorted(row) for row in result] == [[0, 1, 2]] * 2


def test_markov_ties_by_hand(tmp_path: Path) -> None:
    rows = [[0, 3], [0, 3], [0, 2], [0, 1], [2, 5], [4, 5], [1, 4]]
    # training counts: item 0: 4, the others 2 each; from 0: 3 twice, then 1 and 2 once each (equal counts, item order)
    result = lists(Markov(MarkovConfig()), rows, [[5, 0], [3], []], 6, tmp_path)
    assert result[0] == [3, 1, 2, 0, 4, 5]
    assert result[1] == [0, 1, 2, 3, 4, 5]  # nothing follows 3: popularity
    assert result[2] == result[1]


@pytest.mark.parametrize("k", [3, 10, 40])
def test_markov_agrees_with_a_loop(tmp_path: Path, k: int) -> None:
    split = toys.split(toys.noise(users=80))
    model = Markov(MarkovConfig())
    model.fit(split.train, toys.context(tmp_path))
    value = model.recommend(split.test.requests, k, toys.context(tmp_path)).items.tolist()
    count = Counter(split.train.sequences.values.tolist())
    times: Counter[tuple[int, int]] = Counter()
    for row in split.train.sequences:
        times.update(zip(row[:-1].tolist(), row[1:].tolist(), strict=True))
    for history, items in zip(split.test.requests.histories, value, strict=True):
        last = int(history[-1])
        ranked = sorted(range(30), key=lambda item: (-times[last, item], -count[item], item))
        assert [item for item in items if item != NO_ITEM] == ranked[:k]


def test_knn_agrees_with_dense_arithmetic(tmp_path: Path) -> None:
    split = toys.split(toys.noise(users=60))
    model = ItemKNN(ItemKNNConfig(neighbours=4, shrinkage=1.0, recency=0.5))
    model.fit(split.train, toys.context(tmp_path))
    predictions = model.recommend(split.test.requests, 30, toys.context(tmp_path))
    items = np.zeros((60, 30))
    for user, row in enumerate(split.train.sequences):
        items[user, row] = 1
    norms = np.sqrt(items.sum(axis=0))
    cosine = (items.T @ items) / (np.outer(norms, norms) + 1.0)
    np.fill_diagonal(cosine, 0)
    for row in cosine:
        row[np.argsort(-row, kind="stable")[4:]] = 0
    for user, history in enumerate(split.test.requests.histories):
        weights = 0.5 ** np.arange(len(history))[::-1]
        expected = (weights[:, None] * cosine[history]).sum(axis=0)
        positive = int((expected > 0).sum())
        scores = predictions.scores[user, :positive]
        np.testing.assert_allclose(scores, expected[predictions.items[user, :positive]], rtol=1e-12)
        np.testing.assert_allclose(scores, np.sort(expected)[::-1][:positive], rtol=1e-12)
        assert (predictions.scores[user, positive:] <= 0).all()


@pytest.mark.parametrize("data", [toys.noise(users=300), toys.cycle(), toys.cold()], ids=["noise", "cycle", "cold"])
@pytest.mark.parametrize(("k", "neighbours"), [(3, 100), (10, 4), (20, 1)])
def test_knn_lists_and_scores_equal_a_sort_of_all_candidates(
    data: Dataset, k: int, neighbours: int, tmp_path: Path
) -> None:
    """To the last bit, ties included: the same products, every candidate sorted."""
    split = toys.split(data)
    model = ItemKNN(ItemKNNConfig(neighbours=neighbours, shrinkage=1.0, recency=1.0))
    model.fit(split.train, toys.context(tmp_path))
    predictions = model.recommend(split.test.requests, k, toys.context(tmp_path))
    histories, n_items = split.test.requests.histories, split.train.n_items
    ones = np.ones(len(histories.values))
    weights = sparse.csr_array((ones, (histories.rows(), histories.values)), shape=(len(histories), n_items))
    place = (model.arrays["item"], model.arrays["near"])
    product = weights @ sparse.csr_array((model.arrays["similarity"], place), shape=(n_items, n_items))
    result = sparse.coo_array(product)
    ties = 0
    for user in range(len(histories)):
        actual = result.coords[0] == user
        order = np.lexsort((result.coords[1][actual], -result.data[actual]))
        items, scores = result.coords[1][actual][order][:k], result.data[actual][order][:k]
        assert predictions.items[user, : len(items)].tolist() == items.tolist()
        assert predictions.scores[user, : len(items)].tobytes() == scores.tobytes()
        ties += int((np.diff(scores) == 0).sum())
        spare = [item for item in model.ranking.tolist() if item not in items][: k - len(items)]
        assert [item for item in predictions.items[user, len(items) :].tolist() if item != NO_ITEM] == spare
    assert ties or k == 3 or neighbours == 1


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = toys.split(toys.noise(users=50))
    result = []
    for chunk in (7, 4096):
        monkeypatch.setattr("baselines.classic.base.CHUNK", chunk)
        monkeypatch.setattr("baselines.classic.base.ITEMS", chunk)
        model = ItemKNN(ItemKNNConfig())
        model.fit(split.train, toys.context(tmp_path))
        result.append(model.recommend(split.test.requests, 10, toys.context(tmp_path)).items.tolist())
    assert result[0] == result[1]


def test_loading_with_another_data_set_is_refused(tmp_path: Path) -> None:
    model, split = Markov(MarkovConfig()), toys.split()
    model.fit(split.train, toys.context(tmp_path))
    model.save(tmp_path / "saved")
    with pytest.raises(InputError, match="24 items"):
        Markov(MarkovConfig()).load(tmp_path / "saved", toys.split(toys.noise()).train, toys.context(tmp_path))


def check(name: str, dataset: str, tmp_path: Path) -> None:
    split = toys.split(load_dataset(dataset))
    for model_name, model in (("mostpop", MostPopular(MostPopularConfig())), ("markov", Markov(MarkovConfig()))):
        model.fit(split.train, toys.context(tmp_path))
        scores = compute_metrics(model.recommend(split.test.requests, 20, toys.context(tmp_path)), split.test.targets)
        result = [scores[column] for column in COLUMNS]
        assert result == pytest.approx(REFERENCE[name, model_name], rel=0.005, abs=5e-6), (name, model_name)
        assert [round(value, 5) for value in result] == list(REFERENCE[name, model_name])


def test_reference_figures_on_ml_100k(tmp_path: Path) -> None:
    check("ml-100k", "ml-100k", tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["office", "instruments"])
def test_reference_figures_on_real_data(name: str, tmp_path: Path) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip("the real data is not beside the project")
    check(name, str(SHARED / name), tmp_path)
