"""RecBole's process: exactly our split, one metric, and what happens when it dies.

Two tests start RecBole in an interpreter of its own; the others of the default suite talk to a fork of one process that
has imported it (`forked_session`)."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import ValidationError

from baselines.library import Session, read_arrays
from baselines.recbole.model_table import RECBOLE_MODELS
from baselines.recbole.recommender import RecBoleConfig, RecBoleRecommender
from harness.data.dataset import Dataset
from harness.errors import HarnessError, InputError
from harness.protocol.context import RunContext, SilentReporter, Validation
from harness.protocol.predictions import Predictions
from harness.testing.contract import made
from tests import toys
from tests.waiting import wait_for

SMALL = {"hidden_size": 16, "layers": 1, "max_samples": 100_000, "epochs": 12, "learning_rate": 0.03}
SMALL |= {"train_batch_size": 64, "dropout": 0.0}
TINY = {**SMALL, "epochs": 2}
SAMPLES = 300  # of the cycle: 60 users with 6 training items, every prefix a sample


class Hearing(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.events: list[dict[str, Any]] = []
        self.steps = 0

    def open(self, name: str, total: int | None) -> Hearing:
        self.totals.append(total)
        return self

    def advance(self, steps: int = 1, **output: float | str) -> None:
        self.steps += steps

    def event(self, **fields: Any) -> None:
        if fields["stage"] == "train":
            self.events.append(fields)


def fitted(folder: Path, data: Dataset | None = None, reporter: Hearing | None = None, **settings: Any) -> Any:
    split = toys.split(data)
    model = RecBoleRecommender(RecBoleConfig(**{"model": "GRU4Rec", **TINY, **settings}))
    model.fit(split.train, toys.context(folder, split.valid, reporter=reporter))
    return model


def test_one_training_seen_from_outside(tmp_path: Path) -> None:
    """Every prefix is a sample, the loss is cross-entropy, `max_samples` bounds the epochs, the best one is recorded,
    the network has its size, and this process stays as it was."""
    events = Hearing()
    settings = {"learning_rate": 0.01, "embedding_size": 8, "epochs": 50, "patience": 50}
    model = fitted(tmp_path, reporter=events, **settings, max_samples=3 * SAMPLES + 7)
    batches = math.ceil(SAMPLES / TINY["train_batch_size"])
    assert events.totals == [None, 3 * batches]  # RecBole's start, then the training
    assert events.steps == 3 * batches
    assert [event["epoch"] for event in events.events] == [1, 2, 3]
    losses, scores = ([event[name] for event in events.events] for name in ("loss", "valid"))
    assert losses[0] == pytest.approx(math.log(24 + 1), abs=0.15)  # the catalogue and the padding item
    assert losses[2] < losses[1] < losses[0]
    best = 3 - scores[::-1].index(max(scores))  # RecBole: of equal epochs the last is best
    assert model.record() == {"recbole": "1.2.1", "epochs": 3, "best_epoch": best, "best_valid": max(scores)}
    items, wide = 24 + 1, 16
    assert model.size().parameters == items * 8 + 3 * wide * (8 + wide) + (wide * 8 + 8)
    assert model.size().trainable_parameters == model.size().parameters
    assert not any(hasattr(np, name) for name in ("float_", "complex_", "unicode_"))
    assert not any(name.partition(".")[0] == "recbole" for name in sys.modules)


@pytest.mark.nightly
def test_patience_stops_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    split = toys.split()
    value = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    scored: list[Predictions] = []

    def score(predictions: Predictions) -> dict[str, float]:
        scored.append(predictions)
        return {"ndcg@10": next(value)}

    model = RecBoleRecommender(RecBoleConfig(model="GRU4Rec", **{**SMALL, "patience": 2}))
    context = RunContext(1, tmp_path, validation=Validation(split.valid.requests, score))
    model.fit(split.train, context)
    assert model.record() == {"recbole": "1.2.1", "epochs": 5, "best_epoch": 2, "best_valid": 0.3}
    repeated = model.recommend(split.valid.requests, 20, context)
    np.testing.assert_array_equal(repeated.items, scored[1].items)
    assert (repeated.items != scored[-1].items).any()


@pytest.mark.nightly
def test_without_validation_the_last_epoch_counts(tmp_path: Path) -> None:
    split = toys.split()
    model = RecBoleRecommender(RecBoleConfig(model="GRU4Rec", **TINY))
    model.fit(split.train, toys.context(tmp_path))
    assert model.record() == {"recbole": "1.2.1", "epochs": 2, "best_epoch": 2, "best_valid": None}
    assert (model.recommend(split.test.requests, 5, toys.context(tmp_path)).lengths == 5).all()


@pytest.mark.usefixtures("forked_session")
def test_the_worker_never_sees_an_answer(tmp_path: Path) -> None:
    """Each user's validation and test item is one that no other row has: a file that names one has leaked it."""
    users, plain = 30, 24
    rows = [np.append((7 * u + np.arange(5)) % plain, [plain + 2 * u, plain + 2 * u + 1]) for u in range(users)]
    split = toys.split(toys.dataset(rows, plain + 2 * users, None))
    canaries = set(range(plain, plain + 2 * users))
    wide, inner = 16, 32
    model = RecBoleRecommender(RecBoleConfig(model="SASRec", **{**TINY, "inner_size": inner}))
    observed: set[str] = set()

    def score(predictions: Predictions) -> dict[str, float]:
        assert model._session is not None
        for path in (path for path in model._session.folder.rglob("*") if path.is_file()):
            name = path.name
            if path.suffix == ".npz" and name != "valid-lists.npz":  # the lists are what the worker says itself
                arrays = read_arrays(path)
                assert not canaries & set(arrays["values"].tolist()), name
                assert int(arrays["offsets"][-1]) <= 5 * users
            elif path.suffix == ".inter":
                rows = path.read_text().splitlines()[1:]
                assert len(rows) == 5 * users and not canaries & {int(row.split("\t")[1]) for row in rows}
            observed.add(name)
        return {"ndcg@10": 0.5}

    model.fit(split.train, RunContext(1, tmp_path, validation=Validation(split.valid.requests, score)))
    assert {"training.npz", "valid-requests.npz", "valid-lists.npz", "harness.inter", "harness.item"} <= observed
    block = 4 * (wide * wide + wide) + (wide * inner + inner) + (inner * wide + wide) + 4 * wide
    assert model.size().parameters == (split.train.n_items + 1 + 20) * wide + 2 * wide + block


