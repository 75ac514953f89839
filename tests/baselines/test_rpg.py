"""RPG under the contract suite; its loss and its two ways to rank against the formulas."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from baselines.rpg import RPG, Passes, RPGConfig
from baselines.rpg_network import Catalogue, ParallelNetwork, code_sums, decoding_graph
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.base import INDEX_FILE
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.recommender import Recommender
from harness.protocol.split import TrainingData
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.testing.contract import RecommenderContract
from tests import toys

SMOKE = RPGConfig.profiles["smoke"]


class TestRPG(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = RPG
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"training": {"max_steps": 4, "choose": "last"}}
    pattern_floor: ClassVar[float] = 0.9
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 3
    keep_seconds: ClassVar[float] = 0.0


def changed(**sections: Any) -> RPGConfig:
    """The smoke profile, cut to a few steps, with some settings changed."""
    base: dict[str, Any] = {**SMOKE, "training": {**SMOKE["training"], "max_steps": 3, "choose": "last"}}
    merged = {name: {**base.get(name, {}), **section} for name, section in sections.items()}
    return RPGConfig.model_validate({**base, **merged})


def fitted(config: RPGConfig, folder: Path, data: TrainingData | None = None) -> RPG:
    return toys.fitted(RPG(config), folder, data, toys.split().valid)


def ranked(model: RPG, folder: Path, k: int = 10, **decode: Any) -> tuple[Predictions, dict[str, Any]]:
    """The lists of a fitted model under other settings of ranking, and their report."""
    filtered = decode.pop("filter_viewed", True)
    other = RPG(model.config.model_copy(update={"decode": model.config.decode.model_copy(update=decode)}))
    model.save(folder / "saved")
    other.load(folder / "saved", toys.split().train, toys.context(folder))
    other._record["filter_viewed"] = filtered
    predictions = other.recommend(toys.split().test.requests, k, toys.context(folder))
    return predictions, other.record()["decode"]["test"]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> RPG:
    """A model of a few steps: its lists are not trivial."""
    return fitted(changed(), tmp_path_factory.mktemp("short"))


def network(seed: int = 0, sizes: tuple[int, ...] = (5, 5, 3)) -> tuple[ParallelNetwork, CodeTable]:
    """Over codes of unequal levels, 40 items, some of which share a code; heads that are not the identity."""
    torch.manual_seed(seed)
    table = CodeTable(np.random.default_rng(seed).integers(0, sizes, (40, len(sizes))), sizes)
    result = ParallelNetwork(table, changed(network={"width": 16, "inner": 32, "layers": 2}).network, 6).eval()
    torch.nn.init.normal_(result.head, std=0.3)
    torch.nn.init.normal_(result.bias)
    return result, table


def test_scores_are_the_formula() -> None:
    """log p of an item: over its digits, the log-softmax of cosine / temperature from the digit's residual block."""
    result, table = network()
    history = np.array([3, 7, 7, 1])
    with torch.inference_mode():
        logs = result.log_probabilities([history])
        inputs = torch.stack([result.tokens[table.flat[item]].mean(dim=0) for item in history])
        state = result.body(inputs_embeds=inputs[None]).last_hidden_state[0, -1]
        expected = torch.zeros(40)
        for level in range(3):
            block = state + torch.nn.functional.silu(state @ result.head[level] + result.bias[level])
            rows = result.tokens[table.offsets[level] : table.offsets[level + 1]]
            cosines = torch.nn.functional.cosine_similarity(rows, block[None])
            expected += (cosines / result.temperature).log_softmax(dim=0)[table.digits[:, level].tolist()]
        scores = code_sums(torch.from_numpy(table.flat), logs)[0]
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(logs.exp().sum(), torch.tensor(3.0)), "each level sums to one"


def test_one_pass_over_a_window_is_all_its_prefixes() -> None:
    """The loss of a window is the mean over its next items, each of which sees what is before it alone."""
    result, table = network()
    windows = [np.array([1, 5, 9, 30]), np.array([2, 3])]
    with torch.inference_mode():
        each = [
            -code_sums(torch.from_numpy(table.flat[[window[end]]]), result.log_probabilities([window[:end]]))[0, 0] / 3
            for window in windows
            for end in range(1, len(window))
        ]
        loss = result.loss(windows)
    torch.testing.assert_close(loss, torch.stack(each).mean(), rtol=1e-4, atol=1e-5)


