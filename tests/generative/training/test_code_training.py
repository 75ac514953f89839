"""Recipes of networks over code tokens alone: the loss of an item is the score that the search gives it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from harness.core.plugins import warn
from harness.generative.config import ScoreNormalization
from harness.generative.decoding.beam_search import Search, rank_all
from harness.generative.models.readers import PromptBatch
from harness.generative.recipes import PrefixTraining, RecipeInputs, WindowTraining
from harness.generative.sequence_models import DecoderOnly, EncoderDecoder, NetworkConfig, PrefixTrainingConfig
from harness.generative.tasks.batching import Samples
from harness.generative.tokenizers.base import ItemIndex
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.generative.training.losses import Losses
from harness.generative.trie import CodeTrie
from harness.protocol.audit.provenance import UNKNOWN
from harness.protocol.split import TrainingData
from tests import toys
from tests.generative import toy_models

CODES = toy_models.table(24, (6, 5, 4))
SMALL: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "head_width": 8, "inner": 24, "dropout": 0.0}
HISTORY, TARGET = np.array([5, 17, 2]), 9
RULES: tuple[ScoreNormalization, ...] = ("children", "level", "vocabulary")


def built(kind: str, folder: Path, **settings: Any) -> Any:
    config = NetworkConfig(kind=cast(Any, kind), **SMALL, **settings)
    model: Any = DecoderOnly(config, "float32") if kind == "decoder" else EncoderDecoder(config, 0, "float32")
    context = toy_models.context(folder)
    model.prepare(context)
    model.build(CODES, toys.split().train, context)
    with torch.no_grad():  # logits far enough apart that one rule differs from another
        (model.network.code_in if kind == "decoder" else model.network.t5.shared.weight).mul_(3)
    model.network.eval()
    return model


def item_loss(model: Any, rule: ScoreNormalization) -> float:
    """Loss of `TARGET` behind `HISTORY`, summed over its tokens, as the recipe trains it."""
    config, trie = PrefixTrainingConfig(normalise=rule), CodeTrie(CODES)
    tokens = CODES.levels + (rule == "vocabulary")
    if isinstance(model, EncoderDecoder):
        loss = PrefixTraining(model, config, "tiger")._loss([HISTORY], np.array([TARGET]), trie, "cpu")
        return float(loss.detach()) * tokens
    losses = Losses(model.network, model.prompts, None, "cpu", normalise=rule, trie=trie)
    window = np.append(HISTORY, TARGET)
    means = [float(losses.windows([part], 0, np.empty(0)).value().detach()) for part in (window, HISTORY)]
    return (means[0] * 3 - means[1] * 2) * tokens  # three targets in all, of which two stand in the history


@pytest.mark.parametrize("kind", ["t5", "decoder"])
@pytest.mark.parametrize("codes", ["centroid", "random"])
def test_initial_code_rows_follow_the_item_vectors(kind: str, codes: str, tmp_path: Path) -> None:
    model = built(kind, tmp_path, codes=codes)
    table = model.network.code_in if kind == "decoder" else model.network.t5.shared.weight[model.network.vocabulary :]
    before, side = table.detach().clone(), np.where(CODES.digits[:, 0] < 3, 1.0, -1.0)
    values = np.outer(side, np.random.default_rng(1).normal(size=8)).astype(np.float32)
    index = ItemIndex(table=CODES, provenance=UNKNOWN)
    model.initialise(index, {"semantic": ItemVectors(values, "", UNKNOWN)}, 1)
    assert torch.equal(before, table) == (codes == "random")
    if codes == "centroid":
        first = torch.nn.functional.normalize(table[: CODES.sizes[0]].detach(), dim=-1)
        cosines, same = first @ first.T, torch.arange(CODES.sizes[0]) < 3
        assert (cosines[same][:, same] > 0.5).all() and (cosines[same][:, ~same] < -0.5).all()
        assert 0.2 < float(table.detach().std() / before.std()) < 2, "`built` scales the rows by 3"


@pytest.mark.parametrize("kind", ["t5", "decoder"])
@pytest.mark.parametrize("rule", RULES)
def test_the_loss_of_an_item_is_the_score_of_the_search(kind: str, rule: ScoreNormalization, tmp_path: Path) -> None:
    model = built(kind, tmp_path)
    prompt = model.prompt(HISTORY)
    search = Search(model.network, CodeTrie(CODES), model.network.reader([], len(prompt) + 4, 100), rule)
    with torch.inference_mode():
        items, scores = rank_all(search, PromptBatch.of([prompt], "cpu"), 24)
    assert item_loss(model, rule) == pytest.approx(-float(scores[0][items[0] == TARGET][0]), rel=1e-4)
    total = np.exp(scores).sum()
    assert total == pytest.approx(1, abs=1e-5) if rule == "children" else total < 0.999


def inputs(folder: Path) -> tuple[RecipeInputs, TrainingData]:
    data = toys.split(toys.cycle(users=12, length=9)).train
    index = cast(Any, SimpleNamespace(table=CODES))
    return RecipeInputs(data, index, {}, CodeTrie(CODES)), data


@pytest.mark.parametrize("kind", ["t5", "decoder"])
def test_the_record_counts_passes_and_few_are_warned_of(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warn.cache_clear()
    value, data = inputs(tmp_path)
    for epochs, printed in ((3, True), (12, False)):
        model = built(kind, tmp_path)
        config = PrefixTrainingConfig(batch=16, epochs=epochs, choose="last", learning_rate=1e-3)
        recipe = (WindowTraining if kind == "decoder" else PrefixTraining)(model, config, "tiger")
        report = recipe.run(value, toy_models.context(tmp_path))["training"]
        assert report["samples"] == int((data.sequences.lengths - 1).sum())
        assert report["passes"] == pytest.approx(epochs, rel=0.05)
        assert ("passes over the samples" in capsys.readouterr().err) == printed


def test_a_budget_of_targets_an_item_bounds_the_passes(tmp_path: Path) -> None:
    _, data = inputs(tmp_path)
    samples = int((data.sequences.lengths - 1).sum())
    model = built("t5", tmp_path)
    recipe = PrefixTraining(model, PrefixTrainingConfig(epochs=50, item_targets=samples / 12), "tiger")
    assert recipe.passes(data) == pytest.approx(len(np.unique(data.sequences.values)) / 12)
    assert PrefixTraining(model, PrefixTrainingConfig(epochs=50), "tiger").passes(data) == 50


def test_windows_of_a_pass_have_every_next_item_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut where the protocol's history ends, anew each pass."""
    value, data = inputs(tmp_path)
    value = RecipeInputs(TrainingData(**{**vars(data), "max_history": 3}), value.index, {}, value.trie)
    observed: list[np.ndarray] = []
    windows = Losses.windows
    monkeypatch.setattr(
        Losses, "windows", lambda self, rows, *rest: (observed.extend(rows), windows(self, rows, *rest))[1]
    )
    config = PrefixTrainingConfig(batch=16, epochs=2, choose="last")
    WindowTraining(built("decoder", tmp_path), config, "tiger").run(value, toy_models.context(tmp_path))
    assert max(map(len, observed)) == 4
    targets = np.bincount(np.concatenate([window[1:] for window in observed]), minlength=24)
    firsts = np.zeros(len(data.sequences.values), dtype=bool)
    firsts[data.sequences.offsets[:-1]] = True
    single = np.bincount(data.sequences.values[~firsts], minlength=24)
    steps = 2 * -(-int(single.sum()) // 16)
    assert abs(int(targets.sum()) - 2 * int(single.sum())) <= steps and (targets <= 2 * single).all()
    middle = len(observed) // 2
    assert {tuple(window) for window in observed[:middle]} != {tuple(window) for window in observed[middle:]}


def test_samples_of_the_two_recipes_are_the_same_next_items(tmp_path: Path) -> None:
    data = toys.split().train
    samples = Samples(data.sequences, data.max_history, 16, 1, seed=1)
    assert len(samples.targets) == int((data.sequences.lengths - 1).sum())
