"""Every model of the table under the contract with the `smoke` settings, and RecBole's other sequential models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from baselines.recbole.model_table import RECBOLE_MODELS, REFUSED, SEQUENTIAL, SMALL, recbole_models
from baselines.recbole.recommender import RecBoleConfig, RecBoleRecommender
from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics
from harness.protocol.context import RunContext, Validation
from harness.protocol.predictions import Predictions
from harness.protocol.requests import Requests
from harness.registry import model_entry
from harness.testing.contract import RecommenderContract
from tests import toys

pytestmark = pytest.mark.usefixtures("forked")

SMOKE = RecBoleConfig.profiles["smoke"]
OTHERS = sorted(
    name for name, kind in recbole_models().items() if kind == SEQUENTIAL and name not in {*REFUSED, *RECBOLE_MODELS}
)


class RecBoleContract(RecommenderContract):
    model_class = RecBoleRecommender
    brief: ClassVar[dict[str, Any]] = {"epochs": 1}
    short: ClassVar[dict[str, Any]] = {"epochs": 5}
    pattern_floor = 0.9


class TestSASRec(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "SASRec", **SMOKE}
    resumable = True  # the same code resumes every model: once is enough


@pytest.mark.nightly
class TestGRU4Rec(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "GRU4Rec", **SMOKE}


@pytest.mark.nightly
class TestBERT4Rec(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "BERT4Rec", **SMOKE}


@pytest.mark.nightly  # twenty convolutions
class TestCaser(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "Caser", **SMOKE}


@pytest.mark.nightly
class TestHGN(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "HGN", **SMOKE}

    def toy(self) -> Dataset:
        """Sequences that go round the whole circle: a vector a user learns to rule out what its user never took."""
        return toys.cycle(users=24, items=24, length=32)


@pytest.mark.nightly
class TestNARM(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "NARM", **SMOKE}


@pytest.mark.nightly
class TestLightSANs(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "LightSANs", **SMOKE}


@pytest.mark.nightly
class TestFDSA(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "FDSA", **SMOKE}


@pytest.mark.nightly
class TestS3Rec(RecBoleContract):
    settings: ClassVar[dict[str, Any]] = {"model": "S3Rec", **SMOKE, "pretrain_epochs": 3}
    resumable = True
    interrupt_at = 2  # while it pre-trains


def test_every_model_of_the_table_keeps_the_contract() -> None:
    tested = {kind.settings["model"] for kind in RecBoleContract.__subclasses__()}
    assert tested == set(RECBOLE_MODELS)


class Events:
    """Keeps events, and presses Ctrl-C at event number `at`."""

    def __init__(self, at: int | None = None) -> None:
        self.kept: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.at = at

    def open(self, name: str, total: int | None) -> Events:
        self.names.append(name)
        return self

    def close(self, stage: Any) -> None: ...

    def advance(self, steps: int = 1, **output: float | str) -> None: ...

    def event(self, **fields: Any) -> None:
        self.kept.append(fields)
        if len(self.kept) == self.at:
            raise KeyboardInterrupt


def fit(model: str, folder: Path, data: Dataset | None = None, **options: Any) -> tuple[RecBoleRecommender, Any]:
    settings = {"model": model, **SMOKE, "epochs": 2, **options.pop("settings", {})}
    split = toys.split(data)
    fitted = RecBoleRecommender(RecBoleConfig(**settings))
    fitted.fit(split.train, toys.context(folder, split.valid, **options))
    return fitted, split


@pytest.mark.parametrize("name", [OTHERS[0], *(pytest.param(name, marks=pytest.mark.nightly) for name in OTHERS[1:])])
def test_any_other_sequential_model_trains_and_ranks(name: str, tmp_path: Path) -> None:
    entry = model_entry(f"recbole:{name}")
    small = {"reranker_CAN_NUM": 8} if name.endswith("CPR") else {}  # their 100 are more than the toy has items
    model, split = fit(name, tmp_path, settings={**dict(entry.preset), "epochs": 1, "extra": small})
    predictions = model.recommend(split.test.requests, 20, toys.context(tmp_path))
    assert (predictions.lengths == 20).all() and predictions.problems(split.test.requests.cases, 24) == []


def test_a_pairwise_model_learns_from_negative_items(tmp_path: Path) -> None:
    """FPMC knows BPR only: its loss is that of a coin, not of a choice among the whole catalogue; and it learns."""
    events, data = Events(), toys.cycle(users=24, items=24, length=32)
    model, split = fit("FPMC", tmp_path, data, settings={"epochs": 30, "learning_rate": 0.02}, reporter=events)
    losses = [event["loss"] for event in events.kept if event["stage"] == "train"]
    assert losses[0] < np.log(2) + 0.05 and losses[-1] < 0.5 * losses[0]
    scores = compute_metrics(model.recommend(split.test.requests, 20, toys.context(tmp_path)), split.test.targets)
    assert scores["ndcg@10"] > 0.5


def test_s3rec_pretrains_before_it_trains(tmp_path: Path) -> None:
    """Pre-training has its own bar and events without validation, changes the network, and can be left out."""
    events = Events()
    with_it, split = fit("S3Rec", tmp_path / "with", settings={"pretrain_epochs": 4}, reporter=events)
    assert events.names == ["S3Rec starts RecBole", "S3Rec pre-trains", "S3Rec trains"]
    previous = [event for event in events.kept if event["stage"] == "pretrain"]
    assert [event["epoch"] for event in previous] == [1, 2, 3, 4] and {event["valid"] for event in previous} == {None}
    assert previous[-1]["loss"] < previous[0]["loss"]
    assert with_it.record()["pretrain_epochs"] == 4 and with_it.record()["epochs"] == 2
    without, _ = fit("S3Rec", tmp_path / "without", settings={"pretrain_epochs": 0})
    assert without.record()["pretrain_epochs"] == 0
    lists = [model.recommend(split.test.requests, 20, toys.context(tmp_path)).items for model in (with_it, without)]
    assert (lists[0] != lists[1]).any()


@pytest.mark.nightly
def test_s3rec_resumes_after_its_pretraining(tmp_path: Path) -> None:
    """Cut in the first epoch after two of pre-training: the second attempt does not pre-train again."""
    options = {"settings": {"pretrain_epochs": 2, "epochs": 4}}
    complete, split = fit("S3Rec", tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit("S3Rec", tmp_path, reporter=Events(at=4), checkpoint=tmp_path / "kept", **options)
    events = Events()
    repeated, _ = fit("S3Rec", tmp_path, reporter=events, checkpoint=tmp_path / "kept", **options)
    epochs = [(event["stage"], event["epoch"]) for event in events.kept if event["stage"] != "recbole"]
    assert epochs == [("train", 3), ("train", 4)]
    kinds = {path.suffix for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert kinds == {".safetensors"}
    lists = [model.recommend(split.test.requests, 20, toys.context(tmp_path)).items for model in (complete, repeated)]
    np.testing.assert_array_equal(*lists)


@pytest.mark.parametrize(
    "name", ["FDSA", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("S3Rec", "GRU4RecF"))]
)
def test_item_features_reach_the_model(name: str, tmp_path: Path) -> None:
    """The same interactions with other categories train another network; without text there is one clear line."""
    plain = toys.cycle()
    rows = list(plain.sequences)
    other = toys.dataset(rows, 24, tuple(toys.titles(24)[::-1]))
    lists = []
    for place, data in enumerate((plain, other)):
        model, split = fit(name, tmp_path / str(place), data)
        lists.append(model.recommend(split.test.requests, 20, toys.context(tmp_path)).scores)
        assert model.size().parameters > 0
    assert not np.allclose(*lists)
    with pytest.raises(InputError, match="this data set has no item text"):
        fit(name, tmp_path, toys.dataset(rows, 24, None))


def test_a_data_set_without_brands_trains_on_the_rest(tmp_path: Path) -> None:
    text = tuple(replace(entry, brand="") for entry in toys.titles(24))
    model, split = fit("FDSA", tmp_path, toys.dataset(list(toys.cycle().sequences), 24, text))
    assert (model.recommend(split.test.requests, 5, toys.context(tmp_path)).lengths == 5).all()


def test_what_recbole_says_goes_to_the_log(tmp_path: Path) -> None:
    events = Events()
    fit("SASRec", tmp_path, reporter=events)
    message = [event["said"] for event in events.kept if event["stage"] == "recbole"]
    assert message and all("\n" not in line and "\x1b" not in line for line in message)
    assert not any("chained assignment" in line for line in message)


def test_small_has_a_small_structure_and_gives_way_to_what_is_said() -> None:
    small = RecBoleConfig(model="NARM", small=True, layers=2)
    assert (small.embedding_size, small.hidden_size, small.layers) == (SMALL["embedding_size"], 32, 2)
    assert small.heads is None and RecBoleConfig(model="NARM").hidden_size == 128


def test_a_masked_model_sees_its_whole_history(tmp_path: Path) -> None:
    """RecBole's own ranking drops the oldest item: a history of one item would be none, and of 20 items the first."""
    model, _ = fit("BERT4Rec", tmp_path)
    long = list(range(20))
    rows = RaggedArray.of([[3], [7], long, [23, *long[1:]], [5, *long]])
    predictions = model.recommend(Requests("test", np.arange(5), rows), 10, toys.context(tmp_path))
    assert not np.allclose(predictions.scores[0], predictions.scores[1])
    assert not np.allclose(predictions.scores[2], predictions.scores[3])
    np.testing.assert_allclose(predictions.scores[2], predictions.scores[4], rtol=1e-5)  # the 21st is beyond the cap