def test_exact_ranking_is_the_sorted_scores() -> None:
    result, table = network()
    catalogue, histories = Catalogue(CodeTrie(table), result.codes), [np.array([1, 2]), np.array([39])]
    with torch.inference_mode():
        logs = result.log_probabilities(histories)
        items, scores = catalogue.exact(logs, 40)
        listed, _ = catalogue.exact(logs, 45, viewed=histories)
    values = code_sums(torch.from_numpy(table.flat), logs).numpy()
    for row in range(2):
        assert sorted(items[row]) == list(range(40))
        np.testing.assert_allclose(scores[row], np.sort(values[row])[::-1], rtol=1e-5)
        np.testing.assert_allclose(values[row][items[row]], scores[row], rtol=1e-5)
        observed = len(histories[row])
        assert listed[row].tolist() == [i for i in items[row] if i not in histories[row]] + [NO_ITEM] * (5 + observed)


def test_equal_scores_come_in_the_declared_order_wherever_a_list_ends() -> None:
    table = CodeTable(np.zeros((9, 2), np.int64), (2, 2))
    catalogue = Catalogue(CodeTrie(table), torch.from_numpy(table.flat))
    declared = CodeTrie(table).items_of(0).tolist()
    for k in range(1, 10):
        assert catalogue.exact(torch.zeros(3, 4), k)[0].tolist() == [declared[:k]] * 3


@pytest.mark.parametrize("viewed", [None, [np.array([1, 2]), np.array([39])]], ids=["all", "without viewed"])
def test_a_search_in_the_full_graph_is_exact(viewed: list[np.ndarray] | None) -> None:
    built, table = network()
    catalogue = Catalogue(CodeTrie(table), built.codes)
    graph, start = decoding_graph(built, catalogue, 40), torch.tensor(range(12))
    with torch.inference_mode():
        logs = built.log_probabilities([np.array([1, 2]), np.array([39])])
        result = catalogue.search(logs, 10, graph, start, 1, viewed=viewed)
        exact = catalogue.exact(logs, 10, viewed=viewed)
    np.testing.assert_array_equal(result[0], exact[0])
    np.testing.assert_allclose(result[1], exact[1], rtol=1e-5)


def test_the_graph_joins_similar_codes_and_each_item_with_itself() -> None:
    result, table = network()
    catalogue = Catalogue(CodeTrie(table), result.codes)
    graph = decoding_graph(result, catalogue, 4).numpy()
    tokens = torch.nn.functional.normalize(result.tokens, dim=-1).detach().numpy()
    vectors = tokens[table.flat[catalogue.items]].reshape(40, -1)
    similarity = vectors @ vectors.T
    assert graph.shape == (40, 4) and (graph[:, 0] == np.arange(40)).all()
    for item in range(40):
        best = np.sort(similarity[item])[::-1][:4]
        np.testing.assert_allclose(np.sort(similarity[item][graph[item]])[::-1], best, rtol=1e-4, atol=1e-4)


def test_graph_and_exact_lists_of_a_model(short: RPG, tmp_path: Path) -> None:
    exact, report = ranked(short, tmp_path)
    assert report["beams"] == "all" and report["reader"] == "exact" and report["users_scored"] == 60
    complete, report = ranked(short, tmp_path, kind="graph", edges=24, steps=1, exact_users=30)
    assert report["lost"] == {"users": 30, "missed_of_10_mean": 0, "missed_of_10_most": 0}
    np.testing.assert_array_equal(complete.items, exact.items)
    assert report["reader"] == ranked(short, tmp_path, exact_items=23)[1]["reader"] == "graph"


def test_more_steps_of_a_search_find_better_items() -> None:
    built, table = network()
    catalogue = Catalogue(CodeTrie(table), built.codes)
    graph, start = decoding_graph(built, catalogue, 6), torch.arange(5)
    with torch.inference_mode():
        logs = built.log_probabilities([np.array([item]) for item in range(40)])
        one, two, four = (catalogue.search(logs, 5, graph, start, steps) for steps in (1, 2, 4))
        exact = catalogue.exact(logs, 5)
    for less, more in ((one, two), (two, four), (four, exact)):
        assert (more[1][:, 0] >= less[1][:, 0] - 1e-5).all(), "a beam is its own neighbour: the best is never lost"
    losses = [float((exact[1] - result[1]).mean()) for result in (one, two, four)]
    assert losses[0] > losses[1] > losses[2] >= 0
    assert all(len(set(row)) == 5 for row in one[0].tolist())


