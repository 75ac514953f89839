"""RecTools' models under the contract with the `smoke` settings, and what the adapter adds to RecTools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from baselines.rectools.recommender import DEFAULTS, RecToolsConfig, RecToolsRecommender, rectools_models
from harness.core import timer
from harness.data.dataset import Dataset
from harness.errors import HarnessError, InputError
from harness.generative.training.checkpoint import read_snapshot
from harness.protocol.context import RunContext, Validation
from harness.protocol.predictions import Predictions
from harness.registry import model_entry
from harness.testing.contract import RecommenderContract, made, same
from tests import toys
from tests.baselines.nursery import Nursery

pytestmark = pytest.mark.usefixtures("forked")

ROOT = Path(__file__).parents[2]
SMOKE = RecToolsConfig.profiles["smoke"]
TINY = {**SMOKE, "epochs": 3, "hidden_size": 16}


class RecToolsContract(RecommenderContract):
    model_class = RecToolsRecommender
    brief: ClassVar[dict[str, Any]] = {"epochs": 1}
    short: ClassVar[dict[str, Any]] = {"epochs": 4}
    pattern_floor = 0.9


class TestSASRec(RecToolsContract):
    settings: ClassVar[dict[str, Any]] = {**dict(model_entry("sasrec").preset), **SMOKE}
    resumable = True  # the same code resumes every model: once is enough


@pytest.mark.nightly
class TestESASRec(RecToolsContract):
    settings: ClassVar[dict[str, Any]] = {**dict(model_entry("esasrec").preset), **SMOKE}


@pytest.mark.nightly
class TestHSTU(RecToolsContract):
    settings: ClassVar[dict[str, Any]] = {**dict(model_entry("hstu").preset), **SMOKE}


def fit(folder: Path, data: Dataset | None = None, context: RunContext | None = None, **settings: Any) -> Any:
    split = toys.split(data)
    model = RecToolsRecommender(RecToolsConfig.model_validate({**TINY, **settings}))
    model.fit(split.train, context or toys.context(folder, split.valid))
    return model, split


@pytest.mark.parametrize("loss", ["softmax", *(pytest.param(x, marks=pytest.mark.nightly) for x in ("BCE", "gBCE"))])
def test_each_loss_trains(loss: str, tmp_path: Path) -> None:
    model, _ = fit(tmp_path, loss=loss)
    assert model.record()["epochs"] == 3


def test_a_masked_model_trains_and_ranks(tmp_path: Path) -> None:
    """BERT4Rec reads a mask behind the history, which costs no item of it."""
    model, split = fit(tmp_path, model="BERT4Rec", heads=2, epochs=2)
    predictions = model.recommend(split.test.requests, 20, toys.context(tmp_path))
    assert (predictions.lengths == 20).all() and predictions.problems(split.test.requests.cases, 24) == []


def test_viewed_items_come_last_where_they_are_filtered(tmp_path: Path) -> None:
    """The same weights: each list without its history, then the history's items."""
    (plain, split), (filtered, _) = (fit(tmp_path, epochs=1, filter_viewed=on) for on in (False, True))
    context, moved = toys.context(tmp_path), 0
    for user, items, rest in zip(
        range(60),
        *(model.recommend(split.test.requests, 24, context).items for model in (plain, filtered)),
        strict=True,
    ):
        viewed = set(split.test.requests.histories[user].tolist())
        assert rest[: 24 - len(viewed)].tolist() == [item for item in items if item not in viewed]
        assert set(rest[24 - len(viewed) :]) == viewed
        moved += items.tolist() != rest.tolist()
    assert moved > 30


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    split = toys.split()
    value = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    scored: list[Predictions] = []

    def score(predictions: Predictions) -> dict[str, float]:
        scored.append(predictions)
        return {"ndcg@10": next(value)}

    context = RunContext(1, tmp_path, validation=Validation(split.valid.requests, score))
    model, _ = fit(tmp_path, context=context, epochs=30, patience=2)
    assert model.record() == {"rectools": "0.19.0", "epochs": 5, "best_epoch": 2, "best_valid": 0.3}
    repeated = model.recommend(split.valid.requests, 20, context)
    np.testing.assert_array_equal(repeated.items, scored[1].items)
    assert (repeated.items != scored[-1].items).any()


def test_without_validation_the_last_epoch_counts(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, context=toys.context(tmp_path))
    assert model.record() == {"rectools": "0.19.0", "epochs": 3, "best_epoch": 3, "best_valid": None}


def test_max_samples_bounds_the_epochs(tmp_path: Path) -> None:
    targets = 60 * 5  # 60 users with six training items
    model, _ = fit(tmp_path, epochs=50, max_samples=2 * targets + 7)
    assert model.record()["epochs"] == 2


