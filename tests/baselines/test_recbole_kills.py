"""RecBole killed in the middle of an epoch: it goes on to what an undisturbed training gives, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.recbole.recommender import RecBoleConfig, RecBoleRecommender
from harness.core import timer
from harness.errors import HarnessError
from harness.generative.training.checkpoint import read_snapshot
from harness.testing.contract import made, same
from tests import toys
from tests.baselines.nursery import Nursery

pytestmark = [pytest.mark.nightly, pytest.mark.usefixtures("forked")]
SMALL = {"epochs": 3, "learning_rate": 0.03, "train_batch_size": 8}
SHAPES = {"FPMC": {"extra": {"embedding_size": 16}}}


def model(name: str) -> RecBoleRecommender:
    shape = SHAPES.get(name, {"hidden_size": 16, "layers": 1})
    return RecBoleRecommender(RecBoleConfig.model_validate({"model": name, **SMALL, **shape}))


@pytest.mark.parametrize(  # dropout; random masks; negatives
    ("name", "doom"), [("GRU4Rec", (0, 4)), ("BERT4Rec", (1, 5)), ("FPMC", (1, 4))]
)
def test_killed_within_an_epoch(
    name: str, doom: tuple[int, int], tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, stored = toys.split(), made(tmp_path / "kept")
    complete, killed, resumed = model(name), model(name), model(name)
    complete.fit(split.train, toys.context(tmp_path, split.valid))
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    context = toys.context(tmp_path, split.valid, checkpoint=stored)
    with monkeypatch.context() as patch, pytest.raises(HarnessError, match="ended with code"):
        patch.setattr(nursery, "doom", doom)
        killed.fit(split.train, context)
    result = read_snapshot(stored / "recbole" / "training.safetensors")
    assert result is not None and (result[0]["start_epoch"], result[0]["batch"]) == doom
    resumed.fit(split.train, context)
    ranks = [each.recommend(split.test.requests, 10, context) for each in (complete, resumed)]
    same(*ranks)
    assert (ranks[0].scores == ranks[1].scores).all() and complete.record() == resumed.record()
