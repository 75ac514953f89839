"""EAGER under the contract suite; its loss and its ranking against the formulas, its switches, its canary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from torch.nn import functional

from eager.two_stream import Eager, TwoStreamConfig
from eager.two_stream_training import (
    NetworkConfig,
    Stream,
    Transfer,
    TwoStreamModel,
    TwoStreamNetwork,
    best,
    log_probabilities,
    path_tokens,
    union,
)
from harness.errors import InputError
from harness.generative.item_codes import CodeTable
from harness.generative.models.readers import PromptBatch
from harness.generative.tokenizers.base import INDEX_FILE, ItemIndex
from harness.generative.tokenizers.embeddings import ItemVectors, Source
from harness.generative.trie import CodeTrie
from harness.protocol.audit.provenance import UNKNOWN
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.recommender import Recommender
from harness.protocol.split import TrainingData, split
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.testing.contract import RecommenderContract
from tests import toys
from tests.eager.test_tree_tokenizer import planted

SMOKE = TwoStreamConfig.profiles["smoke"]


class TestEager(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = Eager
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"training": {"max_steps": 4, "choose": "last"}}
    pattern_floor: ClassVar[float] = 0.8
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 2
    keep_seconds: ClassVar[float] = 0.0


def changed(**sections: Any) -> TwoStreamConfig:
    """The smoke profile, cut to a few steps, with some settings changed."""
    base: dict[str, Any] = {**SMOKE, "training": {**SMOKE["training"], "max_steps": 3, "choose": "last"}}
    merged = {
        name: {**base.get(name, {}), **section} if isinstance(section, dict) else section
        for name, section in sections.items()
    }
    return TwoStreamConfig.model_validate({**base, **merged})


def fitted(config: TwoStreamConfig, folder: Path, data: TrainingData | None = None) -> Eager:
    return toys.fitted(Eager(config), folder, data, toys.split().valid)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Eager:
    """A model of a few steps: its lists are not trivial."""
    return fitted(changed(), tmp_path_factory.mktemp("short"))


def ranked(model: Eager, folder: Path, k: int = 10, **decode: Any) -> tuple[Predictions, dict[str, Any]]:
    """The lists of a fitted model under other settings of ranking, and their report."""
    filtered = decode.pop("filter_viewed", False)
    other = Eager(model.config.model_copy(update={"decode": model.config.decode.model_copy(update=decode)}))
    model.save(folder / "saved")
    other.load(folder / "saved", toys.split().train, toys.context(folder))
    other._record["filter_viewed"] = filtered
    predictions = other.recommend(toys.split().test.requests, k, toys.context(folder))
    return predictions, other.record()["decode"]["test"]


def siblings(table: CodeTable, item: int, level: int) -> list[int]:
    """The tokens that lead on from the prefix of an item's code."""
    same = (table.digits[:, :level] == table.digits[item, :level]).all(axis=1)
    return sorted(set(table.digits[same, level].tolist()))


def brute_force(stream: Stream, table: CodeTable, history: np.ndarray) -> np.ndarray:
    """log p of every item by one forward pass an item and a softmax over siblings, (n_items,)."""
    ids = torch.tensor([[*(history + 2).tolist(), 1]])
    real, scores = torch.ones_like(ids, dtype=torch.bool), []
    for item in range(table.n_items):
        response = torch.from_numpy(table.flat[[item]]) + stream.vocabulary
        states = stream.states(ids, real, response)[0]
        total = 0.0
        for level in range(table.levels):
            logits, options = stream.level_logits(states[level], level), siblings(table, item, level)
            total += float(logits[options].log_softmax(0)[options.index(int(table.digits[item, level]))])
        scores.append(total)
    return np.array(scores)