@pytest.mark.parametrize(("name", "doom"), [("SASRec", (0, 4)), ("BERT4Rec", (1, 5))])
def test_killed_within_an_epoch(
    name: str, doom: tuple[int, int], tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on to what an undisturbed training gives, to the last digit: dropout, negatives and masks included."""
    split, stored = toys.split(), made(tmp_path / "kept")
    settings = {"model": name, "train_batch_size": 8, "dropout": 0.2}
    complete, _ = fit(tmp_path, **settings)
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    context = toys.context(tmp_path, split.valid, checkpoint=stored)
    with monkeypatch.context() as patch, pytest.raises(HarnessError, match="RecTools's process ended with code"):
        patch.setattr(nursery, "doom", doom)
        fit(tmp_path, context=context, **settings)
    result = read_snapshot(stored / "rectools" / "training.safetensors")
    assert result is not None and (result[0]["start_epoch"], result[0]["batch"]) == doom
    resumed, _ = fit(tmp_path, context=context, **settings)
    ranks = [each.recommend(split.test.requests, 10, context) for each in (complete, resumed)]
    same(*ranks)
    assert (ranks[0].scores == ranks[1].scores).all() and complete.record() == resumed.record()


def test_the_shortcuts_change_nothing(nursery: Nursery) -> None:
    """Loss and gradients of a batch are those of RecTools' own training step, which pads every session to the longest
    history, scores all places in one piece and gathers a vector for each candidate."""
    lines = nursery.output("rectools", STEP).splitlines()[-3:]
    assert len(lines) == 3
    for line in lines:
        name, loss, gradient = line.split()
        assert float(loss) < 1e-5 and float(gradient) < 1e-5, name


STEP = """
import os, tempfile
from pathlib import Path
import numpy as np, torch
from rectools.models.nn.transformers.similarity import DistanceSimilarityModule
from baselines.library import write_ragged
from baselines.rectools.recommender import RecToolsConfig
from baselines.rectools.engine import Engine
from harness.data.ragged import RaggedArray as Ragged

rng = np.random.default_rng(3)
rows = [rng.permutation(30)[: rng.integers(2, 14)] for _ in range(20)]
path = write_ragged(Path(tempfile.mkdtemp()) / "t.npz", Ragged.of(rows))
for name, layer in (("SASRec", "sasrec"), ("SASRec", "ligr"), ("HSTU", "stu")):
    config = RecToolsConfig(model=name, layer=layer, hidden_size=16, dropout=0.0, negatives=7, blocks=2)
    engine = Engine(name, config.settings(12), [], {"training": path}, 30, {"device": "cpu", "seed": 1})
    sampler = engine.sampler
    class Shifted:  # negatives that depend on the target alone, so that both ways draw the same
        def get_negatives(self, batch, lowest_id, highest_id, session_len_limit=None):
            x = (batch["y"] if "y" in batch else batch["x"])[..., None]
            return (x + torch.arange(1, 8)) % (highest_id - lowest_id) + lowest_id
    engine.sampler = Shifted()
    loss = engine.loss(engine.sessions())
    loss.backward()
    ours = [parameter.grad.clone() for parameter in engine.network.parameters()]
    engine.network.zero_grad()
    engine.network.similarity_module.__class__ = DistanceSimilarityModule
    engine.preparator.negative_sampler = Shifted()
    batch = engine.preparator._collate_fn_train([(row.tolist(), [1.0] * len(row), {}) for row in engine.sessions()])
    whole = engine.module.training_step(batch, 0)
    whole.backward()
    theirs = [parameter.grad for parameter in engine.network.parameters()]
    far = max(float((a - b).abs().max()) for a, b in zip(ours, theirs))
    print(f"{name}-{layer}", abs(float(loss) - float(whole)), far)
"""


def test_names_are_rectools_own_and_read_without_importing_it() -> None:
    assert set(DEFAULTS) <= set(rectools_models())
    code = "import sys; from harness.registry import model_entry; model_entry('rectools:bert4rec'); "
    code += "print([name for name in ('rectools', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_prefix_resolves_to_any_transformer() -> None:
    entry = model_entry("rectools:bert4rec")
    assert (entry.name, entry.preset) == ("rectools:BERT4Rec", (("model", "BERT4Rec"),))
    assert model_entry("rectools:SASRec") is model_entry("sasrec")
    assert model_entry("rectools:hstu") is model_entry("hstu")
    assert model_entry("recbole:SASRec").name == "recbole:SASRec"  # RecBole's keeps its own name
    with pytest.raises(InputError, match="unknown RecTools model 'SASRek'; did you mean SASRec"):
        model_entry("rectools:SASRek")


def test_settings_are_checked(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"hidden_size": 30, "heads": 4}, {"layer": "stu"}, {"model": "HSTU", "layer": "ligr"},
        {"layer": "sasrec", "ff_multiplier": 2}, {"extra": {"lr": 1.0}},
    ]  # fmt: skip
    for settings in wrong:
        with pytest.raises(ValidationError):
            RecToolsConfig.model_validate(settings)
    with pytest.raises(InputError, match=r"unknown RecTools setting 'use_pos_embb'.*use_pos_emb"):
        fit(tmp_path, extra={"use_pos_embb": False})
    with pytest.raises(InputError, match="RecTools refuses use_pos_emb"):
        fit(tmp_path, extra={"use_pos_emb": "nonsense"})
    model, _ = fit(tmp_path, extra={"use_pos_emb": False}, epochs=1)
    complete, _ = fit(tmp_path, epochs=1)
    assert complete.size().parameters - model.size().parameters == 20 * 16  # a position has a vector


@pytest.mark.parametrize("name", ["SASRec", "HSTU"])
def test_each_profile_fits(name: str) -> None:
    for settings in RecToolsConfig.profiles.values():
        config = RecToolsConfig.model_validate({"model": name, **settings})
        assert config.settings(20)["session_max_len"] == 20