@pytest.mark.nightly
def test_weight_decay_works_where_recbole_has_a_list_of_weights(tmp_path: Path) -> None:
    _, split = fit("HGN", tmp_path / "a", settings={"weight_decay": 0.0})
    strong, _ = fit("HGN", tmp_path / "b", settings={"weight_decay": 5.0})
    weak, _ = fit("HGN", tmp_path / "c", settings={"weight_decay": 0.0})
    spread = [
        np.ptp(model.recommend(split.test.requests, 20, toys.context(tmp_path)).scores) for model in (strong, weak)
    ]
    assert spread[0] < 0.5 * spread[1]


def test_the_validation_answers_stay_here(tmp_path: Path) -> None:
    """The score that stops training is this side's: RecBole asks for it once an epoch, with lists and nothing else."""
    split = toys.split()
    requested: list[Predictions] = []

    def score(predictions: Predictions) -> dict[str, float]:
        requested.append(predictions)
        return {"ndcg@10": 1.0 - 0.1 * len(requested)}

    model = RecBoleRecommender(RecBoleConfig(**{"model": "BERT4Rec", **SMOKE, "patience": 2}))
    model.fit(split.train, RunContext(1, tmp_path, validation=Validation(split.valid.requests, score)))
    assert len(requested) == 4 and model.record()["best_epoch"] == 1 and model.record()["best_valid"] == 0.9