@pytest.mark.nightly
def test_a_worker_that_dies_in_recbole_gives_one_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"ended with code 1 during 'open'.*nonsense") as caught:
        fitted(tmp_path, model="SASRec", inner_size=16, extra={"hidden_act": "nonsense"})
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recbole.py").write_text("import no_such_package")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match="RecBole needs the package no_such_package, which is not installed"):
        Session().request("open")


@pytest.mark.nightly
def test_a_package_that_recbole_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install --no-deps recbole`, which brings ml-100k alone."""
    (tmp_path / "texttable.py").write_text("raise ModuleNotFoundError(\"No module named 'texttable'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match="RecBole needs the package texttable, which is not installed"):
        fitted(tmp_path / "run", model="SASRec", inner_size=16)


def test_a_killed_worker_gives_one_error() -> None:
    session = Session()
    os.kill(session._process.pid, signal.SIGKILL)
    with pytest.raises(HarnessError, match="RecBole's process ended with code -9 during 'open'"):
        session.request("open")
    assert not session.folder.exists()


@pytest.mark.usefixtures("forked_session")
def test_a_worker_killed_while_it_waits_for_a_score_gives_one_error(tmp_path: Path) -> None:
    split = toys.split()
    model = RecBoleRecommender(RecBoleConfig(model="GRU4Rec", **TINY))

    def score(_: Predictions) -> dict[str, float]:
        assert model._session is not None
        os.kill(model._session._process.pid, signal.SIGKILL)
        return {"ndcg@10": 0.5}

    with pytest.raises(HarnessError, match=r"ended with code -\d+ during 'fit'"):  # a fork's code is not known
        model.fit(split.train, RunContext(1, tmp_path, validation=Validation(split.valid.requests, score)))


@pytest.mark.nightly
def test_an_interruption_leaves_no_worker_and_a_clean_checkpoint(tmp_path: Path) -> None:
    split = toys.split()
    model = RecBoleRecommender(RecBoleConfig(model="GRU4Rec", **SMALL))
    pids, folders, stored = [], [], made(tmp_path / "kept")

    def score(_: Predictions) -> dict[str, float]:
        assert model._session is not None
        pids.append(model._session._process.pid)
        folders.append(model._session.folder)
        if len(pids) == 2:
            raise KeyboardInterrupt
        return {"ndcg@10": 0.5}

    context = RunContext(1, tmp_path, checkpoint=stored, validation=Validation(split.valid.requests, score))
    with pytest.raises(KeyboardInterrupt):
        model.fit(split.train, context)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert not folders[0].exists()
    assert [path.name for path in (stored / "recbole").iterdir()] == ["training.safetensors"]


def test_a_worker_ends_with_the_process_that_started_it() -> None:
    code = "import os; from baselines.library import Session; s = Session(); print(s._process.pid, s.folder); "
    parent = [sys.executable, "-c", code + "import sys; sys.stdout.flush(); os.kill(os.getpid(), 9)"]
    worker, folder = subprocess.run(parent, stdout=subprocess.PIPE, text=True).stdout.split()

    def over() -> bool:
        try:
            return psutil.Process(int(worker)).status() == psutil.STATUS_ZOMBIE  # whether anybody reaps it or not
        except psutil.NoSuchProcess:
            return True

    wait_for(over, "the end of the worker")
    assert not Path(folder).exists(), "its folder stayed"


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean SASRec"):
        RecBoleConfig(model="SASRek")
    for wrong in ({"heads": 2}, {"model": "SASRec", "heads": 3}, {"model": "SASRec", "dropout": None}):
        with pytest.raises(ValidationError):
            RecBoleConfig(**{"model": "GRU4Rec", **wrong})
    with pytest.raises(ValidationError, match="eval_args cannot be set in extra"):
        RecBoleConfig(extra={"eval_args": {}})


@pytest.mark.usefixtures("forked_session")
def test_an_unknown_recbole_setting_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown RecBole setting 'layer_norm_epps'.*layer_norm_eps"):
        fitted(tmp_path, model="SASRec", inner_size=16, extra={"layer_norm_epps": 1e-6})


@pytest.mark.usefixtures("forked_session")
def test_weights_of_another_catalogue_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recbole.json").write_text(json.dumps({"model": "GRU4Rec", "n_items": 30}))
    model = RecBoleRecommender(RecBoleConfig(model="GRU4Rec", **TINY))
    with pytest.raises(InputError, match="holds GRU4Rec over 30 items; give one of GRU4Rec over 24"):
        model.load(tmp_path, toys.split().train, toys.context(tmp_path))


@pytest.mark.parametrize("name", sorted(RECBOLE_MODELS))
def test_each_profile_fits_each_model(name: str) -> None:
    for settings in RecBoleConfig.profiles.values():
        config = RecBoleConfig(**{"model": name, **settings})
        assert config.settings(20)["MAX_ITEM_LIST_LENGTH"] == 20 + (name == "BERT4Rec")  # whose mask takes a place


def test_best_agrees_with_a_stable_sort() -> None:
    torch = pytest.importorskip("torch")
    from baselines.worker import best

    random = np.random.default_rng(1)
    for spread in (3, 50, 10**6):  # many ties, some, hardly any
        scores = random.integers(0, spread, (40, 33)).astype(np.float32)
        for k in (1, 20, 33, 99):
            items, values = best(torch.from_numpy(scores), k)
            expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            np.testing.assert_array_equal(items, expected)
            np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


def test_closing_twice_does_no_harm() -> None:
    session = Session()
    session.close()
    session.close()
    assert not session.folder.exists()