def test_the_report_says_what_a_narrow_search_lost(short: RPG, tmp_path: Path) -> None:
    narrow: dict[str, Any] = {"kind": "graph", "edges": 2, "beams": 5, "steps": 1, "filter_viewed": False}
    lists, report = ranked(short, tmp_path, 5, **narrow, exact_users=60)
    assert (lists.lengths == 5).all() and report["beams"] == 5 and report["lost"]["missed_of_10_mean"] > 0


def test_lists_without_viewed_items(short: RPG, tmp_path: Path) -> None:
    """The toy repeats no item, so that auto leaves the history out."""
    histories = toys.split().test.requests.histories
    for kind in ("exact", "graph"):
        lists, _ = ranked(short, tmp_path, kind=kind)
        assert not any(set(items) & set(row) for items, row in zip(lists.items.tolist(), histories, strict=True))
    data = toys.split().train
    rows = RaggedArray.of([np.append(row, row[0]) for row in data.sequences])
    repeated = fitted(changed(), tmp_path, replace(data, sequences=rows))
    assert repeated.record()["filter_viewed"] is False and short.record()["filter_viewed"] is True


def test_passes_see_every_next_item_once_and_repeat_for_a_seed() -> None:
    rows = RaggedArray.of([np.arange(12), np.arange(20, 23), [40], [41, 42]])
    passes = Passes(rows, 5, 6, 1)
    samples = [window for step in range(passes.steps) for window in passes.windows(step)]
    targets = sorted(int(item) for window in samples for item in window[1:])
    assert targets == [*range(1, 12), 21, 22, 42] and max(map(len, samples)) <= 5
    repeated = Passes(rows, 5, 6, 1)
    for step in (passes.steps, 0):
        for one, other in zip(passes.windows(step), repeated.windows(step), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "sections",
    [
        {"index": {"levels": 3}},
        {"index": {"size": 6}},
        {"index": {"pca": 4}},
        {"index": {"rotations": 0}},
        {"index": {"distinct": "token", "size": 2, "levels": 2}},
        {"semantic": {"fields": ("title",)}},
        {"network": {"layers": 2}},
        {"network": {"inner": 32}},
        {"network": {"heads": 4}},
        {"network": {"dropout": 0.4}},
        {"network": {"attention_dropout": 0.4}},
        {"network": {"residual_dropout": 0.4}},
        {"network": {"temperature": 0.5}},
        {"training": {"targets": 64}},
        {"training": {"max_steps": 2}},
        {"training": {"learning_rate": 1e-4}},
        {"training": {"warmup": 0.9}},
        {"training": {"weight_decay": 0.5}},
        {"training": {"clip": 1e-3}},
    ],
    ids=lambda sections: json.dumps(sections),
)
def test_every_switch_does_something(sections: dict[str, Any], short: RPG, tmp_path: Path) -> None:
    other = fitted(changed(**sections), tmp_path)
    one, two = short.model.tokens, other.model.tokens
    assert short.size() != other.size() or one.shape != two.shape or not torch.equal(one, two)


def test_the_index_stays_with_the_run_and_serves_as_a_ready_one(short: RPG, tmp_path: Path) -> None:
    first = fitted(changed(), tmp_path)
    path, data = tmp_path / "run" / INDEX_FILE, replace(toys.split().train, text=None)
    repeated = fitted(changed(index={"kind": "file", "file": str(path)}), tmp_path / "again", data)
    assert repeated.record()["index"]["fingerprint"] == first.record()["index"]["fingerprint"]
    assert repeated.config.files(data) == (path,) and not repeated.config.reads_text()
    with pytest.raises(InputError, match="no item text"):
        fitted(changed(), tmp_path / "none", data)


def test_profiles_are_what_the_source_says() -> None:
    def resolved(profile: str, *sets: str) -> RPGConfig:
        config = resolve(model_entry("rpg"), profile, ConfigFile(), sets).model
        assert isinstance(config, RPGConfig)
        return config

    paper = resolved("paper")
    assert (paper.network.layers, paper.network.width, paper.network.heads, paper.network.inner) == (2, 448, 4, 1024)
    assert (paper.network.temperature, paper.training.learning_rate, paper.index.levels) == (0.03, 0.01, 32)
    assert (paper.decode.kind, paper.decode.beams, paper.decode.edges, paper.decode.steps) == ("graph", 20, 200, 3)
    with pytest.raises(InputError, match=r"no multiple of network\.heads"):
        resolved("cpu", "rpg.network.heads=7")
