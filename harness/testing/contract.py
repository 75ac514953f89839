"""The contract suite: the test class of each recommender inherits it and sets the model.

    class TestMine(RecommenderContract):
        model_class = Mine
        settings = {"layers": 1}

Checks: fit, refit, equal lists for equal seeds, cold items and one-item histories, full lists without duplicates, save
and load, a configuration that survives JSON, a minimum quality on a planted pattern and, if `resumable`, equal lists
after an interruption.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from harness.core import timer
from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.errors import InputError, InvalidPredictions
from harness.evaluation.metrics import compute_metrics
from harness.protocol.context import SilentReporter
from harness.protocol.predictions import Predictions
from harness.protocol.recommender import Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import Split
from harness.testing import toys

Fitted = tuple[Recommender[Any], Split, Path]  # model, its data, the folder of its context
Refitted = tuple[Recommender[Any], Predictions]


class InterruptingReporter(SilentReporter):
    """Counts events; at event number `at` it raises what Ctrl-C raises."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.events = at, 0

    def event(self, **fields: Any) -> None:
        self.events += 1
        if self.events == self.at:
            raise KeyboardInterrupt


class RecommenderContract:
    """Inherit, set `model_class`, and override what differs."""

    model_class: ClassVar[type[Recommender[Any]]]
    settings: ClassVar[dict[str, Any]] = {}
    brief: ClassVar[dict[str, Any]] = {}  # changes of settings for a short training, where quality does not matter
    short: ClassVar[dict[str, Any]] = {}  # the same for the fits that are only compared: a second one, a resumed one
    k: ClassVar[int] = 10
    pattern_floor: ClassVar[float] = 0.5  # test ndcg@10 on the planted cycle
    resumable: ClassVar[bool] = False
    interrupt_at: ClassVar[int] = 2  # the event at which the resume test presses Ctrl-C
    keep_seconds: ClassVar[float] = 0.05  # seconds between two checkpoints in the resume test
    events_of_fit: ClassVar[int] = 0  # set by `compared`: events of an undisturbed fit

    def make(self) -> Recommender[Any]:
        return self.model_class(self.model_class.config_class(**self.settings))

    def make_with(self, changes: dict[str, Any]) -> Recommender[Any]:
        """As `make`, with the changes of `brief` or `short`, section by section."""
        if not changes:
            return self.make()
        settings = {**self.settings}
        for name, value in changes.items():
            settings[name] = {**settings.get(name, {}), **value} if isinstance(value, dict) else value
        return self.model_class(self.model_class.config_class(**settings))

    def toy(self) -> Dataset:
        """The planted pattern; override it where a model needs another size."""
        return toys.cycle()

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
        """One fitted model for the tests that only ask it."""
        return cls()._fitted_once(tmp_path_factory.mktemp("fitted"), {})

    @pytest.fixture(scope="class")
    @classmethod
    def compared(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
        """One fitted model for the tests that fit it again: `fitted`, or with `short` one of its own."""
        if not cls.short:
            return request.getfixturevalue("fitted")
        return cls()._fitted_once(tmp_path_factory.mktemp("compared"), cls.short)

    @pytest.fixture(scope="class")
    @classmethod
    def refitted(cls, tmp_path_factory: pytest.TempPathFactory) -> Refitted:
        """A model fitted twice, interrupted the first time if that is possible, and lists of a model fitted on data
        with an item that is never trained, for histories with that item."""
        folder, test = tmp_path_factory.mktemp("refitted"), cls()
        cold, model = toys.split(toys.cold()), test.make_with(cls.brief)
        assert cold.train.counts()[24] == 0
        model.fit(cold.train, toys.context(folder / "cold", cold.valid))
        histories = Requests("test", np.arange(2), RaggedArray.of([[24], [1, 2, 24]]))
        predictions = test.lists(model, histories, folder)
        split, model = toys.split(test.toy()), test.make_with(cls.short)
        with suppress(KeyboardInterrupt):
            reporter = InterruptingReporter(cls.interrupt_at)
            model.fit(cold.train, toys.context(folder / "first", cold.valid, reporter=reporter))
        model.fit(split.train, toys.context(folder, split.valid))
        return model, predictions

    def _fitted_once(self, folder: Path, changes: dict[str, Any]) -> Fitted:
        reporter, model = InterruptingReporter(), self.make_with(changes)
        _, split = self.fit(folder, model=model, checkpoint=made(folder / "checkpoint"), reporter=reporter)
        if changes == self.short:
            type(self).events_of_fit = reporter.events
        return model, split, folder

    def fit(
        self, folder: Path, seed: int = 1, model: Recommender[Any] | None = None, **options: Any
    ) -> tuple[Recommender[Any], Split]:
        split, model = toys.split(self.toy()), model or self.make()
        model.fit(split.train, toys.context(folder, split.valid, seed=seed, **options))
        return model, split

    def lists(self, model: Recommender[Any], requests: Requests, folder: Path) -> Predictions:
        return model.recommend(requests, self.k, toys.context(folder))

    def test_lists_are_full_and_distinct(self, fitted: Fitted) -> None:
        model, split, folder = fitted
        for k in (1, self.k):
            predictions = model.recommend(split.test.requests, k, toys.context(folder))
            assert predictions.problems(split.test.requests.cases, split.train.n_items) == []
            assert predictions.items.shape[1] == k
            assert (predictions.lengths == k).all()

    def test_learns_the_planted_pattern(self, fitted: Fitted) -> None:
        model, split, folder = fitted
        scores = compute_metrics(self.lists(model, split.test.requests, folder), split.test.targets)
        assert scores["ndcg@10"] >= self.pattern_floor

    def test_order_and_batch_of_users_do_not_matter(self, fitted: Fitted) -> None:
        model, split, folder = fitted
        requests = split.test.requests
        current_predictions = self.lists(model, requests, folder)
        rows = np.random.default_rng(3).permutation(len(requests))[:7]
        predictions = self.lists(model, requests.take(rows), folder)
        assert sorted(predictions.cases.tolist()) == sorted(requests.cases[rows].tolist())
        index_of = {int(user): row for row, user in enumerate(current_predictions.cases)}
        for user, items in zip(predictions.cases, predictions.items, strict=True):
            assert items.tolist() == current_predictions.items[index_of[int(user)]].tolist()

    def test_several_cases_of_one_user(self, fitted: Fitted) -> None:
        model, split, folder = fitted
        histories = split.test.requests.histories.take(np.arange(3))
        requests = Requests("test", np.zeros(3, np.int64), histories, np.array([70, 2, 5]))
        predictions = self.lists(model, requests, folder)
        assert sorted(predictions.cases.tolist()) == [2, 5, 70] and (predictions.lengths == self.k).all()

    def test_one_item_and_unlearned_histories(self, fitted: Fitted) -> None:
        model, split, folder = fitted
        histories = RaggedArray.of([[0], [split.train.n_items - 1], [3, 3, 3], list(range(6))])
        predictions = self.lists(model, Requests("test", np.arange(4), histories), folder)
        assert (predictions.lengths == self.k).all()

    def test_training_parts_of_one_item_each(self, tmp_path: Path) -> None:
        """Nothing follows anything: that is wrong input, unless the model has no need of it."""
        split, model = toys.split(toys.cycle(length=3)), self.make()
        try:
            model.fit(split.train, toys.context(tmp_path, split.valid))
        except InputError as error:
            assert "no training sequence has two items" in str(error)
        else:
            predictions = self.lists(model, split.test.requests, tmp_path)
            assert predictions.problems(split.test.requests.cases, split.train.n_items) == []

    def test_an_item_that_was_never_trained(self, refitted: Refitted) -> None:
        assert (refitted[1].lengths == self.k).all()

    def test_users_without_a_training_part(self, tmp_path: Path) -> None:
        """Under global time some users come after the cut: no training uses them, and they are ranked all the same."""
        split, model = toys.split(self.toy()), self.make_with(self.brief)
        cold = np.arange(split.train.n_users) % 3 == 0
        mask = np.where(cold, 0, split.train.sequences.lengths)
        train = replace(split.train, sequences=split.train.sequences.first(mask))
        model.fit(train, toys.context(tmp_path, split.valid))
        predictions = self.lists(model, split.test.requests.take(np.flatnonzero(cold)), tmp_path)
        assert (predictions.lengths == self.k).all()

    def test_save_and_load(self, fitted: Fitted, tmp_path: Path) -> None:
        model, split, folder = fitted
        model.save(tmp_path / "saved")
        kinds = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
        assert kinds and kinds <= {".json", ".safetensors"}
        recommender = self.make()
        recommender.load(tmp_path / "saved", split.train, toys.context(tmp_path))
        same(self.lists(model, split.test.requests, folder), self.lists(recommender, split.test.requests, tmp_path))

    def test_a_refit_with_an_equal_seed_gives_equal_lists(
        self, compared: Fitted, refitted: Refitted, tmp_path: Path
    ) -> None:
        """Nothing of the first fit is left, and two fits with one seed agree."""
        model, split, folder = compared
        same(self.lists(model, split.test.requests, folder), self.lists(refitted[0], split.test.requests, tmp_path))

    def test_asking_before_fitting_is_a_fault(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidPredictions):
            self.lists(self.make(), toys.split(self.toy()).test.requests, tmp_path)

    def test_configuration_survives_json_and_refuses_unknown_keys(self) -> None:
        config = self.make().config
        assert type(config).model_validate(json.loads(config.model_dump_json())) == config
        with pytest.raises(ValidationError):
            type(config).model_validate({**config.model_dump(), "no_such_setting": 1})
        with pytest.raises(ValidationError):
            config.no_such_setting = 1

    def test_size_and_record_are_json(self, fitted: Fitted) -> None:
        model, _, _ = fitted
        assert model.size().parameters >= model.size().trainable_parameters >= 0
        json.dumps(model.record(), allow_nan=False)

    def test_an_interrupted_fit_resumes_to_the_same_lists(
        self, compared: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not self.resumable:
            pytest.skip("this model keeps no checkpoint: it starts anew")
        monkeypatch.setattr(timer, "KEEP_SECONDS", self.keep_seconds)
        model, split, folder = compared
        path = made(tmp_path / "kept")
        with pytest.raises(KeyboardInterrupt):
            reporter = InterruptingReporter(self.interrupt_at)
            self.fit(tmp_path / "cut", model=self.make_with(self.short), checkpoint=path, reporter=reporter)
        resumed = InterruptingReporter()
        recommender, _ = self.fit(tmp_path / "cut", model=self.make_with(self.short), checkpoint=path, reporter=resumed)
        assert resumed.events < self.events_of_fit, "it started anew"
        same(self.lists(model, split.test.requests, folder), self.lists(recommender, split.test.requests, tmp_path))


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def same(one: Predictions, other: Predictions) -> None:
    """Equal users, items and scores."""
    np.testing.assert_array_equal(one.cases, other.cases)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