def network(seed: int = 0, tokens: str = "path") -> tuple[TwoStreamNetwork, dict[str, CodeTable]]:
    """Over 30 items; two of the behaviour codes are one."""
    rng, torch_seed = np.random.default_rng(seed), torch.manual_seed(seed)
    del torch_seed
    codes = rng.permutation(36)[:30]
    behavior = np.column_stack([codes // 6, codes % 6])
    behavior[1] = behavior[0]
    semantic = np.arange(30)[:, None] // [5, 1] % 5
    tables = {"behavior": CodeTable(behavior, (6, 6)), "semantic": CodeTable(semantic, (6, 5))}
    if tokens == "path":
        tables = {source: path_tokens(table) for source, table in tables.items()}
    settings = NetworkConfig(width=16, heads=2, head_width=8, inner=32, dropout=0.0, tokens="path")
    made = TwoStreamNetwork(tables, settings).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made, tables


@pytest.mark.parametrize("codes", ["centroid", "random"])
def test_initial_item_rows_follow_the_vectors_of_both_sources(codes: str, tmp_path: Path) -> None:
    side = np.where(np.arange(24) < 12, 1.0, -1.0)
    values = [np.outer(side, row).astype(np.float32) for row in np.random.default_rng(1).normal(size=(2, 8))]
    sources: tuple[Source, ...] = ("behavior", "semantic")
    vectors = {source: ItemVectors(part, "", UNKNOWN) for source, part in zip(sources, values, strict=True)}
    digits = np.column_stack([np.arange(24) // 12, np.arange(24) % 12] * 2)
    index = ItemIndex(table=CodeTable(digits, (2, 12) * 2), provenance=UNKNOWN)
    model = TwoStreamModel(changed(network={"codes": codes}).network, sources, "float32")
    model.build(index.table, toys.split().train, toys.context(tmp_path))
    model.initialise(index, vectors, 1)
    first, second = model.network.streams.values()
    rows = first.t5.shared.weight.detach()
    items, trees = rows[2:26], (rows[26:28], second.t5.shared.weight.detach()[2:4])
    cosines = torch.nn.functional.cosine_similarity(items[:, None], items[None], dim=-1)
    follows = bool((cosines[:12, :12] > 0.5).all() and (cosines[:12, 12:] < -0.5).all())
    opposite = [float(torch.nn.functional.cosine_similarity(*tree, dim=0)) < -0.5 for tree in trees]
    assert [follows, *opposite] == [codes == "centroid"] * 3
    model.initialise(index, {}, 1)  # codes from a file, and no loss that reads vectors


@pytest.mark.parametrize("tokens", ["path", "level"])
def test_log_probabilities_are_those_of_one_pass_an_item(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, tables = network(tokens=tokens)
    histories = [np.array([3, 7, 7, 1]), np.array([29])]
    prompts = PromptBatch.of([[*(history + 2).tolist(), 1] for history in histories], "cpu")
    items = np.stack([np.arange(30), np.arange(30)[::-1]])
    for source, table in tables.items():
        stream = made.streams[source]
        assert isinstance(stream, Stream)
        with torch.inference_mode():
            expected = np.stack([brute_force(stream, table, history) for history in histories])
            found = log_probabilities(stream, prompts, items)
            monkeypatch.setattr("eager.two_stream_training.ENTRIES", 8 * max(stream.sizes))
            in_parts = log_probabilities(stream, prompts, items)
        np.testing.assert_allclose(found, np.stack([expected[0], expected[1][::-1]]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(in_parts, found, rtol=1e-4, atol=1e-5)
        groups = np.unique(table.groups, return_index=True)[1]
        np.testing.assert_allclose(np.exp(expected[:, groups]).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("confidence", ["both", "own"])
def test_fusion_of_full_lists_is_a_ranking_of_all_items(confidence: str, short: Eager, tmp_path: Path) -> None:
    found, report = ranked(short, tmp_path, 24, beams=24, confidence=confidence)
    assert report["beams"] == 24 and report["short"] == 0
    streams = list(short.model.eval().streams.values())
    tables = [CodeTable(stream.digits.numpy(), stream.sizes) for stream in streams]
    for row, history in enumerate(list(toys.split().test.requests.histories)[:6]):
        with torch.inference_mode():
            pairs = zip(streams, tables, strict=True)
            means = np.stack([brute_force(stream, table, history) / 2 for stream, table in pairs])
        values = means.mean(axis=0) if confidence == "both" else means.max(axis=0)
        np.testing.assert_allclose(found.scores[row], np.sort(values)[::-1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(values[found.items[row]], found.scores[row], rtol=1e-4, atol=1e-5)


def test_few_beams_rank_the_union_of_their_lists(short: Eager, tmp_path: Path) -> None:
    few, report = ranked(short, tmp_path, 3, beams=3, exact_users=60)
    every, _ = ranked(short, tmp_path, 24, beams=24)
    lost = report["lost"]
    assert lost["users"] == 60 and 0 <= lost["missed_of_10_mean"] < 3
    for row in range(len(few.cases)):
        place = {item: number for number, item in enumerate(every.items[row].tolist())}
        assert np.diff([place[item] for item in few.items[row].tolist()]).min() > 0


def test_viewed_items_leave_the_lists(short: Eager, tmp_path: Path) -> None:
    found, report = ranked(short, tmp_path, 24, beams=24, filter_viewed=True)
    histories = toys.split().test.requests.histories
    assert report["short"] == len(found.cases)
    for items, history in zip(found.items, histories, strict=True):
        assert set(items.tolist()) - {NO_ITEM} == set(range(24)) - set(history.tolist())


def test_union_and_best() -> None:
    lists = [np.array([[4, 2, NO_ITEM], [1, 0, 5]]), np.array([[2, 4, 7], [9, 8, 7]])]
    scores = [np.array([[-1.0, -2, 0], [-1, -2, -3]]), np.array([[-0.5, -3, -4], [-1, -1, -1]])]
    items, values = union(lists, scores)
    assert items.tolist() == [[NO_ITEM] * 3 + [2, 4, 7], [0, 1, 5, 7, 8, 9]]
    assert values[0, 3:].tolist() == [-0.5, -1, -4] and (values[0, :3] == -np.inf).all()
    listed, listed_scores = best(items, values, 4)
    assert listed.tolist() == [[2, 4, 7, NO_ITEM], [1, 7, 8, 9]]
    assert listed_scores.tolist() == [[-0.5, -1, -4, 0], [-1] * 4]


def test_the_loss_is_the_sum_of_the_papers_terms(short: Eager, tmp_path: Path) -> None:
    """Each term by the formula, with one forward pass a sample; the transfer term with its own random numbers."""
    config = changed(contrast={"semantic": 0.5, "behavior": 2.0, "temperature": 0.2})
    model = fitted(config, tmp_path)
    recipe, streams = cast(Any, model.method.recipe), model.model.eval().streams
    rng = np.random.default_rng(0)
    vectors: Any = {"semantic": rng.normal(size=(24, 5)), "behavior": rng.normal(size=(24, 3))}
    auxiliary = recipe.auxiliary(vectors, toys.context(tmp_path)).eval()
    histories, items, negatives = [np.array([1, 2, 3]), np.array([8])], np.array([4, 9]), np.array([4, 0, 17])
    with torch.inference_mode():
        torch.manual_seed(5)
        found = recipe.loss(histories, items, auxiliary, negatives, "cpu")
        expected, summaries = torch.zeros(()), {}
        for source, weight in (("behavior", 2.0), ("semantic", 0.5)):
            stream, states = streams[source], []
            table = CodeTable(stream.digits.numpy(), stream.sizes)
            for history, item in zip(histories, items, strict=True):
                expected = expected - brute_force(stream, table, history)[item] / 2 / 2
                ids = torch.tensor([[*(history + 2).tolist(), 1]])
                code = (table.flat[item] + stream.vocabulary).tolist()
                states.append(stream.states(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([[*code, 1, 0]])))
            summaries[source] = torch.cat(states)[:, 3]
            unit = functional.normalize(torch.tensor(vectors[source], dtype=torch.float32), dim=-1)
            projected = functional.normalize(auxiliary[source].projectors[source](summaries[source]), dim=-1)
            for row, item in enumerate(items.tolist()):
                logits = projected[row] @ unit[[item, *(n for n in negatives.tolist() if n != item)]].T / 0.2
                expected = expected - weight * logits.log_softmax(0)[0] / 2
        torch.manual_seed(5)
        expected = expected + auxiliary["transfer"](streams["behavior"], torch.from_numpy(items), summaries["semantic"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_transfer_term_masks_one_token_and_replaces_one() -> None:
    made, tables = network()
    stream, table = made.streams["behavior"], tables["behavior"]
    assert isinstance(stream, Stream)
    task, items = Transfer(16, 2, 2, 0.0).eval(), torch.arange(30)
    guide = torch.randn(30, 16, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(task.judge.weight)
    with torch.inference_mode():
        torch.manual_seed(3)
        found = task(stream, items, guide)
        torch.manual_seed(3)
        masked, replaced = torch.randint(2, (30,)), torch.randint(2, (30,))
        moves, embedded = torch.rand(30), stream.t5.get_input_embeddings()
        expected = torch.zeros(())
        for item in range(30):
            ids = torch.from_numpy(table.flat[item]) + stream.vocabulary
            tokens, own = embedded(ids)[None], int(masked[item])
            hidden = tokens.clone()
            hidden[0, own] = task.mask
            logits = stream.level_logits(task.states(hidden, guide[item : item + 1])[0, 1 + own], own)
            options = siblings(table, item, own)
            expected -= logits[options].log_softmax(0)[options.index(int(table.digits[item, own]))] / 30
            level = int(replaced[item])
            size, digit = table.sizes[level], int(table.digits[item, level])
            other = (digit + 1 + int(moves[item] * (size - 1))) % size
            assert other != digit
            false = ids.clone()
            false[level] += other - digit
            for code, label in ((ids, 1.0), (false, 0.0)):
                logit = task.judge(task.states(embedded(code)[None], guide[item : item + 1])[0, 0])
                expected += functional.binary_cross_entropy_with_logits(logit, torch.tensor([label])) / 60
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_behaviour_learns_from_semantics_and_not_the_reverse(short: Eager, tmp_path: Path) -> None:
    model = fitted(changed(contrast={"semantic": 0.0, "behavior": 0.0}), tmp_path)
    recipe, network = cast(Any, model.method.recipe), model.model
    auxiliary = recipe.auxiliary({}, toys.context(tmp_path))
    assert list(auxiliary) == ["transfer"]
    guide = torch.randn(2, 32, requires_grad=True)
    network.zero_grad()
    auxiliary["transfer"](network.streams["behavior"], torch.tensor([3, 4]), guide.detach()).backward()
    semantic = [p.grad for p in network.streams["semantic"].t5.decoder.parameters()]
    assert all(grad is None for grad in semantic)
    assert network.streams["behavior"].t5.shared.weight.grad is not None and guide.grad is None


def test_a_token_of_its_own_for_each_prefix() -> None:
    rng = np.random.default_rng(2)
    table = CodeTable(rng.integers(0, 3, (40, 3)), (3, 3, 3))
    made = path_tokens(table)
    np.testing.assert_array_equal(made.groups, table.groups)
    assert made.sizes[0] == 3 and made.sizes[2] == len(np.unique(table.groups))
    for level in range(3):
        own = CodeTable(table.digits[:, : level + 1], table.sizes[: level + 1])
        np.testing.assert_array_equal(made.digits[:, level], own.groups)
    assert CodeTrie(made).codes == CodeTrie(table).codes


def test_streams_share_one_encoder(short: Eager) -> None:
    behavior, semantic = short.model.streams["behavior"], short.model.streams["semantic"]
    assert behavior.t5.encoder is semantic.t5.encoder and behavior.t5.decoder is not semantic.t5.decoder
    assert not any("semantic.t5.encoder" in name for name in short.method.model.parameters())


@pytest.mark.parametrize(
    "sections",
    [
        {"index": {"sources": ("behavior", "semantic"), "k": 6}},
        {"index": {"sources": ("semantic", "behavior")}},
        {"index": {"sources": ("behavior", "semantic"), "kind": "random"}},
        {"semantic": {"fields": ("title",)}},
        {"behavior": {"dim": 8}},
        {"network": {"tokens": "level"}},
        {"network": {"encoder_layers": 2}},
        {"network": {"layers": 2}},
        {"network": {"inner": 32}},
        {"network": {"dropout": 0.4}},
        {"contrast": {"semantic": 0.0}},
        {"contrast": {"behavior": 0.0}},
        {"contrast": {"temperature": 1.0}},
        {"contrast": {"negatives": 4}},
        {"contrast": {"mode": "released"}},
        {"transfer": {"weight": 0.0}},
        {"transfer": {"heads": 4}},
        {"training": {"batch": 32}},
        {"training": {"temperature": 0.5}},
        {"training": {"learning_rate": 1e-4}},
        {"tokenizer_seed": 9},
    ],
    ids=json.dumps,
)
def test_every_switch_does_something(sections: dict[str, Any], short: Eager, tmp_path: Path) -> None:
    other = fitted(changed(**sections), tmp_path)
    one, two = (model.model.streams["behavior"].t5.shared.weight for model in (short, other))
    assert short.size() != other.size() or one.shape != two.shape or not torch.equal(one, two)


def test_the_index_stays_with_the_run_and_serves_as_a_ready_one(short: Eager, tmp_path: Path) -> None:
    first = fitted(changed(), tmp_path)
    path = tmp_path / "run" / INDEX_FILE
    ready = {"index": {"kind": "file", "file": str(path)}, "contrast": {"semantic": 0.0, "behavior": 0.0}}
    again = fitted(changed(**ready), tmp_path / "again", replace(toys.split().train, text=None))
    assert again.record()["index"]["fingerprint"] == first.record()["index"]["fingerprint"]
    assert again.config.files(toys.split().train) == (path,) and not again.config.reads_text()
    odd = tmp_path / "odd.json"
    codes = json.loads(path.read_text())
    odd.write_text(json.dumps({item: code[:3] for item, code in codes.items()}))
    with pytest.raises(InputError, match="3 tokens a code are not 2 codes of one length"):
        fitted(changed(index={"kind": "file", "file": str(odd)}), tmp_path / "odd")


def test_other_held_out_items_change_nothing(tmp_path: Path) -> None:
    """The canary: two data sets with equal training parts, whose items the readers number differently, give the same
    codes, and with `choose=last` the same losses."""
    found = []
    for answers in (1, 2):
        data, model = split(planted(answers), Protocol()), Eager(changed())
        model.fit(data.train, toys.context(tmp_path / str(answers), data.valid))
        order = sorted(range(24), key=data.train.items.__getitem__)
        digits = [stream.digits.numpy()[order] for stream in model.model.streams.values()]
        found.append((data.train.items, digits, model.record()["index"]["rows"]))
    assert found[0][0] != found[1][0] and found[0][2] == found[1][2]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_settings_that_do_not_fit_are_refused_and_profiles_resolve() -> None:
    def resolved(profile: str, *sets: str) -> TwoStreamConfig:
        config = resolve(model_entry("eager"), profile, ConfigFile(), sets).model
        assert isinstance(config, TwoStreamConfig)
        return config

    paper = resolved("paper")
    assert (paper.network.encoder_layers, paper.network.layers, paper.network.width) == (1, 2, 96)
    assert (paper.contrast.mode, paper.contrast.semantic, paper.contrast.negatives) == ("released", 10, 2048)
    assert (paper.training.max_steps, paper.training.batch, paper.index.order) == (60_000, 256, "released")
    assert resolved("cpu", "eager_kdd.behavior.windows=released").leaks()
    for wrong, message in (
        ("eager_kdd.index.sources=[semantic]", "has to name both sources once"),
        ("eager_kdd.index.levels=[semantic, behavior]", "has to name both sources once"),
        ("eager_kdd.training.normalise=level", "normalise"),
        ("eager_kdd.transfer.heads=7", r"no multiple of transfer\.heads=7"),
    ):
        with pytest.raises(InputError, match=message):
            resolved("cpu", wrong)
